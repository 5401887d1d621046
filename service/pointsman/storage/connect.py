"""Connect to the database that the settings name, or to the embedded one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from pointsman.config.settings import Settings
from pointsman.errors import DatabaseError
from pointsman.logs import logger
from pointsman.storage import migrate
from pointsman.storage.db import Database
from pointsman.storage.embedded import supervisor

log = logger("database")

POOL_SIZE = 10


@contextlib.asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the database of the settings, or start or join the embedded one."""
    if settings.database_url:
        async with open_pool(settings) as database:
            yield database
        return
    async with supervisor.serve(settings.data_dir) as server, Database.open(server.dsn) as database:
        if not server.owned:
            log.info("joined a running embedded Postgres", holder=server.holder)
        yield database


@contextlib.asynccontextmanager
async def serve_database(
    settings: Settings,
) -> AsyncIterator[tuple[Database, supervisor.EmbeddedServer | None]]:
    """Open the database of the settings, or start or join the embedded server and migrate its schema.

    Yields the database, and the embedded server if there is one.
    """
    if settings.database_url:
        async with open_pool(settings) as database:
            yield database, None
        return
    async with supervisor.serve(settings.data_dir) as server, Database.open(server.dsn) as database:
        event = "embedded Postgres runs" if server.owned else "joined a running embedded Postgres"
        log.info(event, version=server.version, data=str(settings.data_dir), holder=server.holder)
        await migrate.migrate(database)
        yield database, server


def open_pool(
    settings: Settings, *, size: int | None = None
) -> contextlib.AbstractAsyncContextManager[Database]:
    """Open connections to the database of the settings, through a pooler or not."""
    return Database.open(
        settings.database_url.reveal(),
        size=size or POOL_SIZE,
        pooled=settings.pooler == "transaction",
        listen_dsn=settings.listen_dsn.reveal(),
    )


async def wait_for_database(settings: Settings, *, timeout_seconds: float = 60.0) -> None:
    """Wait until the configured Postgres answers; pods often start before it does. Raises DatabaseError after a while."""
    if not settings.database_url:
        return
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_seconds
    while True:
        try:
            async with open_pool(settings, size=1):
                return
        except DatabaseError as error:
            if loop.time() > end:
                raise
            log.warning("waiting for the database", error=str(error))
            await asyncio.sleep(1.0)
