"""What the process's settings make of the configuration: its vault, its defaults, its reloader."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from pointsman.config import secrets
from pointsman.config.secrets import Vault
from pointsman.config.settings import Settings
from pointsman.errors import ConfigError
from pointsman.plugin_host.egress_policy import EgressPolicy
from pointsman.plugin_host.registry import Registry
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.storage.db import Database


def build_vault(settings: Settings) -> Vault:
    """The vault with our keys; a laptop installation makes its own.

    In a container without keys and without a place to keep one, references work; only sealing asks for a key.
    """
    if settings.secret_keys:
        return Vault(settings.secret_keys)
    try:
        return Vault(secrets.key_file(settings.data_dir))
    except ConfigError:
        if not settings.database_url:
            raise
        return Vault(())


def environment_defaults(settings: Settings) -> Mapping[str, Mapping[str, Any]]:
    """Settings of trackers that the process's environment supplies."""
    forgejo: dict[str, Any] = {}
    if settings.forgejo_url:
        forgejo["url"] = settings.forgejo_url
    if settings.forgejo_api_token:
        forgejo["token"] = {"env": "FORGEJO_API_TOKEN"}
    return {"forgejo": forgejo}


def build_reloader(settings: Settings, database: Database, registry: Registry) -> ConfigReloader:
    """The configuration, not loaded yet."""
    return ConfigReloader(
        database,
        registry,
        build_vault(settings),
        EgressPolicy(settings.outbound_hosts, settings.outbound_networks),
        environment_defaults(settings),
        mails=settings.smtp is not None,
        public_url=settings.public_url,
    )


@contextlib.asynccontextmanager
async def open_reloader(settings: Settings, database: Database) -> AsyncIterator[ConfigReloader]:
    """The configuration in force with the plugins that are installed, for a command; closed at its end."""
    reloader = build_reloader(settings, database, Registry.load(allow=settings.plugins))
    try:
        await reloader.refresh()
        yield reloader
    finally:
        await reloader.close()
