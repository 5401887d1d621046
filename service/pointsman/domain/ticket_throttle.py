"""Throttling: decide which of a source's new tickets get an issue of their own, and which share a summary ticket.

New tickets are counted per source in windows of one minute. A ticket beyond the limit is *throttled*: it has its own
occurrences, but no issue; the *summary ticket* of the source lists it. The throttle lasts while windows stay over the limit.
A throttled ticket that is reported again afterwards, be it by a repeat of the same report, is *released* and gets an issue of its own.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Sequence

import msgspec

from pointsman.domain.states import DeliveryKind, TicketStatus
from pointsman.domain.ticket import Changes, DeliveryTargets, Event, PlannedDelivery, Ticket

WINDOW = dt.timedelta(minutes=1)
NEW_TICKETS_PER_MINUTE = 500
"""The default limit of a source of alerts.

It is above what one incident opens, such as a rack of 300 hosts with an alert each, and is what GitHub lets one account
write in an hour: more issues in a minute than that are the work of a fingerprint that differs for each report.
"""
THROTTLE_KEY = "throttle"
"""Key of the summary's data in its events, and the coalesce key of its comments."""
SUMMARY_FINGERPRINT_PREFIX = "throttle:"


class RateWindow(msgspec.Struct, frozen=True):
    """The window of a source: its start, the tickets opened in it, and the summary ticket while a throttle lasts."""

    started_at: dt.datetime
    opened: int = 0
    summary_ticket_id: uuid.UUID | None = None

    @property
    def ends_at(self) -> dt.datetime:
        """Return when the next window can start."""
        return self.started_at + WINDOW


class Admission(msgspec.Struct, frozen=True):
    """How many new tickets get an issue, how many are throttled, and how many earlier ones are released."""

    admitted: int
    throttled: int
    released: int


def window_at(window: RateWindow, now: dt.datetime, limit: int) -> RateWindow:
    """Return the window in force.

    The throttle continues if the last window was over the limit and ended less than a window ago.
    """
    if now < window.ends_at:
        return window
    continues = window.opened > limit and now < window.ends_at + WINDOW
    return RateWindow(now, 0, window.summary_ticket_id if continues else None)


def admit_tickets(
    window: RateWindow, limit: int, *, new: int, recurring: int
) -> tuple[RateWindow, Admission]:
    """Admit ``new`` tickets, then ``recurring`` ones without an issue. Only new ones can exceed the limit.

    Return the window after that, and how many are admitted.
    """
    admitted = min(new, max(0, limit - window.opened))
    opened = window.opened + new
    remaining = max(0, limit - opened) if window.summary_ticket_id is None else 0
    released = min(recurring, remaining)
    return (
        msgspec.structs.replace(window, opened=opened + released),
        Admission(admitted, new - admitted, released),
    )


def title(source: str, limit: int) -> str:
    """Return the title of a summary ticket."""
    return f"Too many new problems from {source}: more than {limit} in a minute"


def fingerprint(window: RateWindow) -> str:
    """Return the fingerprint of a window's summary ticket within its source."""
    return f"{SUMMARY_FINGERPRINT_PREFIX}{window.started_at.astimezone(dt.UTC).isoformat()}"


def is_summary(ticket: Ticket) -> bool:
    """Return whether a ticket is a summary ticket."""
    return ticket.fingerprint.startswith(SUMMARY_FINGERPRINT_PREFIX)


def is_summary_event(event_data: str) -> bool:
    """Return whether an event, given as its JSON, belongs to a summary ticket, whose issue lists throttled tickets."""
    return f'"{THROTTLE_KEY}": {{' in event_data or f'"{THROTTLE_KEY}":{{' in event_data


def apply_throttle(
    summary: Ticket,
    wanted: Sequence[int],
    targets: DeliveryTargets,
    unsent: Collection[int],
    changes: Changes,
    *,
    limit: int,
) -> None:
    """Add the events and deliveries of a summary ticket for a batch with throttled tickets.

    ``wanted`` are the destinations of the throttled tickets, ``targets`` those where the summary has or will have an issue.
    ``unsent`` are the targets where an issue or comment about the summary is not sent yet: its text is rendered when it is
    sent and will include this batch.
    """
    data = {THROTTLE_KEY: {"allowed": limit}}
    if summary.next_event == 1:
        changes.events.append(Event(summary.id, 1, "opened", {"action": THROTTLE_KEY, **data}))
        summary.next_event = 2
    elif summary.status is TicketStatus.CLOSED or any(
        destination_id not in unsent for destination_id in targets.trackers
    ):
        _add_comment(summary, data, targets, unsent, changes)
    changes.deliveries += [
        PlannedDelivery(summary.id, destination_id, 1, DeliveryKind.CREATE)
        for destination_id in wanted
        if destination_id not in targets.trackers
    ]


def _add_comment(
    summary: Ticket,
    data: dict[str, dict[str, int]],
    targets: DeliveryTargets,
    unsent: Collection[int],
    changes: Changes,
) -> None:
    number = summary.next_event
    summary.next_event += 1
    if summary.status is TicketStatus.CLOSED:
        summary.status, summary.close_reason = TicketStatus.OPEN, None
        changes.events.append(Event(summary.id, number, "recurred", {"action": THROTTLE_KEY, **data}))
        changes.deliveries += [
            PlannedDelivery(summary.id, destination_id, number, DeliveryKind.REOPEN)
            for destination_id in targets.trackers
        ]
    else:
        changes.events.append(Event(summary.id, number, "throttle_continued", data))
    changes.deliveries += [
        PlannedDelivery(summary.id, destination_id, number, DeliveryKind.COMMENT, THROTTLE_KEY)
        for destination_id in targets.trackers
        if destination_id not in unsent
    ]
