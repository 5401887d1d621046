"""The command line."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

import click
import msgspec
from cryptography.fernet import Fernet

from pointsman import __version__
from pointsman.cli.common import guarded, json_option, print_rows, with_database, with_settings
from pointsman.cli.route import route
from pointsman.cli.scaffold.commands import plugin
from pointsman.cli.template import template
from pointsman.cli.types import Age, Moment
from pointsman.config import settings as process
from pointsman.config.diff import Plan
from pointsman.config.settings import Settings
from pointsman.domain.retry_policy import Class
from pointsman.domain.ticket import Kind
from pointsman.errors import PointsmanError
from pointsman.operations import lookup, queries, reprocess
from pointsman.operations.explain import text as explain_text
from pointsman.plugin_host.registry import Registry
from pointsman.storage.db import Database


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="pointsman")
def main() -> None:
    """Bring error alerts and support tickets onto your issue tracker, once each.

    Settings come from the environment: POINTSMAN_DATABASE_URL (without it an embedded Postgres in
    POINTSMAN_DATA_DIR), POINTSMAN_CONFIG, POINTSMAN_LISTEN and others; see docs/settings.md.
    """


def _show_plan(plan: Plan) -> None:
    for warning in plan.warnings:
        click.echo(f"warning: {warning}", err=True)
    for change in plan.changes:
        click.echo(str(change))


CLASSES = click.Choice([one.value for one in Class])


@main.command()
@with_settings
def serve(settings: Settings) -> None:
    """Run the service until it is told to stop."""
    from pointsman import app  # noqa: PLC0415

    async def work() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await app.serve(settings, stop)

    asyncio.run(work())


@main.command()
@click.option("--once", is_flag=True, help="Leave when every step happened, with exit code 0 only then.")
@click.option("--port", default=8080, show_default=True, help="Where to listen; another one if it is taken.")
@guarded
def demo(*, once: bool, port: int) -> None:
    """Show the whole way on this machine: an alert and a ticket become issues, and come back solved."""
    from pointsman.cli.demo import main as show  # noqa: PLC0415

    sys.exit(asyncio.run(show.main(once=once, port=port)))


@main.command()
@with_database
async def migrate(_: Settings, database: Database) -> None:
    """Bring the database's schema up to date."""
    from pointsman.storage import migrate as migrations  # noqa: PLC0415

    applied = await migrations.migrate(database)
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("the schema is up to date")


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@with_database
async def plan(settings: Settings, database: Database, file: Path) -> None:
    """Show what applying FILE would change."""
    from pointsman import app  # noqa: PLC0415

    found = await app.plan_file(database, settings, Registry.load(allow=settings.plugins), file)
    _show_plan(found)
    click.echo("nothing would change" if not found.changes else f"{len(found.changes)} changes")


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@with_database
async def apply(settings: Settings, database: Database, file: Path) -> None:
    """Make the configuration equal to FILE, in one transaction."""
    from pointsman import app  # noqa: PLC0415

    done = await app.apply_file(database, settings, Registry.load(allow=settings.plugins), file)
    _show_plan(done)
    click.echo("nothing changed" if not done.changes else f"{len(done.changes)} changes applied")


@main.command()
@click.argument("destination", required=False)
@click.option("--write-test", is_flag=True, help="Make, comment, find and close one issue at each.")
@click.option("--ensure-webhook", is_flag=True, help="Have the tracker call us, once, as it should.")
@with_database
async def doctor(
    settings: Settings, database: Database, destination: str | None, *, write_test: bool, ensure_webhook: bool
) -> None:
    """Check every destination and source, or one: credential, rights, project, webhook. Changes nothing by itself."""
    found = await queries.doctor(
        settings, database, destination, write_test=write_test, ensure_webhook=ensure_webhook
    )
    for one in found:
        sign = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}[one.level]
        click.echo(f"{sign}  {one.what}")
        if one.breaks:
            click.echo(f"         breaks: {one.breaks}")
        if one.mend:
            click.echo(f"         mend:   {one.mend}")
    if any(one.level == "error" for one in found):
        sys.exit(1)


@main.command()
@json_option
@guarded
def plugins(*, as_json: bool) -> None:
    """List the plugins that are installed, and those refused with the reason."""
    rows = [
        {
            "name": one.name,
            "origin": f"{one.origin} {one.version}",
            "trackers": ", ".join(one.trackers) or None,
            "sources": ", ".join(one.sources) or None,
            "state": f"REFUSED: {one.refused}" if one.refused else "ready",
        }
        for one in Registry.load(allow=process.load().plugins).standing
    ]
    print_rows(rows, ["name", "origin", "trackers", "sources", "state"], as_json=as_json, none="no plugins")


@main.command()
@click.option("--pause", metavar="SLUG", help="Stop deliveries to a destination; nothing is lost.")
@click.option("--resume", metavar="SLUG", help="Let deliveries go on.")
@json_option
@with_database
async def destinations(
    _: Settings, database: Database, *, pause: str | None, resume: str | None, as_json: bool
) -> None:
    """Show how each destination stands: its queue, its last failure."""
    if pause:
        await queries.set_pause(database, pause, paused=True)
    if resume:
        await queries.set_pause(database, resume, paused=False)
    rows = await queries.destinations(database)
    columns = ["slug", "tracker", "state", "waiting", "parked", "last_failure"]
    print_rows(rows, columns, as_json=as_json, none="no destinations: write some and run `pointsman apply`")


@main.command()
@click.argument("ticket", required=False)
@click.option("--limit", default=20, show_default=True, help="How many at most.")
@json_option
@with_database
async def tickets(_: Settings, database: Database, *, ticket: str | None, limit: int, as_json: bool) -> None:
    """List tickets, or show one TICKET with all that happened to it."""
    if ticket is None:
        rows = await queries.tickets(database, limit)
        columns = ["id", "kind", "status", "source", "seen", "issues", "title"]
        print_rows(rows, columns, as_json=as_json, none="no tickets yet")
        return
    shown = await queries.ticket(database, _uuid(ticket, "ticket"))
    if as_json:
        click.echo(json.dumps(shown, default=str, indent=2))
        return
    click.echo(f"{shown['id']}  {shown['kind']}  {shown['status']}  {shown['title']}")
    for link in shown["issues"]:
        click.echo(
            f"  issue at {link['destination']}: {link['state']} {link['key'] or ''} {link['url'] or ''}".rstrip()
        )
        if link["problem"]:
            click.echo(f"    {link['problem']}")
    if not shown["issues"]:
        click.echo("  no issue: no route takes this ticket to a destination")
    for entry in shown["timeline"]:
        click.echo(f"  {entry['at']:%Y-%m-%d %H:%M:%S}  {entry['what']}")


@main.command()
@click.argument("subject")
@json_option
@with_database
async def explain(_: Settings, database: Database, subject: str, *, as_json: bool) -> None:
    """Say why there is an issue, or none.

    SUBJECT is a ticket's id, a report's id, a delivery (LANE/NUMBER), an issue's key or address, or a fingerprint.
    """
    told = await lookup.why(database, subject)
    said = [json.dumps(msgspec.to_builtins(told), indent=2)] if as_json else explain_text.lines(told)
    for line in said:
        click.echo(line)


@main.command()
@click.option(
    "--state", type=click.Choice(["pending", "done", "dead", "skipped", "parked"]), help="Only these."
)
@click.option("--destination", metavar="SLUG", help="Only to this destination.")
@click.option("--class", "cls", type=CLASSES, help="Only those that last ended so.")
@click.option(
    "--kind", type=click.Choice([one.name.lower() for one in Kind]), help="Only those that do this."
)
@click.option("--ticket", metavar="TICKET", help="Only of this ticket.")
@click.option("--in-doubt", is_flag=True, help="Only those of which the outcome is not known.")
@click.option("--older-than", type=Age(), help="Only those made at least so long ago, such as 30m, 6h or 2d.")
@click.option("--limit", default=50, show_default=True, help="How many at most.")
@json_option
@with_database
async def deliveries(
    _: Settings, database: Database, /, *, ticket: str | None, as_json: bool, **wanted: Any
) -> None:
    """List deliveries, newest first: those that fit all options."""
    ticket_id = _uuid(ticket, "ticket") if ticket else None
    rows = await queries.deliveries(database, ticket_id=ticket_id, **wanted)
    columns = ["delivery", "kind", "state", "attempts", "class", "destination", "ticket", "problem"]
    print_rows(rows, columns, as_json=as_json, none="no deliveries")


@main.command()
@click.argument("delivery", required=False)
@click.option("--not-there", is_flag=True, help="You looked: what is in doubt did not happen, so send it.")
@click.option("--destination", metavar="SLUG", help="All to this destination, with --class and a time.")
@click.option("--class", "cls", type=CLASSES, help="All that stopped for this reason.")
@click.option(
    "--since", type=Moment(), help="All that stopped since then: 6h, 2d, or 2026-11-21T10:00 (UTC)."
)
@click.option("--until", type=Moment(), help="All that stopped until then; until now if left out.")
@click.option("--dry-run", is_flag=True, help="Count what would run, and change nothing.")
@json_option
@with_database
async def replay(
    _: Settings,
    database: Database,
    /,
    delivery: str | None,
    *,
    not_there: bool,
    dry_run: bool,
    as_json: bool,
    **which: Any,
) -> None:
    """Try a dead or parked DELIVERY again (LANE/NUMBER, as `pointsman deliveries` names it), or all of one kind of
    trouble: a destination, a class and a time, never simply all.
    """
    if delivery is None:
        if (
            not_there
            or not which["destination"]
            or not which["cls"]
            or not (which["since"] or which["until"])
        ):
            raise PointsmanError(
                "name a delivery as LANE/NUMBER, or give --destination, --class and --since or --until together"
                " (and not --not-there: that is said of one)"
            )
        rows = await queries.replay_stopped(database, dry_run=dry_run, **which)
        print_rows(rows, ["class", "kind", "in_doubt", "count"], as_json=as_json, none="nothing fits")
        if rows and not as_json:
            click.echo("would run again" if dry_run else "run again")
        return
    if dry_run or any(which.values()):
        raise PointsmanError("name a delivery or filter, not both")
    lane, _slash, seq = delivery.partition("/")
    if not (lane.isdigit() and seq.isdigit()):
        raise PointsmanError(
            f"{delivery!r} names no delivery: write LANE/NUMBER, as `pointsman deliveries` does"
        )
    await queries.replay(database, int(lane), int(seq), not_there=not_there)
    click.echo(f"{delivery} runs again")


@main.command()
@click.option("--rerun", metavar="REPORT", help="Decide again on a parked report, or on `all` of them.")
@json_option
@with_database
async def reports(settings: Settings, database: Database, *, rerun: str | None, as_json: bool) -> None:
    """List parked reports: accepted and kept, but not understood."""
    if rerun:
        wanted = None if rerun == "all" else _uuid(rerun, "report")
        for line in await reprocess.rerun_reports(settings, database, wanted):
            click.echo(line)
        return
    rows = await reprocess.parked_reports(database)
    print_rows(
        rows, ["id", "received", "source", "bytes", "error"], as_json=as_json, none="no report is parked"
    )


@main.command()
@click.option("--rerun", metavar="WEBHOOK", help="Read a parked webhook again, or `all` of them.")
@json_option
@with_database
async def webhooks(settings: Settings, database: Database, *, rerun: str | None, as_json: bool) -> None:
    """List parked webhooks: verified and kept, but their plugin could not read them."""
    if rerun:
        wanted = None if rerun == "all" else _uuid(rerun, "webhook")
        for line in await reprocess.rerun_webhooks(settings, database, wanted):
            click.echo(line)
        return
    columns = ["id", "received", "destination", "bytes", "note"]
    print_rows(
        await reprocess.parked_webhooks(database), columns, as_json=as_json, none="no webhook is parked"
    )


@main.command()
@click.argument("destination", required=False)
@click.option(
    "--dry-run", is_flag=True, help="Show what differs, and change nothing; exit code 1 if anything does."
)
@json_option
@with_database
async def reconcile(
    settings: Settings, database: Database, destination: str | None, *, dry_run: bool, as_json: bool
) -> None:
    """Compare every linked issue with its ticket, at DESTINATION or everywhere; tickets follow their issues."""
    from pointsman.sync import full_reconcile  # noqa: PLC0415

    summary = full_reconcile.Summary()
    found = []
    async for one in full_reconcile.reconcile(
        settings, database, destination, dry_run=dry_run, summary=summary
    ):
        found.append(msgspec.to_builtins(one))
        if not as_json:
            click.echo(str(one))
    if as_json:
        click.echo(json.dumps({"summary": msgspec.to_builtins(summary), "differences": found}, indent=2))
    else:
        click.echo(str(summary))
    if summary.drift or summary.failed:
        sys.exit(1)


@main.command()
@click.option("--hours", type=click.FloatRange(0, 24 * 30, min_open=True), help="Be careful for so long.")
@click.option("--off", is_flag=True, help="Be careful no longer.")
@with_database
async def careful(_: Settings, database: Database, *, hours: float | None, off: bool) -> None:
    """Show or set whether every write looks first, as after a database that may have lost commits."""
    from pointsman.storage import maintenance  # noqa: PLC0415

    if off and hours is not None:
        raise PointsmanError("--hours or --off, not both")
    if off or hours is not None:
        await maintenance.set_careful(database, hours or 0.0)
    until, now = await maintenance.careful(database)
    if until is not None:
        click.echo(f"careful until {until:%Y-%m-%d %H:%M:%S} UTC: every write looks first")
    elif now:
        click.echo("careful: the database is on another timeline than before")
    else:
        click.echo("not careful: only what is in doubt is looked for")


main.add_command(plugin)
main.add_command(route)
main.add_command(template)


@main.command("secret-key")
@guarded
def secret_key() -> None:
    """Make a key for POINTSMAN_SECRET_KEYS."""
    click.echo(Fernet.generate_key().decode())


def _uuid(text: str, what: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise PointsmanError(f"{text!r} is no {what}'s id: it looks like 0198f0c2-…") from None
