"""Plan what a configuration file would change, and apply it."""

from __future__ import annotations

from pathlib import Path

from pointsman.config import diff
from pointsman.config import file as config_file
from pointsman.config.settings import Settings
from pointsman.errors import ConfigError
from pointsman.logs import logger
from pointsman.plugin_host import snapshot
from pointsman.plugin_host.bootstrap import build_vault, environment_defaults
from pointsman.plugin_host.registry import Registry
from pointsman.storage import config as config_rows
from pointsman.storage import destinations
from pointsman.storage.db import Database

log = logger("app")


async def plan_file(database: Database, settings: Settings, registry: Registry, file: Path) -> diff.Plan:
    """Return what applying a file would change. Raises ConfigError."""
    desired = _read_file(settings, registry, file)
    async with database.transaction() as con:
        rows = await config_rows.load(con)
    return diff.plan(desired, rows.sources, rows.destinations, rows.routes)


async def apply_file(database: Database, settings: Settings, registry: Registry, file: Path) -> diff.Plan:
    """Make the configuration equal to a file, in one transaction. Raises ConfigError; then nothing is changed."""
    desired = _read_file(settings, registry, file)
    async with database.transaction() as con:
        await config_rows.lock(con)
        rows = await config_rows.load(con)
        plan = diff.plan(desired, rows.sources, rows.destinations, rows.routes)
        if plan.changes:
            await config_rows.write(
                con,
                sources=plan.sources,
                destinations=plan.destinations,
                routes=plan.routes,
                retired_sources=plan.retired_sources,
                retired_destinations=plan.retired_destinations,
                audit={"file": str(file), "changes": [str(change) for change in plan.changes]},
            )
    for destination in plan.destinations:
        # settings that were changed may be what the failures were about
        await destinations.retry_now(database, destination.slug)
    return plan


async def apply_at_start(settings: Settings, database: Database, registry: Registry, file: Path) -> None:
    """Apply a configuration file before a replica starts, and log what changed. Raises ConfigError."""
    applied = await apply_file(database, settings, registry, file)
    for warning in applied.warnings:
        log.warning("configuration", warning=warning)
    for change in applied.changes:
        log.info("configuration changed", change=str(change))


def _read_file(settings: Settings, registry: Registry, file: Path) -> config_file.DesiredConfig:
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: can't be read: {error}"]) from None
    kinds = snapshot.installed_kinds(registry, environment_defaults(settings))
    return config_file.read(text, file.name, kinds, build_vault(settings))
