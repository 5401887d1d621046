"""Whose doing a piece of news is: our own write coming back as an echo, or somebody else's."""

from __future__ import annotations

import datetime as dt
import enum

import msgspec

from pointsman.plugin_api import Actor, IssueState


class Origin(enum.Enum):
    """Who did it."""

    OWN = "our own write"
    OUTDATED = "an earlier write of ours, undone by a later one"
    FOREIGN = "somebody else"
    SHARED_ACCOUNT = "our account, but no write of ours"
    """A person or a program shares our credential: what it does counts like anybody's."""


class LastStateWrite(msgspec.Struct, frozen=True):
    """The last close, or the last reopen, that we sent to an issue."""

    answered: bool
    """The tracker took it, and how the issue stood then is written down."""
    recent: bool
    """It is under way, or was lately enough for an echo to come."""
    superseded: bool = False
    """The opposite was sent since."""


def origin_of(
    news: IssueState, account: Actor | None, sent: LastStateWrite | None, known_version: dt.datetime | None
) -> Origin:
    """Whose doing it is that an issue stands otherwise than we last knew.

    ``account`` is who we are there, None if that is not known yet. ``sent`` is the last write of ours that fits the news.
    Who is known to be somebody else always is. What fits a write of ours is its echo, unless the tracker's own clock says
    that it happened after what we know from its answer: then the issue went there and back meanwhile. A write that we
    undid since comes back late only if it names us: a list shows how an issue stands now.
    """
    by_us = by_our_account(news, account)
    if news.actor is not None and account is not None and not by_us:
        return Origin.FOREIGN
    if sent is not None and sent.recent and not _after(news, sent, known_version):
        if not sent.superseded:
            return Origin.OWN
        if by_us:
            return Origin.OUTDATED
    return Origin.SHARED_ACCOUNT if by_us else Origin.FOREIGN


def by_our_account(news: IssueState, account: Actor | None) -> bool:
    """Whether our account is named as the one who did it."""
    return news.actor is not None and account is not None and news.actor.account_id == account.account_id


def _after(news: IssueState, sent: LastStateWrite, known_version: dt.datetime | None) -> bool:
    if not sent.answered or news.version is None or known_version is None:
        return False
    return news.version > known_version
