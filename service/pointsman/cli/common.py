"""Provide what commands share: settings, the database, error messages, tables and JSON."""

from __future__ import annotations

import asyncio
import functools
import sys
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import click
import msgspec

from pointsman import logs
from pointsman.cli.types import FILE
from pointsman.config import settings as process
from pointsman.config.settings import Settings
from pointsman.errors import PointsmanError
from pointsman.storage.connect import open_database
from pointsman.storage.db import Database

P = ParamSpec("P")
R = TypeVar("R")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
source_option = click.option(
    "--source",
    metavar="SLUG",
    help="The source that the request is for; not needed if only one is configured.",
)
header_option = click.option(
    "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header of the request; repeatable."
)
config_option = click.option(
    "--config",
    type=FILE,
    metavar="FILE",
    help="The configuration file. Default: the value of POINTSMAN_CONFIG.",
)
limit_option = click.option("--limit", default=50, show_default=True, help="Print at most this many.")


class ListGroup(click.Group):
    """A group that runs its ``list`` command unless another command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert ``list`` where the command is missing."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def guarded(function: Callable[P, None]) -> Callable[P, None]:
    """Print errors as messages and exit with their code, never with a traceback."""

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
    """Pass the settings of the environment to a command."""

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
    """Pass the settings and an open database to a command. All but ``migrate`` require the current schema."""

    @functools.wraps(function)
    @guarded
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        settings = process.load()
        logs.configure(settings.log, level="warning")

        async def work() -> None:
            from pointsman.storage import migrate as migrations  # noqa: PLC0415 - keeps other commands fast

            async with open_database(settings) as database:
                if function.__name__ != "migrate":
                    await migrations.require(database)
                await function(settings, database, *args, **kwargs)

        asyncio.run(work())

    return run


def parse_id(text: str, subject: str) -> uuid.UUID:
    """Return the id that a text contains. ``subject`` names what it is the id of, for the error message."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise PointsmanError(f"{text!r} is no {subject}'s id: it looks like 0198f0c2-…") from None


def print_rows(
    rows: Sequence[R], columns: Mapping[str, Callable[[R], object]], *, as_json: bool, empty: str
) -> None:
    """Print rows as a table with these columns, or as JSON with all fields. ``empty``: printed without rows."""
    if as_json:
        print_json(rows)
    elif not rows:
        click.echo(empty)
    else:
        _print_table([[column(row) for column in columns.values()] for row in rows], list(columns))


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _print_table(rows: Sequence[Sequence[object]], head: Sequence[str]) -> None:
    cells = [list(head), *([str(cell) if cell is not None else "-" for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    for line in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
