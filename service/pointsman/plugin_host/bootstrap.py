"""Build the vault, the defaults and the configuration reloader from the process settings."""

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
    """Return a vault with the configured keys, or with a key file in the data directory.

    With a database URL but without keys and without a writable data directory, the vault resolves references and
    cannot seal.
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
    """Return settings of trackers that the process environment supplies, by tracker kind."""
    forgejo: dict[str, Any] = {}
    if settings.forgejo_url:
        forgejo["url"] = settings.forgejo_url
    if settings.forgejo_api_token:
        forgejo["token"] = {"env": "FORGEJO_API_TOKEN"}
    return {"forgejo": forgejo}


def build_reloader(settings: Settings, database: Database, registry: Registry) -> ConfigReloader:
    """Return a reloader that has not loaded the configuration yet."""
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
    """Open the current configuration with the installed plugins for a command; close it at the end."""
    reloader = build_reloader(settings, database, Registry.load(allow=settings.plugins))
    try:
        await reloader.refresh()
        yield reloader
    finally:
        await reloader.close()
