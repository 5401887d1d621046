"""``pointsman reports`` and ``pointsman webhooks``: list what could not be processed, and process it again."""

from __future__ import annotations

import click

from pointsman.cli.common import ListGroup, json_option, parse_id, print_rows, with_database
from pointsman.config.settings import Settings
from pointsman.operations import reprocess as operations
from pointsman.storage.db import Database


@click.group("reports", cls=ListGroup)
def reports() -> None:
    """List parked reports, or process them again: accepted and stored, but not understood."""


@reports.command("list")
@json_option
@with_database
async def list_reports(_: Settings, database: Database, *, as_json: bool) -> None:
    """List parked reports, oldest first."""
    print_rows(
        await operations.parked_reports(database),
        {
            "id": lambda report: report.id,
            "received at": lambda report: report.received_at,
            "source": lambda report: report.source,
            "bytes": lambda report: report.bytes,
            "error": lambda report: report.error,
        },
        as_json=as_json,
        empty="no report is parked",
    )


@reports.command("reprocess")
@click.argument("report")
@with_database
async def reprocess_reports(settings: Settings, database: Database, report: str) -> None:
    """Process the parked REPORT again, or `all` of them."""
    report_id = None if report == "all" else parse_id(report, "report")
    for line in await operations.reprocess_reports(settings, database, report_id):
        click.echo(line)


@click.group("webhooks", cls=ListGroup)
def webhooks() -> None:
    """List parked webhooks, or process them again: verified and stored, but not readable by their plugin."""


@webhooks.command("list")
@json_option
@with_database
async def list_webhooks(_: Settings, database: Database, *, as_json: bool) -> None:
    """List parked webhooks, oldest first."""
    print_rows(
        await operations.parked_webhooks(database),
        {
            "id": lambda webhook: webhook.id,
            "received at": lambda webhook: webhook.received_at,
            "destination": lambda webhook: webhook.destination,
            "bytes": lambda webhook: webhook.bytes,
            "note": lambda webhook: webhook.note,
        },
        as_json=as_json,
        empty="no webhook is parked",
    )


@webhooks.command("reprocess")
@click.argument("webhook")
@with_database
async def reprocess_webhooks(settings: Settings, database: Database, webhook: str) -> None:
    """Read the parked WEBHOOK again, or `all` of them."""
    webhook_id = None if webhook == "all" else parse_id(webhook, "webhook")
    for line in await operations.reprocess_webhooks(settings, database, webhook_id):
        click.echo(line)
