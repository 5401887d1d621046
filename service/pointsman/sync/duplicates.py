"""Issues with the same marker: which of them are ours and there, and which one is kept."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import msgspec

from pointsman.domain.states import TicketStatus
from pointsman.plugin_api import Actor, IssueRef, IssueState, Marker, IssueMoved, NotFound
from pointsman.plugin_host.account import learn_account
from pointsman.plugin_host.snapshot import LiveDestination
from pointsman.plugin_host.validate import checked


class Copy(msgspec.Struct, frozen=True):
    """One of several issues with the same marker, by our own account; ``seen`` is None where a tracker can't read one."""

    ref: IssueRef
    seen: IssueState | None = None

    @property
    def is_closed(self) -> bool:
        """Whether it is known to be closed."""
        return self.seen is not None and self.seen.state == "closed"


class Copies(msgspec.Struct, frozen=True):
    """What the tracker said: the copies, oldest first, and the ids of issues that are gone."""

    there: list[Copy]
    gone: frozenset[str]


def choose(copies: Sequence[Copy], status: TicketStatus | None) -> Copy:
    """The copy that is kept: the oldest of those that stand like their ticket, for people may have closed one already."""
    fitting = [one for one in copies if status is None or one.is_closed == (status is TicketStatus.CLOSED)]
    return (fitting or list(copies))[0]


async def confirm(
    destination: LiveDestination, marker: Marker, since: dt.datetime, seen: Sequence[IssueRef]
) -> Copies:
    """Ask the tracker which issues carry the marker: by its lists, and one by one those that were ``seen`` elsewhere and
    that the lists do not show (yet). What somebody else wrote is never among them.
    """
    tracker = destination.require_tracker()
    account = await learn_account(destination)
    found = {}
    if tracker.capabilities.find:
        found = {
            ref.remote_id: ref
            for ref in [checked(each, IssueRef) for each in await tracker.find_issue(marker, since)]
        }
    there, gone = [], set()
    for ref in [*found.values(), *(one for one in seen if one.remote_id not in found)]:
        listed = ref.remote_id in found
        try:
            stands = checked(await tracker.read_issue(ref), IssueState)
        except (NotFound, IssueMoved):
            gone.add(ref.remote_id)
        except NotImplementedError:
            if listed:
                there.append(Copy(ref))
        else:
            if listed or _is_ours(stands, account, marker):
                there.append(Copy(ref, stands))
    return Copies(
        sorted(there, key=_age) if all(_is_number(one) for one in there) else there, frozenset(gone)
    )


def _is_ours(seen: IssueState, account: Actor | None, marker: Marker) -> bool:
    by_us = account is not None and seen.author is not None and seen.author.account_id == account.account_id
    return by_us and marker.text in seen.markers


def _is_number(copy: Copy) -> bool:
    return copy.ref.remote_id.isascii() and copy.ref.remote_id.isdigit()


def _age(copy: Copy) -> int:
    """Trackers number their issues in the order they are made."""
    return int(copy.ref.remote_id)
