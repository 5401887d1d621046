"""``pointsman plugin``: commands for authors of plugins."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from pointsman.cli.scaffold import package
from pointsman.errors import PointsmanError


@click.group()
def plugin() -> None:
    """Create a plugin."""


@plugin.command()
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder to write to. Default: pointsman-NAME.",
)
@click.option(
    "--source",
    is_flag=True,
    help="Create a source plugin, which receives reports, instead of a tracker plugin.",
)
def new(name: str, folder: Path | None, *, source: bool) -> None:
    """Create a working tracker plugin: the package pointsman-NAME, to be adapted step by step.

    It uses a small tracker that its tests start; comments marked REPLACE say what to adapt.
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
    location = shlex.quote(f"./{target}" if not target.is_absolute() else str(target))
    click.echo("\nTry it, then adapt what its comments name:\n")
    click.echo(f"  python -m pip install --editable {location} pytest")
    click.echo("  pointsman plugins")
    click.echo(f"  cd {location} && python -m pytest")
