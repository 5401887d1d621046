"""Rows of a ticket's history as the storage returns them, for tests without a database."""

from __future__ import annotations

import datetime as dt
import json
import uuid

NOON = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
TICKET = uuid.UUID("0198f0c2-0000-7000-8000-000000000001")


def at(minutes: float) -> dt.datetime:
    return NOON + dt.timedelta(minutes=minutes)


def ticket_row(**words):
    row = dict.fromkeys(("description", "url", "level", "environment", "release"), "")
    row |= dict.fromkeys(("reporter_email", "reporter_name"), "")
    row |= {"id": TICKET, "source": "shop", "kind": 1, "status": 1, "title": "KeyError", "occurrences": 1}
    row |= {"opened_at": NOON, "last_seen_at": NOON, "closed_at": None, "close_reason": None}
    row |= {"fingerprint": "print", "storm_parent": None}
    return row | words


def link_row(**words):
    row = dict.fromkeys(("remote_id", "remote_key", "url", "state", "remote_state", "parked_why"))
    row |= {"ticket_id": TICKET, "destination": "forge", "tracker": "forgejo", "lane_state": 1}
    row |= {"last_class": None, "last_error": None, "head_state": 0}
    return row | words


LINKED = {
    "remote_id": "1",
    "remote_key": "shop/web#1",
    "url": "https://git.example/shop/web/issues/1",
    "state": 1,
    "remote_state": 1,
    "lane_state": 0,
    "head_state": None,
}


def event_row(n=1, kind="opened", minutes=0.0, **data):
    return {"ticket_id": TICKET, "n": n, "kind": kind, "at": at(minutes), "data": json.dumps(data)}


def delivery_row(seq=1, kind=1, minutes=0.0, **words):
    row = dict.fromkeys(("last_class", "last_error", "done_at", "parked_why"))
    row |= {
        "lane_id": 7,
        "seq": seq,
        "kind": kind,
        "state": 0,
        "attempts": 0,
        "in_doubt": False,
        "collapsed": 0,
    }
    row |= {"created_at": at(minutes), "due_at": at(minutes), "lane_state": 1}
    row |= {
        "ticket_id": TICKET,
        "destination": "forge",
        "title": "KeyError",
        "masked": None,
        "template_problem": None,
    }
    return row | words


def attempt_row(minutes, outcome, error=None, *, kind=1, destination="forge", status=None):
    return {
        "started_at": at(minutes),
        "ended_at": at(minutes) + dt.timedelta(seconds=0.25),
        "outcome": outcome,
        "status": status,
        "error": error,
        "kind": kind,
        "destination": destination,
    }


def standing_row(slug="forge", **words):
    row = dict.fromkeys(("paused_why", "blocked_until", "polled_to", "failed_at", "failure_type"))
    row |= dict.fromkeys(("failure_message", "failure_status", "failure_excerpt", "failure_is_json"))
    row |= {"slug": slug, "kind": 1, "tracker": "forgejo", "retired": False, "failures": 0}
    row |= {"breaker": 0, "open_until": None}
    return row | {"waiting_lanes": 0, "parked_lanes": 0} | words


FAILED = {
    "failures": 7,
    "failed_at": NOON,
    "failure_type": "AuthFailed",
    "failure_message": "the token is refused",
    "failure_status": 401,
    "failure_excerpt": "<html>no</html>",
}
