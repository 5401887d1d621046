"""What commands share: settings, the database, errors as words, tables."""

from __future__ import annotations

import asyncio
import functools
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import click
import msgspec

from pointsman import logs
from pointsman.config import settings as process
from pointsman.config.settings import Settings
from pointsman.errors import PointsmanError
from pointsman.storage.db import Database

P = ParamSpec("P")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
source_option = click.option(
    "--source", metavar="SLUG", help="Which source's request it is; needless if there is one only."
)
header_option = click.option(
    "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header of the request; repeatable."
)
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration file; POINTSMAN_CONFIG unless given.",
)


def guarded(function: Callable[P, None]) -> Callable[P, None]:
    """Errors as words and an exit code, never as a traceback."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except PointsmanError as error:
            problems = getattr(error, "problems", [str(error)])
            for problem in problems:
                click.echo(f"pointsman: {problem}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            sys.exit(130)

    return run


def with_settings(function: Callable[Concatenate[Settings, P], None]) -> Callable[P, None]:
    """Commands that need the settings of the environment alone."""

    @functools.wraps(function)
    @guarded
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        settings = process.load()
        logs.configure(settings.log)
        function(settings, *args, **kwargs)

    return run


def with_database(
    function: Callable[Concatenate[Settings, Database, P], Awaitable[None]],
) -> Callable[P, None]:
    """Commands that look at or change the database and then are done; all but ``migrate`` need its schema."""

    @functools.wraps(function)
    @guarded
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        settings = process.load()
        logs.configure(settings.log, level="warning")

        async def work() -> None:
            from pointsman import app  # noqa: PLC0415 - other commands start faster without it
            from pointsman.storage import migrate as migrations  # noqa: PLC0415

            async with app.open_database(settings) as database:
                if function.__name__ != "migrate":
                    await migrations.require(database)
                await function(settings, database, *args, **kwargs)

        asyncio.run(work())

    return run


def _table(rows: Iterable[Sequence[object]], head: Sequence[str]) -> None:
    lines = [[str(cell) if cell is not None else "-" for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(head), *lines]) for i in range(len(head))]
    for line in [list(head), *lines]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_rows(rows: Sequence[dict[str, Any]], columns: Sequence[str], *, as_json: bool, none: str) -> None:
    """Rows as a table, or as JSON; ``none`` is said if there are none."""
    if as_json:
        click.echo(json.dumps(rows, default=str, indent=2))
    elif not rows:
        click.echo(none)
    else:
        _table(
            [[row[column] for column in columns] for row in rows], [one.replace("_", " ") for one in columns]
        )


def print_json(value: Any) -> None:
    """A value as JSON, for people too."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
