"""``make mutants``: break the queue's statements and three modules on purpose; each mutant must fail a test."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from mutation import statements
from pointsman import logs
from pointsman.storage import migrate
from pointsman.storage.db import Database
from simulation.environment import open_environment

EXAMPLES = 40
_SERVER = """
import asyncio, pathlib, sys
from pointsman import logs
from pointsman.storage.embedded import supervisor as embedded
logs.configure("json", level="error")
async def serve():
    async with embedded.serve(pathlib.Path(sys.argv[1])) as server:
        print(server.dsn, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(serve())
"""


@contextmanager
def server() -> Iterator[str]:
    """Start a PostgreSQL server for the time of the context, or use the one of POINTSMAN_TEST_DATABASE_URL."""
    if configured := os.environ.get("POINTSMAN_TEST_DATABASE_URL"):
        yield configured
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, "-c", _SERVER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


async def _template(dsn: str) -> str:
    name = f"template_{uuid.uuid4().hex[:12]}"
    con = await asyncpg.connect(dsn)
    await con.execute(f"create database {name}")
    await con.close()
    head, _, query = dsn.partition("?")
    template_dsn = f"{head.rpartition('/')[0]}/{name}{'?' + query if query else ''}"
    async with Database.open(template_dsn, size=2) as database:
        await migrate.migrate(database)
    return name


def surviving_statements() -> list[str]:
    """Return the statement mutants that no test kills and that are not listed as redundant."""
    survivors: list[str] = []
    count = 0
    with server() as dsn, open_environment(dsn, asyncio.run(_template(dsn))) as environment:
        for mutant in statements.mutants():
            count += 1
            started_at = time.monotonic()
            killer = "the model" if statements.killed_by_model(environment, mutant, EXAMPLES) else ""
            reason = statements.REDUNDANT.get((mutant.name, mutant.removed))
            if not killer and reason is None and statements.killed_by_tests(mutant, dsn):
                killer = "the tests"
            result = f"killed by {killer}" if killer else f"redundant: {reason}" if reason else "SURVIVED"
            print(f"{mutant}: {result} ({time.monotonic() - started_at:.1f} s)", flush=True)
            if result == "SURVIVED":
                survivors.append(str(mutant))
    print(f"statements: {count} mutants, {len(survivors)} survived")
    return survivors


def main() -> None:
    """Run all mutants, or those of one kind with ``--python`` or ``--statements``."""
    logs.configure("json", level="critical")
    failed = False
    if "--statements" not in sys.argv:
        # in a process that has not imported the modules
        failed |= subprocess.run([sys.executable, "-m", "mutation.python"], check=False).returncode != 0
    if "--python" not in sys.argv:
        failed |= bool(surviving_statements())
    sys.exit(failed)


main()
