"""``pointsman deliveries`` and ``pointsman replay``: list deliveries and replay those that were given up."""

from __future__ import annotations

import datetime as dt
from typing import Any

import click

from pointsman.cli.common import ListGroup, json_option, limit_option, parse_id, print_rows, with_database
from pointsman.cli.types import DELIVERY_KIND, OUTCOME, Age, Moment
from pointsman.config.settings import Settings
from pointsman.errors import PointsmanError
from pointsman.operations.deliveries import list_deliveries, replay_delivery, replay_matching
from pointsman.storage.db import Database


@click.group("deliveries", cls=ListGroup)
def deliveries() -> None:
    """List deliveries."""


@deliveries.command("list")
@click.option(
    "--state",
    type=click.Choice(["pending", "done", "dead", "parked"]),
    help="List only deliveries in this state.",
)
@click.option("--destination", metavar="SLUG", help="List only deliveries to this destination.")
@click.option("--outcome", type=OUTCOME, help="List only deliveries with this last outcome.")
@click.option("--kind", type=DELIVERY_KIND, help="List only deliveries of this kind.")
@click.option("--ticket", metavar="TICKET", help="List only deliveries of this ticket.")
@click.option("--unknown-outcome", is_flag=True, help="List only deliveries whose outcome is unknown.")
@click.option(
    "--older-than", type=Age(), help="List only deliveries created at least this long ago: 30m, 6h or 2d."
)
@limit_option
@json_option
@with_database
async def list_command(
    _: Settings, database: Database, /, *, ticket: str | None, as_json: bool, **conditions: Any
) -> None:
    """List the deliveries that meet all options, newest first."""
    ticket_id = parse_id(ticket, "ticket") if ticket else None
    print_rows(
        await list_deliveries(database, ticket_id=ticket_id, **conditions),
        {
            "delivery": lambda delivery: delivery.delivery,
            "kind": lambda delivery: delivery.kind,
            "state": lambda delivery: delivery.state,
            "attempts": lambda delivery: delivery.attempts,
            "outcome": lambda delivery: delivery.outcome,
            "destination": lambda delivery: delivery.destination,
            "ticket": lambda delivery: delivery.ticket,
            "problem": lambda delivery: delivery.problem,
        },
        as_json=as_json,
        empty="no deliveries",
    )


@click.command()
@click.argument("delivery", required=False)
@click.option(
    "--assume-not-applied",
    is_flag=True,
    help="Send it without verifying: you checked that the earlier request had no effect.",
)
@click.option(
    "--destination", metavar="SLUG", help="Replay all to this destination; needs --outcome and a time."
)
@click.option("--outcome", type=OUTCOME, help="Replay all that stopped with this outcome.")
@click.option(
    "--since", type=Moment(), help="Replay all that stopped since then: 6h, 2d, or 2026-11-21T10:00 (UTC)."
)
@click.option("--until", type=Moment(), help="Replay all that stopped until then. Default: now.")
@click.option("--dry-run", is_flag=True, help="Count what would be replayed, and change nothing.")
@json_option
@with_database
async def replay(
    _: Settings,
    database: Database,
    /,
    delivery: str | None,
    *,
    assume_not_applied: bool,
    destination: str | None,
    outcome: str | None,
    since: dt.datetime | dt.timedelta | None,
    until: dt.datetime | dt.timedelta | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Replay a dead or parked DELIVERY, or all that --destination, --outcome and a time select.

    DELIVERY is LANE/NUMBER, as `pointsman deliveries` prints it. There is no way to replay everything at once.
    """
    if delivery is not None:
        if dry_run or destination or outcome or since or until:
            raise PointsmanError("name a delivery or filter, not both")
        await replay_delivery(database, delivery, assume_not_applied=assume_not_applied)
        click.echo(f"{delivery} is replayed")
        return
    if assume_not_applied or not destination or not outcome or not (since or until):
        raise PointsmanError(
            "name a delivery as LANE/NUMBER, or give --destination, --outcome and --since or --until together"
            " (--assume-not-applied takes one delivery)"
        )
    counts = await replay_matching(
        database, destination=destination, outcome=outcome, since=since, until=until, dry_run=dry_run
    )
    print_rows(
        counts,
        {
            "outcome": lambda row: row.outcome,
            "kind": lambda row: row.kind,
            "outcome unknown": lambda row: "yes" if row.outcome_unknown else "no",
            "count": lambda row: row.count,
        },
        as_json=as_json,
        empty="no delivery matches",
    )
    if counts and not as_json:
        click.echo("would be replayed" if dry_run else "are replayed")
