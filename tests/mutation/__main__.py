"""``make mutants``: break the queue's statements and three modules on purpose, and see that it is noticed."""

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
from simulation.environment import on_ground

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
    """A Postgres for as long as this takes."""
    if given := os.environ.get("POINTSMAN_TEST_DATABASE_URL"):
        yield given
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
    own = f"{head.rpartition('/')[0]}/{name}{'?' + query if query else ''}"
    async with Database.open(own, size=2) as database:
        await migrate.migrate(database)
    return name


def of_statements() -> list[str]:
    """Statement mutants that nobody noticed and that no reason allows."""
    survivors: list[str] = []
    count = 0
    with server() as dsn, on_ground(dsn, asyncio.run(_template(dsn))) as ground:
        for mutant in statements.mutants():
            count += 1
            began = time.monotonic()
            by = "the model" if statements.noticed_by_model(ground, mutant, EXAMPLES) else ""
            why = statements.REDUNDANT.get((mutant.name, mutant.what))
            if not by and why is None and statements.noticed_by_tests(mutant, dsn):
                by = "the tests"
            said = f"noticed by {by}" if by else f"redundant: {why}" if why else "SURVIVED"
            print(f"{mutant}: {said} ({time.monotonic() - began:.1f} s)", flush=True)
            if said == "SURVIVED":
                survivors.append(str(mutant))
    print(f"statements: {count} mutants, {len(survivors)} survived")
    return survivors


def main() -> None:
    """All of them; ``--python`` or ``--statements`` for one kind."""
    logs.configure("json", level="critical")
    wrong = False
    if "--statements" not in sys.argv:
        # in a process that has imported nothing of what is changed
        wrong |= subprocess.run([sys.executable, "-m", "mutation.python"], check=False).returncode != 0
    if "--python" not in sys.argv:
        wrong |= bool(of_statements())
    sys.exit(wrong)


main()
