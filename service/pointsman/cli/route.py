"""``pointsman route``: show where the routes of a file send a request, without a database."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pointsman.cli.common import (
    config_option,
    header_option,
    json_option,
    print_json,
    source_option,
    with_settings,
)
from pointsman.config.settings import Settings
from pointsman.errors import ConfigError


@click.command()
@click.option("--explain", is_flag=True, help="Show the result of every route, not only the conclusion.")
@source_option
@click.option(
    "--file",
    type=click.Path(path_type=Path, allow_dash=True),
    default="-",
    help="The request's body. Default: standard input.",
)
@header_option
@config_option
@json_option
@with_settings
def route(
    settings: Settings,
    *,
    explain: bool,
    source: str | None,
    file: Path,
    headers: tuple[str, ...],
    config: Path | None,
    as_json: bool,
) -> None:
    """Show where the routes of a configuration file send a request.

    Nothing is stored, applied or sent: neither a database nor secrets are needed.
    """
    from pointsman.operations import route_dry_run  # noqa: PLC0415 - other commands start faster without it
    from pointsman.operations.route_file import load_routes  # noqa: PLC0415

    routes = load_routes(settings, config or settings.config)
    for warning in routes.warnings:
        click.echo(f"warning: {warning}", err=True)
    results = route_dry_run.evaluate_request(routes, source, headers, _body(file))
    if as_json:
        print_json(results)
        return
    for line in route_dry_run.lines(results, explain=explain):
        click.echo(line)


def _body(file: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise ConfigError([f"--file {file}: can't be read: {error}"]) from None
