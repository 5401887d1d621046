"""``pointsman reroute``: create the issues of tickets that no route took before."""

from __future__ import annotations

import click

from pointsman.cli.common import with_database
from pointsman.config.settings import Settings
from pointsman.operations.reroute import reroute_tickets
from pointsman.storage.db import Database


@click.command()
@click.option("--dry-run", is_flag=True, help="Only list the tickets that a route takes now.")
@with_database
async def reroute(settings: Settings, database: Database, *, dry_run: bool) -> None:
    """Create issues for open tickets that had no route, where one takes them now.

    Use it after a change of the routes. A later report of such a ticket asks the routes by itself.
    """
    count = 0
    async for ticket in reroute_tickets(settings, database, dry_run=dry_run):
        count += 1
        click.echo(f"{ticket.id}  {ticket.source} -> {', '.join(ticket.destinations)}  {ticket.title[:80]}")
    tickets = "1 ticket" if count == 1 else f"{count} tickets"
    click.echo(f"{tickets} would be routed" if dry_run else f"{tickets} routed")
