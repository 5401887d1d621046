"""Whose doing news is: a table of decisions."""

import datetime as dt

import pytest

from pointsman.domain.change_origin import LastStateWrite, Origin, origin_of
from pointsman.plugin_api import Actor, IssueRef, IssueState

US, DEV = Actor("1", "bot"), Actor("2", "dev")
NOW = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(seconds=1)
UNDERWAY, ANSWERED = LastStateWrite(answered=False, recent=True), LastStateWrite(answered=True, recent=True)
LONG_AGO = LastStateWrite(answered=True, recent=False)
UNDONE = LastStateWrite(answered=True, recent=True, superseded=True)


@pytest.mark.parametrize(
    ("actor", "account", "sent", "version", "origin"),
    [
        (DEV, US, UNDERWAY, NOW, Origin.FOREIGN),
        (DEV, US, ANSWERED, NOW, Origin.FOREIGN),
        (DEV, None, UNDERWAY, NOW, Origin.OWN),
        (US, US, UNDERWAY, NOW, Origin.OWN),
        (US, US, UNDERWAY, LATER, Origin.OWN),
        (None, US, UNDERWAY, LATER, Origin.OWN),
        (None, None, UNDERWAY, None, Origin.OWN),
        (US, US, ANSWERED, NOW, Origin.OWN),
        (US, US, ANSWERED, None, Origin.OWN),
        (US, US, ANSWERED, LATER, Origin.SHARED_ACCOUNT),
        (None, US, ANSWERED, LATER, Origin.FOREIGN),
        (US, US, LONG_AGO, NOW, Origin.SHARED_ACCOUNT),
        (None, US, LONG_AGO, NOW, Origin.FOREIGN),
        (US, US, None, NOW, Origin.SHARED_ACCOUNT),
        (None, US, None, NOW, Origin.FOREIGN),
        (US, US, UNDONE, NOW, Origin.OUTDATED),
        (None, US, UNDONE, NOW, Origin.FOREIGN),
        (DEV, US, UNDONE, NOW, Origin.FOREIGN),
        (US, US, UNDONE, LATER, Origin.SHARED_ACCOUNT),
    ],
)
def test_whose_doing_it_is(actor, account, sent, version, origin):
    news = IssueState(ref=IssueRef("7", "7"), state="closed", version=version, actor=actor)
    assert origin_of(news, account, sent, NOW) is origin
