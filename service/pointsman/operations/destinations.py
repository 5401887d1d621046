"""List destinations with their status, and pause or resume them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import msgspec

from pointsman.content.sanitize import one_line
from pointsman.domain.states import BreakerState, DestinationKind
from pointsman.errors import PointsmanError
from pointsman.operations.history.lane_status import backs_off_until, pause_status
from pointsman.operations.outcomes import OUTCOMES, Severity, StatusMessage, failure_outcome
from pointsman.storage import destinations as store
from pointsman.storage.db import Database
from pointsman.storage.destinations import DestinationStatusRow

LASTING_FAILURES = 3
"""After this many consecutive failures a destination needs attention."""


class DestinationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A destination's state, queue and last failure."""

    slug: str
    name: str
    kind: int
    tracker: str
    state: str
    """"ready", "failing", "breaker open", "paused (REASON)" or "retired"."""
    status: StatusMessage
    waiting: int
    parked: int
    failures: int = 0
    """Consecutive failures."""
    failed_at: dt.datetime | None = None
    failure_type: str = ""
    failure_message: str = ""
    failure_status: int | None = None
    failure_excerpt: str = ""
    failure_is_json: bool | None = None
    backs_off_until: dt.datetime | None = None
    polled_to: dt.datetime | None = None
    command: str = ""
    """The command that shows or fixes what is wrong."""

    @property
    def needs_attention(self) -> bool:
        """Return whether an operator should look."""
        return self.status.severity == "bad" or self.parked > 0

    @property
    def failure(self) -> str:
        """Return the last failure in one line; empty if the last attempt succeeded."""
        if self.failed_at is None:
            return ""
        text = one_line(f"{self.failure_type}: {self.failure_message}", 2000)
        status = self.failure_status
        return text if status is None or str(status) in text else f"{text} (status {status})"


async def list_destinations(
    database: Database,
    *,
    problems: Mapping[str, str] | None = None,
    mail_enabled: bool = True,
    now: dt.datetime | None = None,
) -> list[DestinationStatus]:
    """Return all destinations with their status.

    ``problems``: why destinations can't be used as configured, by slug. ``mail_enabled``: a mail server is set.
    """
    rows = await store.list_status(database)
    return [
        destination_status(
            row,
            now or dt.datetime.now(dt.UTC),
            problem=(problems or {}).get(row.slug, ""),
            mail_enabled=mail_enabled,
        )
        for row in rows
    ]


async def set_pause(database: Database, slug: str, *, paused: bool) -> None:
    """Pause or resume deliveries to a destination. Raises PointsmanError if it does not exist."""
    if not await store.set_pause(database, slug, "operator" if paused else None):
        raise PointsmanError(f"there is no destination {slug}: see `pointsman destinations`")
    if not paused:
        await store.retry_now(database, slug)


async def retry(database: Database, slug: str) -> None:
    """End the back-off of a destination and of its lanes. Raises PointsmanError if it does not exist."""
    if not await store.retry_now(database, slug):
        raise PointsmanError(f"there is no destination {slug}: see `pointsman destinations`")


def destination_status(
    row: DestinationStatusRow, now: dt.datetime, *, problem: str = "", mail_enabled: bool = True
) -> DestinationStatus:
    """Return a destination's status. ``problem``: why it can't be used as configured."""
    back_off = backs_off_until(row.breaker, row.open_until, row.blocked_until, now)
    status = _status(row, problem, backing_off=back_off is not None, mail_enabled=mail_enabled)
    failed = row.failed_at is not None
    return DestinationStatus(
        slug=row.slug,
        name=_name(row),
        kind=row.kind,
        tracker=row.tracker,
        state=_state(row),
        status=status,
        waiting=row.waiting_lanes,
        parked=row.parked_lanes,
        failures=row.failures if failed else 0,
        failed_at=row.failed_at,
        failure_type=(row.failure_type or "") if failed else "",
        failure_message=(row.failure_message or "") if failed else "",
        failure_status=row.failure_status if failed else None,
        failure_excerpt=(row.failure_excerpt or "")[:4000] if failed else "",
        failure_is_json=row.failure_is_json if failed else None,
        backs_off_until=back_off,
        polled_to=row.polled_to,
        command=_command(row, status),
    )


def _name(row: DestinationStatusRow) -> str:
    if row.kind == DestinationKind.MAIL:
        return "E-mail to reporters"
    if row.kind == DestinationKind.SOURCE:
        return f"Feedback to the source {row.slug.removeprefix('@source:')}"
    return row.slug


def _state(row: DestinationStatusRow) -> str:
    if row.retired:
        return "retired"
    if row.pause_reason:
        return f"paused ({row.pause_reason})"
    if row.breaker == BreakerState.OPEN:
        return "breaker open"
    return "failing" if row.failed_at is not None else "ready"


def _status(
    row: DestinationStatusRow, problem: str, *, backing_off: bool, mail_enabled: bool
) -> StatusMessage:
    if row.retired or row.pause_reason:
        return pause_status(row.pause_reason, retired=row.retired)
    if row.kind == DestinationKind.MAIL and not mail_enabled:
        severity: Severity = "bad" if row.waiting_lanes else "calm"
        return StatusMessage(
            "off",
            severity,
            "No mail server is configured: set POINTSMAN_SMTP_URL and POINTSMAN_MAIL_FROM. E-mails wait until then.",
        )
    if problem:
        return StatusMessage("unusable", "bad", one_line(problem, 500))
    if row.failed_at is not None:
        status = OUTCOMES[failure_outcome(row.failure_type)].status
        return msgspec.structs.replace(status, severity="bad") if row.failures >= LASTING_FAILURES else status
    if row.parked_lanes:
        return StatusMessage(
            "parked lanes", "bad", "It works, but deliveries of some tickets need an operator."
        )
    if backing_off:
        return StatusMessage(
            "backing off", "wait", "It is not used for a while. Deliveries continue automatically."
        )
    return StatusMessage("working", "good")


def _command(row: DestinationStatusRow, status: StatusMessage) -> str:
    if status.label == "paused":
        return f"pointsman destinations resume {row.slug}"
    if status.label == "parked lanes":
        return f"pointsman deliveries list --destination {row.slug}"
    if status.severity == "bad" and row.kind != DestinationKind.MAIL:
        return f"pointsman doctor {row.slug.removeprefix('@source:')}"
    return ""
