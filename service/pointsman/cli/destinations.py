"""``pointsman destinations``: list destinations, pause and resume them."""

from __future__ import annotations

import click

from pointsman.cli.common import ListGroup, json_option, print_json, print_rows, with_database
from pointsman.config.settings import Settings
from pointsman.errors import PointsmanError
from pointsman.operations import destinations as operations
from pointsman.operations.destinations import DestinationStatus
from pointsman.operations.outcomes import format_time
from pointsman.storage.db import Database


@click.group("destinations", cls=ListGroup)
def destinations() -> None:
    """List, show, pause, resume or retry destinations."""


@destinations.command("list")
@json_option
@with_database
async def list_command(_: Settings, database: Database, *, as_json: bool) -> None:
    """List all destinations with their state, queue and last failure."""
    _print(await operations.list_destinations(database), as_json=as_json)


@destinations.command()
@click.argument("slug")
@json_option
@with_database
async def show(_: Settings, database: Database, slug: str, *, as_json: bool) -> None:
    """Show the destination SLUG: its state, its queue, its last failure and what to do."""
    status = await _find(database, slug)
    if as_json:
        print_json(status)
        return
    click.echo(f"{status.slug}  {status.tracker}  {status.state}")
    click.echo(f"  {status.status.label}{': ' if status.status.message else ''}{status.status.message}")
    click.echo(f"  {status.waiting} lanes waiting, {status.parked} parked")
    if status.failed_at is not None:
        click.echo(f"  {status.failures} failures in a row, the last at {format_time(status.failed_at)}")
        click.echo(f"  {status.failure}")
    if status.backs_off_until is not None:
        click.echo(f"  backs off until {format_time(status.backs_off_until)}")
    if status.command:
        click.echo(f"  next: run `{status.command}`")


@destinations.command()
@click.argument("slug")
@json_option
@with_database
async def pause(_: Settings, database: Database, slug: str, *, as_json: bool) -> None:
    """Pause deliveries to the destination SLUG. Nothing is lost; deliveries wait."""
    await operations.set_pause(database, slug, paused=True)
    _print([await _find(database, slug)], as_json=as_json)


@destinations.command()
@click.argument("slug")
@json_option
@with_database
async def resume(_: Settings, database: Database, slug: str, *, as_json: bool) -> None:
    """Resume deliveries to the destination SLUG, and end its back-off."""
    await operations.set_pause(database, slug, paused=False)
    _print([await _find(database, slug)], as_json=as_json)


@destinations.command()
@click.argument("slug")
@json_option
@with_database
async def retry(_: Settings, database: Database, slug: str, *, as_json: bool) -> None:
    """Try the destination SLUG now: end its back-off and that of its lanes."""
    await operations.retry(database, slug)
    _print([await _find(database, slug)], as_json=as_json)


async def _find(database: Database, slug: str) -> DestinationStatus:
    for status in await operations.list_destinations(database):
        if status.slug == slug:
            return status
    raise PointsmanError(f"there is no destination {slug}: see `pointsman destinations`")


def _print(statuses: list[DestinationStatus], *, as_json: bool) -> None:
    print_rows(
        statuses,
        {
            "slug": lambda status: status.slug,
            "tracker": lambda status: status.tracker,
            "state": lambda status: status.state,
            "waiting": lambda status: status.waiting,
            "parked": lambda status: status.parked,
            "backs off until": lambda status: (
                format_time(status.backs_off_until) if status.backs_off_until is not None else None
            ),
            "last failure": _last_failure,
        },
        as_json=as_json,
        empty="no destinations: write some and run `pointsman apply`",
    )


def _last_failure(status: DestinationStatus) -> str | None:
    if status.failed_at is None:
        return None
    http_status = f" [{status.failure_status}]" if status.failure_status else ""
    return f"{format_time(status.failed_at)} {status.failure_type}{http_status}: {status.failure_message}"
