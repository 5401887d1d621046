"""``pointsman tickets`` and ``pointsman explain``: list tickets and show their history."""

from __future__ import annotations

import click

from pointsman.cli.common import (
    ListGroup,
    json_option,
    limit_option,
    parse_id,
    print_json,
    print_rows,
    with_database,
)
from pointsman.config.settings import Settings
from pointsman.errors import PointsmanError
from pointsman.operations import lookup
from pointsman.operations.history import text
from pointsman.operations.tickets import TicketSummary, list_tickets
from pointsman.storage.db import Database


@click.group("tickets", cls=ListGroup)
def tickets() -> None:
    """List tickets, or show one with everything that happened to it."""


@tickets.command("list")
@limit_option
@json_option
@with_database
async def list_command(_: Settings, database: Database, *, limit: int, as_json: bool) -> None:
    """List the newest tickets."""
    print_rows(
        await list_tickets(database, limit=limit),
        {
            "id": lambda ticket: ticket.id,
            "kind": lambda ticket: ticket.kind,
            "status": lambda ticket: ticket.status,
            "source": lambda ticket: ticket.source,
            "seen": lambda ticket: ticket.occurrences,
            "issues": _issues,
            "title": lambda ticket: ticket.title[:80],
        },
        as_json=as_json,
        empty="no tickets yet",
    )


@tickets.command()
@click.argument("ticket")
@json_option
@with_database
async def show(_: Settings, database: Database, ticket: str, *, as_json: bool) -> None:
    """Show TICKET: its issues, and its events, deliveries and attempts in order of time."""
    history = await lookup.ticket_history(database, parse_id(ticket, "ticket"))
    if history is None:
        raise PointsmanError(f"there is no ticket {ticket}: see `pointsman tickets`")
    if as_json:
        print_json(history)
        return
    for line in text.timeline_lines(history):
        click.echo(line)


@click.command()
@click.argument("reference")
@json_option
@with_database
async def explain(_: Settings, database: Database, reference: str, *, as_json: bool) -> None:
    """Explain why there is an issue or none, and what to do.

    REFERENCE is a ticket's id, a report's id, a delivery (LANE/NUMBER), an issue's key or URL, or a fingerprint.
    """
    history = await lookup.explain(database, reference)
    if as_json:
        print_json(history)
        return
    for line in text.explanation_lines(history):
        click.echo(line)


def _issues(ticket: TicketSummary) -> str | None:
    return ", ".join(f"{issue.destination} {issue.key or '(pending)'}" for issue in ticket.issues) or None
