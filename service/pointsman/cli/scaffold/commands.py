"""``pointsman plugin``: commands for those who write plugins."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from pointsman.cli.scaffold import package
from pointsman.errors import PointsmanError


@click.group()
def plugin() -> None:
    """Write a plugin of your own."""


@plugin.command()
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where to write it; pointsman-NAME unless given.",
)
@click.option("--source", is_flag=True, help="A kind of source, where reports come from, and not of tracker.")
def new(name: str, folder: Path | None, *, source: bool) -> None:
    """Write a new tracker plugin: a package pointsman-NAME that works, to be changed step by step.

    It speaks to a small tracker of its own, which its tests start; the comments say what to replace.
    """
    try:
        package.check_name(name, package.installed())
        target = folder or Path(f"pointsman-{name}")
        written = package.write(name, target, source=source)
    except PointsmanError as error:
        click.echo(f"pointsman: {error}", err=True)
        sys.exit(error.exit_code)
    for path in written:
        click.echo(f"wrote {path}")
    place = shlex.quote(f"./{target}" if not target.is_absolute() else str(target))
    click.echo("\nTry it, then replace what its comments name:\n")
    click.echo(f"  python -m pip install --editable {place} pytest")
    click.echo("  pointsman plugins")
    click.echo(f"  cd {place} && python -m pytest")
