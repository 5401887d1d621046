"""What operators do from the command line: look, check, pause, replay, run again."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Literal

import msgspec

from pointsman.config.settings import Settings
from pointsman.domain.ticket import Kind, Status, TicketKind
from pointsman.errors import PointsmanError
from pointsman.operations import source_health as doctors
from pointsman.plugin_api import Draft, Finding, Marker, Secret
from pointsman.plugin_host.bootstrap import opened_catalog
from pointsman.plugin_host.snapshot import TRACKER, Catalog, LiveDestination, webhook_url
from pointsman.storage import destinations as standing
from pointsman.storage import explain as queue
from pointsman.storage import queue as lanes
from pointsman.storage import replay as again
from pointsman.storage import tickets as store
from pointsman.storage.db import Database, Row
from pointsman.storage.explain import Filter

_DELIVERY_STATES = {0: "pending", 1: "done", 2: "dead", 3: "skipped"}
BREAKER_OPEN = 2
_LINK_STATES = {None: "pending", 1: "active", 2: "orphaned"}


async def doctor(
    settings: Settings,
    database: Database,
    slug: str | None,
    *,
    write_test: bool = False,
    ensure_webhook: bool = False,
) -> list[Finding]:
    """Each destination's and source's own check of itself, and what we know of their calls.

    ``write_test`` makes, comments, finds and closes one issue. ``ensure_webhook`` has the tracker call us. Without them
    nothing changes.
    """
    found: list[Finding] = []
    async with opened_catalog(settings, database) as keeper:
        trackers = [
            one for one in keeper.current.destinations.values() if one.kind == TRACKER and not one.retired
        ]
        chosen = [one for one in trackers if slug in (None, one.slug)]
        asked = doctors.sources(keeper.current, slug)
        if not chosen and not asked:
            which = f"there is no destination or source {slug}" if slug else "there are no destinations"
            raise PointsmanError(f"{which}: see `pointsman destinations`")
        for source in asked:
            found += await doctors.of_source(database, source)
        for one in chosen:
            steps: list[Callable[[], Awaitable[Sequence[Finding]]]] = [partial(_own_check, one)]
            if one.capabilities.webhooks:
                steps.append(partial(_webhook, database, one))
            if ensure_webhook:
                steps.append(partial(_ensure_webhook, settings, one))
            if write_test:
                steps.append(partial(_write_test, keeper.current, one))
            for step in steps:
                try:
                    findings = await step()
                except Exception as error:  # noqa: BLE001 - a stranger's code
                    failure = standing.Failure.of(error)
                    findings = [
                        Finding(level="error", what=str(failure), breaks="deliveries there fail alike")
                    ]
                found += [msgspec.structs.replace(each, what=f"{one.slug}: {each.what}") for each in findings]
    return found


async def _own_check(one: LiveDestination) -> Sequence[Finding]:
    return doctors.strangers(list(await one.need().check()), one.redact)


async def _webhook(database: Database, one: LiveDestination) -> Sequence[Finding]:
    heard = await standing.last_webhook(database, one.id)
    if not one.webhook_secrets:
        return [
            Finding(
                level="warning",
                what="no webhook secret is configured",
                breaks=f"changes there are found by asking, every {one.capabilities.poll_seconds:g} s, not at once",
                mend='set webhook_secrets = [{ env = "..." }] and the same secret at the tracker',
            )
        ]
    if heard is None:
        return [
            Finding(
                level="warning",
                what="its webhook has not spoken yet",
                breaks="changes there may be found late",
                mend="let the tracker send a test, or run `pointsman doctor --ensure-webhook`",
            )
        ]
    return [Finding(level="ok", what=f"its webhook last spoke at {heard:%Y-%m-%d %H:%M:%S} UTC, signed")]


async def _ensure_webhook(settings: Settings, one: LiveDestination) -> Sequence[Finding]:
    if not settings.public_url or not one.webhook_secrets:
        return [
            Finding(
                level="error",
                what="the webhook can't be set up",
                breaks="changes there are found late",
                mend="set POINTSMAN_PUBLIC_URL to an address the tracker can reach, and webhook_secrets",
            )
        ]
    url = webhook_url(settings.public_url, one.tracker_kind, one.slug)
    try:
        return [await one.need().ensure_webhook(url, Secret(one.webhook_secrets[0].decode()))]
    except NotImplementedError:
        mend = f"at the tracker, add a webhook to {url}, as JSON, with the secret of webhook_secrets"
        return [Finding(level="warning", what="this plugin can't set up webhooks", mend=mend)]


async def _write_test(catalog: Catalog, one: LiveDestination) -> Sequence[Finding]:
    tracker = one.need()
    marker = Marker(catalog.marker_text(uuid.uuid4()))
    since = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5)
    draft = Draft(
        title="Pointsman's test, please ignore",
        body="Made by `pointsman doctor --write-test` to see whether issues can be made here. It closes itself.",
        marker=marker,
        facts={
            "ticket": "test",
            "kind": "alert",
            "source": "doctor",
            "title": "Pointsman's test",
            "level": "",
            "environment": "",
            "release": "",
            "url": "",
        },
    )
    issue = await tracker.create_issue(draft)
    found = [Finding(level="ok", what=f"made issue {issue.key} {issue.url}".rstrip())]
    found += [Finding(level="warning", what=note) for note in issue.notes]
    await tracker.add_comment(issue, "A comment of the test.", Marker(catalog.marker_text(uuid.uuid4())))
    found.append(Finding(level="ok", what="commented on it"))
    if tracker.capabilities.find:
        seen = [each.remote_id for each in await tracker.find_issue(marker, since)]
        level: Literal["ok", "warning"] = "ok" if issue.remote_id in seen else "warning"
        what = "found it by its marker" if level == "ok" else "did not find it by its marker (yet)"
        found.append(
            Finding(level=level, what=what, breaks="" if level == "ok" else "doubts take longer to settle")
        )
    await tracker.set_state(issue, "closed", "not_planned" if tracker.capabilities.close_reasons else None)
    found.append(Finding(level="ok", what="closed it"))
    return found


async def set_pause(database: Database, slug: str, *, paused: bool) -> None:
    """Stop or resume a destination."""
    if not await standing.set_pause(database, slug, "operator" if paused else None):
        raise PointsmanError(f"there is no destination {slug}: see `pointsman destinations`")


async def destinations(database: Database) -> list[dict[str, Any]]:
    """How each destination stands, the last failure included until the next success."""
    rows = []
    for row in await standing.standing(database):
        state = (
            "retired" if row["retired"] else f"paused ({row['paused_why']})" if row["paused_why"] else "ready"
        )
        if state == "ready" and (row["failed_at"] is not None or row["breaker"] == BREAKER_OPEN):
            state = "breaker open" if row["breaker"] == BREAKER_OPEN else "failing"
        failure = None
        if row["failed_at"] is not None:
            status = f" [{row['failure_status']}]" if row["failure_status"] else ""
            failure = f"{row['failed_at']:%Y-%m-%d %H:%M:%S} {row['failure_type']}{status}: {row['failure_message']}"
        rows.append(
            {
                "slug": row["slug"],
                "tracker": row["tracker"],
                "state": state,
                "waiting": row["waiting_lanes"],
                "parked": row["parked_lanes"],
                "last_failure": failure,
                "failures": row["failures"],
                "failed_at": row["failed_at"],
                "failure_type": row["failure_type"],
                "failure_message": row["failure_message"],
                "failure_status": row["failure_status"],
                "failure_excerpt": row["failure_excerpt"],
                "failure_is_json": row["failure_is_json"],
                "blocked_until": row["blocked_until"],
                "open_until": row["open_until"],
            }
        )
    return rows


async def tickets(database: Database, limit: int) -> list[dict[str, Any]]:
    """The newest tickets."""
    rows = await store.page(database, limit=limit)
    links = await store.links(database, [row["id"] for row in rows])
    of: dict[uuid.UUID, list[Row]] = {}
    for link in links:
        of.setdefault(link["ticket_id"], []).append(link)
    return [
        {
            "id": row["id"],
            "kind": TicketKind(row["kind"]).name.lower(),
            "status": Status(row["status"]).name.lower(),
            "source": row["source"],
            "seen": row["occurrences"],
            "issues": ", ".join(_issue(one) for one in of.get(row["id"], [])) or None,
            "title": row["title"][:80],
        }
        for row in rows
    ]


async def ticket(database: Database, ticket_id: uuid.UUID) -> dict[str, Any]:
    """One ticket with all that happened: events, and every attempt to deliver them."""
    row = await store.ticket(database, ticket_id)
    if row is None:
        raise PointsmanError(f"there is no ticket {ticket_id}: see `pointsman tickets`")
    timeline = [
        {"at": one["at"], "what": f"{one['kind']}{_detail(json.loads(one['data']))}"}
        for one in await store.events(database, [ticket_id])
    ]
    for one in await lanes.attempts_of(database, ticket_id):
        kind = Kind(one["kind"]).name.lower() if one["kind"] is not None else "delivery"
        why = f" ({one['error']})" if one["error"] else ""
        said = f"{kind} at {one['destination']}: {one['outcome']}{why}"
        timeline.append({"at": one["ended_at"], "what": said})
    return {
        "id": row["id"],
        "kind": TicketKind(row["kind"]).name.lower(),
        "status": Status(row["status"]).name.lower(),
        "close_reason": row["close_reason"],
        "source": row["source"],
        "title": row["title"],
        "issues": [
            {
                "destination": link["destination"],
                "state": _LINK_STATES[link["state"]],
                "key": link["remote_key"],
                "url": link["url"],
                "problem": link["last_error"] or link["parked_why"],
            }
            for link in await store.links(database, [ticket_id])
        ],
        "timeline": sorted(timeline, key=lambda entry: entry["at"]),
    }


def _issue(link: Row) -> str:
    return f"{link['destination']} {link['remote_key'] or '(to come)'}"


def _detail(data: dict[str, Any]) -> str:
    if by := data.get("by") or data.get("destination"):
        reason = f" ({data['reason']})" if data.get("reason") else ""
        return f" by {by}{reason}"
    return ""


async def deliveries(
    database: Database,
    state: str | None = None,
    destination: str | None = None,
    limit: int = 50,
    *,
    ticket_id: uuid.UUID | None = None,
    cls: str | None = None,
    kind: str | None = None,
    in_doubt: bool = False,
    older_than: dt.timedelta | None = None,
) -> list[dict[str, Any]]:
    """Deliveries that fit all that is given, newest first."""
    numbers = {name: number for number, name in _DELIVERY_STATES.items()}
    wanted = Filter(
        state=numbers[state] if state and state != "parked" else None,
        parked=state == "parked",
        destination=destination,
        ticket_id=ticket_id,
        cls=cls,
        kind=Kind[kind.upper()] if kind else None,
        in_doubt=in_doubt,
        older_than=older_than,
    )
    rows = await queue.deliveries_where(database, wanted, limit)
    return [
        {
            "delivery": f"{row['lane_id']}/{row['seq']}",
            "kind": Kind(row["kind"]).name.lower(),
            "state": _DELIVERY_STATES[row["state"]] + (" (in doubt)" if row["in_doubt"] else ""),
            "attempts": row["attempts"],
            "class": row["last_class"],
            "destination": row["destination"],
            "ticket": row["ticket_id"],
            "problem": "; ".join(said for said in (row["parked_why"], row["last_error"]) if said) or None,
            "due_at": row["due_at"],
            "created_at": row["created_at"],
            "done_at": row["done_at"],
        }
        for row in rows
    ]


async def replay(database: Database, lane: int, seq: int, *, not_there: bool = False) -> None:
    """Let a dead or parked delivery run again; ``not_there`` says that what is in doubt did not happen."""
    if not await lanes.replay(database, lane, seq, not_there=not_there):
        raise PointsmanError(
            f"{lane}/{seq} is neither dead nor parked: see `pointsman deliveries --state dead`"
        )


async def replay_stopped(
    database: Database,
    *,
    destination: str,
    cls: str,
    since: again.When,
    until: again.When,
    dry_run: bool,
) -> list[dict[str, Any]]:
    """Let all of a destination run again that stopped in a time for one reason; how many, by kind.

    A time is one, or an age. ``dry_run`` counts and changes nothing.
    """
    wanted = await again.stopped(database, destination, cls, since, until)
    if wanted is None:
        raise PointsmanError(f"there is no destination {destination}: see `pointsman destinations`")
    found = await (again.count if dry_run else again.run)(database, wanted)
    if found and not dry_run:
        detail = {"class": cls, "since": wanted.since, "until": wanted.until, "count": found.total()}
        await again.note(database, destination, detail)
    return [
        {"class": cls, "kind": Kind(kind).name.lower(), "in_doubt": in_doubt, "count": count}
        for (kind, in_doubt), count in sorted(found.items())
    ]
