"""Define the root of the command line and its single commands."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import click
from cryptography.fernet import Fernet

from pointsman import __version__
from pointsman.cli import parked
from pointsman.cli.common import guarded, json_option, print_json, print_rows, with_database, with_settings
from pointsman.cli.deliveries import deliveries, replay
from pointsman.cli.destinations import destinations
from pointsman.cli.reroute import reroute
from pointsman.cli.route import route
from pointsman.cli.scaffold.commands import plugin
from pointsman.cli.template import template
from pointsman.cli.tickets import explain, tickets
from pointsman.cli.types import FILE
from pointsman.config import settings as process
from pointsman.config.diff import Plan
from pointsman.config.settings import Settings
from pointsman.errors import PointsmanError
from pointsman.operations.apply import apply_file, plan_file
from pointsman.operations.diagnostics import doctor as run_doctor
from pointsman.operations.outcomes import format_time
from pointsman.plugin_host.registry import Registry
from pointsman.storage.db import Database
from pointsman.storage.unrouted import count_unrouted_tickets


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="pointsman")
def main() -> None:
    """Create issues on your tracker from error alerts and support tickets, and keep both in sync.

    Settings come from the environment: POINTSMAN_DATABASE_URL (without it an embedded Postgres in
    POINTSMAN_DATA_DIR), POINTSMAN_CONFIG, POINTSMAN_LISTEN and others; see docs/settings.md.
    """


@main.command()
@with_settings
def serve(settings: Settings) -> None:
    """Run the service until it receives SIGTERM or SIGINT."""
    from pointsman import app  # noqa: PLC0415

    async def work() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await app.serve(settings, stop)

    asyncio.run(work())


@main.command()
@click.option("--once", is_flag=True, help="Exit after the last step; exit code 0 if every step succeeded.")
@click.option(
    "--port", default=8080, show_default=True, help="Listen on this port, or on a free one if it is taken."
)
@guarded
def demo(*, once: bool, port: int) -> None:
    """Demonstrate the service on this machine: an alert and a ticket become issues and are closed again."""
    from pointsman.cli.demo import main as demonstration  # noqa: PLC0415

    sys.exit(asyncio.run(demonstration.main(once=once, port=port)))


@main.command()
@with_database
async def migrate(_: Settings, database: Database) -> None:
    """Migrate the database's schema to this version."""
    from pointsman.storage import migrate as migrations  # noqa: PLC0415

    applied = await migrations.migrate(database)
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("the schema is up to date")


@main.command()
@click.argument("file", type=FILE)
@with_database
async def plan(settings: Settings, database: Database, file: Path) -> None:
    """Show what applying FILE would change."""
    result = await plan_file(database, settings, Registry.load(allow=settings.plugins), file)
    _print_plan(result)
    click.echo(f"{_changes(result)} would be applied" if result.changes else "nothing would change")
    await _print_unrouted(database, result)


@main.command()
@click.argument("file", type=FILE)
@with_database
async def apply(settings: Settings, database: Database, file: Path) -> None:
    """Make the configuration equal to FILE, in one transaction."""
    result = await apply_file(database, settings, Registry.load(allow=settings.plugins), file)
    _print_plan(result)
    click.echo(f"{_changes(result)} applied" if result.changes else "nothing changed")
    await _print_unrouted(database, result)


def _print_plan(plan: Plan) -> None:
    for warning in plan.warnings:
        click.echo(f"warning: {warning}", err=True)
    for change in plan.changes:
        click.echo(str(change))


async def _print_unrouted(database: Database, plan: Plan) -> None:
    """Mention tickets without a route where the routes change."""
    count = await count_unrouted_tickets(database) if plan.routes is not None else 0
    if count:
        click.echo(
            f"{count} open {'ticket has' if count == 1 else 'tickets have'} no route: after an apply,"
            " `pointsman reroute --dry-run` lists those that the routes take"
        )


def _changes(plan: Plan) -> str:
    count = len(plan.changes)
    return f"{count} {'change' if count == 1 else 'changes'}"


@main.command()
@click.argument("slug", required=False)
@click.option(
    "--write-test", is_flag=True, help="Create, comment, find and close one issue at each destination."
)
@click.option("--ensure-webhook", is_flag=True, help="Register or repair our webhook at the tracker.")
@with_database
async def doctor(
    settings: Settings, database: Database, slug: str | None, *, write_test: bool, ensure_webhook: bool
) -> None:
    """Check the destination or source SLUG, or all: credential, permissions, project, webhook.

    Nothing is changed without an option. Exit code 1 if anything is wrong.
    """
    findings = await run_doctor(
        settings, database, slug, write_test=write_test, ensure_webhook=ensure_webhook
    )
    for finding in findings:
        sign = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}[finding.level]
        click.echo(f"{sign}  {finding.message}")
        if finding.impact:
            click.echo(f"         impact: {finding.impact}")
        if finding.remedy:
            click.echo(f"         remedy: {finding.remedy}")
    if any(finding.level == "error" for finding in findings):
        sys.exit(1)


@main.command()
@json_option
@guarded
def plugins(*, as_json: bool) -> None:
    """List the installed plugins, and the refused ones with the reason."""
    print_rows(
        Registry.load(allow=process.load().plugins).statuses,
        {
            "name": lambda plugin: plugin.name,
            "origin": lambda plugin: f"{plugin.origin} {plugin.version}",
            "trackers": lambda plugin: ", ".join(plugin.trackers) or None,
            "sources": lambda plugin: ", ".join(plugin.sources) or None,
            "state": lambda plugin: f"REFUSED: {plugin.refused}" if plugin.refused else "ready",
        },
        as_json=as_json,
        empty="no plugins",
    )


@main.command()
@click.argument("destination", required=False)
@click.option(
    "--dry-run", is_flag=True, help="Show differences and change nothing; exit code 1 if there are any."
)
@json_option
@with_database
async def reconcile(
    settings: Settings, database: Database, destination: str | None, *, dry_run: bool, as_json: bool
) -> None:
    """Compare every linked issue with its ticket, at DESTINATION or everywhere; tickets follow their issues."""
    from pointsman.sync import full_reconcile  # noqa: PLC0415

    summary = full_reconcile.Summary()
    differences = []
    async for difference in full_reconcile.reconcile(
        settings, database, destination, dry_run=dry_run, summary=summary
    ):
        differences.append(difference)
        if not as_json:
            click.echo(str(difference))
    if as_json:
        print_json({"summary": summary, "differences": differences})
    else:
        click.echo(str(summary))
    if summary.drift or summary.failed:
        sys.exit(1)


@main.command("verify-writes")
@click.option(
    "--hours", type=click.FloatRange(0, 24 * 30, min_open=True), help="Verify all writes for this many hours."
)
@click.option("--off", is_flag=True, help="Stop verifying all writes.")
@with_database
async def verify_writes(_: Settings, database: Database, *, hours: float | None, off: bool) -> None:
    """Show or set whether trackers are searched before every write, as after a database lost commits."""
    from pointsman.storage import maintenance  # noqa: PLC0415

    if off and hours is not None:
        raise PointsmanError("--hours or --off, not both")
    if off or hours is not None:
        await maintenance.set_verify_writes(database, hours or 0.0)
    until, active = await maintenance.verify_writes_status(database)
    if until is not None:
        click.echo(f"on until {format_time(until)} UTC: trackers are searched before every write")
    elif active:
        click.echo(
            "on: the database is on another timeline than before, so trackers are searched before every write"
        )
    else:
        click.echo("off: only unknown outcomes are verified")


@main.command("generate-key")
@guarded
def generate_key() -> None:
    """Generate a key for POINTSMAN_SECRET_KEYS."""
    click.echo(Fernet.generate_key().decode())


for command in (
    deliveries,
    destinations,
    explain,
    parked.reports,
    parked.webhooks,
    reroute,
    plugin,
    replay,
    route,
    template,
    tickets,
):
    main.add_command(command)
