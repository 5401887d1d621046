"""``make mutants``: break the queue's statements and three modules on purpose; each mutant must fail a test."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

from database_server import create_template, running_server
from mutation import statements
from pointsman import logs
from simulation.environment import open_environment

EXAMPLES = 80


def surviving_statements() -> list[str]:
    """Return the statement mutants that no test kills and that are not listed as redundant."""
    survivors: list[str] = []
    count = 0
    with running_server() as dsn, open_environment(dsn, asyncio.run(create_template(dsn))) as environment:
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
