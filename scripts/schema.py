# ruff: noqa: INP001 - run by its path
"""Write sql/schema.sql: the schema that all migrations create, as pg_dump prints it. ``python scripts/schema.py``.

Lines that do not describe the schema are left out, so that dumps of different major versions of PostgreSQL are equal.
Partitions are left out too: they follow from their parents, and the daily ones differ from day to day.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from pointsman import logs
from pointsman.storage import migrate
from pointsman.storage.db import Database
from pointsman.storage.embedded import supervisor
from pointsman.storage.embedded.binaries import find_binaries

FILE = Path(__file__).parents[1] / "sql" / "schema.sql"
HEAD = "-- Generated from the migrations by scripts/schema.py; do not edit. Partitions are left out.\n"

_NOISE = re.compile(r"(SET |SELECT pg_catalog\.set_config|\\restrict|\\unrestrict|--|CREATE SCHEMA public)")
_PARTITION = re.compile(r"\b(report|attempt|webhook)_(\d{8}|default)| ATTACH PARTITION ")
_NAMED_NOT_NULL = re.compile(r" CONSTRAINT \w+_not_null(?= NOT NULL)")


def normalize(dump: str) -> str:
    """Return the statements of a dump with a blank line between them."""
    lines = [line.rstrip() for line in dump.splitlines() if not _NOISE.match(line)]
    blocks = [block.strip() for block in re.split(r"\n{2,}", "\n".join(lines))]
    statements = "\n\n".join(block for block in blocks if block and not _PARTITION.search(block))
    return f"{HEAD}\n{_NAMED_NOT_NULL.sub('', statements).replace('public.', '')}\n"


def dump(programs: Path, dsn: str) -> str:
    """Return the output of pg_dump."""
    command = [programs / "pg_dump", "--schema-only", "--no-owner", "--no-privileges", "--dbname", dsn]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - a program of PostgreSQL


async def main() -> None:
    """Create a database, migrate it and write its schema."""
    logs.configure("pretty", level="warning")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        async with supervisor.serve(data) as server, Database.open(server.dsn, size=2) as database:
            await migrate.migrate(database)
            programs = find_binaries(data / "postgres").folder
            FILE.write_text(normalize(await asyncio.to_thread(dump, programs, server.dsn)), "utf-8")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
