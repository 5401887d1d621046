"""Decide whether a changed issue was changed by our own write or by someone else."""

from __future__ import annotations

import datetime as dt
import enum

import msgspec

from pointsman.plugin_api import Actor, IssueState


class Origin(enum.Enum):
    """Who changed an issue."""

    OWN = "our own write"
    OUTDATED = "an earlier write of ours, undone by a later one"
    FOREIGN = "someone else"
    SHARED_ACCOUNT = "our account, but no write of ours"
    """A person or a program uses our credential: its changes count like anyone's."""


class LastStateWrite(msgspec.Struct, frozen=True):
    """The last close, or the last reopen, that we sent to an issue."""

    answered: bool
    """The tracker accepted it, and the state of the issue after it is stored."""
    recent: bool
    """It is in flight, or was sent recently enough for an echo to arrive."""
    superseded: bool = False
    """The opposite was sent since."""


def origin_of(
    issue: IssueState,
    account: Actor | None,
    write: LastStateWrite | None,
    known_version: dt.datetime | None,
) -> Origin:
    """Return who changed an issue whose state differs from the last known one.

    ``account`` is our account at the tracker, None if unknown. ``write`` is our last write of the observed state.

    A known foreign actor always counts as foreign. A state that fits a write of ours is its echo, unless the tracker's clock
    says that it is later than the state in the write's answer: then the issue was changed twice since. The echo of a write
    that we undid since can only arrive late if it names us, since a list shows the current state.
    """
    by_us = by_our_account(issue, account)
    if issue.actor is not None and account is not None and not by_us:
        return Origin.FOREIGN
    if write is not None and write.recent and not _is_later(issue, write, known_version):
        if not write.superseded:
            return Origin.OWN
        if by_us:
            return Origin.OUTDATED
    return Origin.SHARED_ACCOUNT if by_us else Origin.FOREIGN


def by_our_account(issue: IssueState, account: Actor | None) -> bool:
    """Return whether our account is named as the actor of a change."""
    return issue.actor is not None and account is not None and issue.actor.account_id == account.account_id


def _is_later(issue: IssueState, write: LastStateWrite, known_version: dt.datetime | None) -> bool:
    if not write.answered or issue.version is None or known_version is None:
        return False
    return issue.version > known_version
