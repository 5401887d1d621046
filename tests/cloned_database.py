"""Clones of a template database, one for each test that must commit."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import asyncpg


def with_database(dsn: str, name: str) -> str:
    """Return the DSN of another database on the same server."""
    head, _, query = dsn.partition("?")
    return f"{head.rpartition('/')[0]}/{name}{'?' + query if query else ''}"


async def cloned_database(server_dsn: str, template: str) -> AsyncIterator[str]:
    """Clone a template, yield the DSN of the clone, and drop it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    con = await asyncpg.connect(server_dsn)
    await con.execute(f"create database {name} template {template}")
    yield with_database(server_dsn, name)
    await con.execute(f"drop database {name} with (force)")
    await con.close()
