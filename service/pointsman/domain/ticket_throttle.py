"""Storms: when a source opens more new tickets in a minute than it may, the surplus shares one issue.

A source's allowance is counted in windows of one minute. What is new beyond it is *held*: a ticket like any other, with
its own occurrences, but listed in the storm's own ticket, the *parent*, instead of having an issue. The storm lasts while
windows stay over the allowance. A held problem that is reported again afterwards gets an issue of its own. Pure.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Sequence

import msgspec

from pointsman.domain.ticket import Decided, Event, Kind, Places, Promise, Status, Ticket

WINDOW = dt.timedelta(minutes=1)
NEW_TICKETS_PER_MINUTE = 60
"""The allowance of a source of alerts for which nothing else is configured."""
STORM = "storm"
"""The collapse key of the parent's comments, and the name of a parent's part in its events."""
FINGERPRINT = "storm:"


class Window(msgspec.Struct, frozen=True):
    """A source's minute: when it began, how many tickets were opened in it, and the parent while a storm lasts."""

    began_at: dt.datetime
    opened: int = 0
    parent_id: uuid.UUID | None = None

    @property
    def ends_at(self) -> dt.datetime:
        """When the next window may begin."""
        return self.began_at + WINDOW


class Room(msgspec.Struct, frozen=True):
    """How many of a batch's tickets get issues of their own: of the new ones, and of those held back by a storm that
    is over. ``held`` of the new ones do not.
    """

    own: int
    held: int
    singled_out: int


def window_at(window: Window, now: dt.datetime, allowed: int) -> Window:
    """The window in force. A storm goes on if the last one was over the allowance and ended less than a window ago."""
    if now < window.ends_at:
        return window
    lasts = window.opened > allowed and now < window.ends_at + WINDOW
    return Window(now, 0, window.parent_id if lasts else None)


def admit(window: Window, allowed: int, *, new: int, again: int) -> tuple[Window, Room]:
    """Let tickets in: ``new`` ones, then ``again``, those of an earlier storm. Only new ones make a storm."""
    own = min(new, max(0, allowed - window.opened))
    opened = window.opened + new
    room = max(0, allowed - opened) if window.parent_id is None else 0
    singled_out = min(again, room)
    return (
        msgspec.structs.replace(window, opened=opened + singled_out),
        Room(own, new - own, singled_out),
    )


def title(source: str, allowed: int) -> str:
    """The title of a storm's parent."""
    return f"A storm of new problems from {source}: more than {allowed} in a minute"


def fingerprint(window: Window) -> str:
    """What names a storm within its source."""
    return f"{FINGERPRINT}{window.began_at.astimezone(dt.UTC).isoformat()}"


def is_parent(ticket: Ticket) -> bool:
    """Whether a ticket is a storm's."""
    return ticket.fingerprint.startswith(FINGERPRINT)


def is_storm(event_data: str) -> bool:
    """Whether an event, as its JSON, is a parent's own: then its issue or comment lists what is held."""
    return f'"{STORM}": {{' in event_data or f'"{STORM}":{{' in event_data


def on_surplus(
    parent: Ticket,
    wanted: Sequence[int],
    places: Places,
    waiting: Collection[int],
    decided: Decided,
    *,
    allowed: int,
) -> None:
    """What a batch with held tickets makes of their parent.

    ``wanted``: where the held tickets would have gone. ``places``: where the parent has issues, or will have. ``waiting``: those of
    them where news of the storm waits to be sent; it is written when it is sent and will tell of this batch too.
    """
    data = {STORM: {"allowed": allowed}}
    if parent.next_event == 1:
        decided.events.append(Event(parent.id, 1, "opened", {"action": STORM, **data}))
        parent.next_event = 2
    elif parent.status is Status.CLOSED or any(place not in waiting for place in places.trackers):
        n = parent.next_event
        parent.next_event += 1
        if parent.status is Status.CLOSED:
            parent.status, parent.close_reason = Status.OPEN, None
            decided.events.append(Event(parent.id, n, "recurred", {"action": STORM, **data}))
            decided.promises += [Promise(parent.id, place, n, Kind.REOPEN) for place in places.trackers]
        else:
            decided.events.append(Event(parent.id, n, "grew", data))
        decided.promises += [
            Promise(parent.id, place, n, Kind.COMMENT, STORM)
            for place in places.trackers
            if place not in waiting
        ]
    decided.promises += [
        Promise(parent.id, place, 1, Kind.CREATE) for place in wanted if place not in places.trackers
    ]
