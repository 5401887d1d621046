"""The status of destinations, from rows."""

from __future__ import annotations

import pytest

from pointsman.operations.destinations import destination_status
from ticket_rows import FAILED, NOON, at, destination_row


@pytest.mark.parametrize(
    ("fields", "label", "attention"),
    [
        ({}, "working", False),
        (FAILED, "credentials refused", True),
        ({"failed_at": NOON, "failures": 1, "failure_type": "Unavailable"}, "unreachable", False),
        ({"failed_at": NOON, "failures": 3, "failure_type": "Unavailable"}, "unreachable", True),
        ({"failed_at": NOON, "failures": 1, "failure_type": "ZeroDivisionError"}, "plugin error", True),
        ({"parked_lanes": 2}, "parked lanes", True),
        ({"blocked_until": at(1)}, "backing off", False),
        ({"pause_reason": "operator"}, "paused", False),
        ({"retired": True, "pause_reason": "retired"}, "retired", False),
    ],
)
def test_the_status_of_a_destination(fields, label, attention):
    status = destination_status(destination_row(**fields), NOON)
    assert (status.status.label, status.needs_attention) == (label, attention)


def test_a_destination_that_cannot_be_used_says_why():
    status = destination_status(destination_row(), NOON, problem="the plugin forgejo is not installed")
    assert status.status.message == "the plugin forgejo is not installed"


def test_mail_without_a_server_is_off_and_alarms_only_if_a_mail_waits():
    row = destination_row("@mail", kind=2, tracker="mail")
    assert not destination_status(row, NOON, mail_enabled=False).needs_attention
    assert destination_status(row._replace(waiting_lanes=1), NOON, mail_enabled=False).needs_attention
    assert destination_status(row, NOON).status.label == "working"
