"""Prepare reports: idempotency keys, thresholds of support tickets, and rate limits of sources."""

from __future__ import annotations

import uuid
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from pointsman.config.file import SourceLimits
from pointsman.domain.repeats import SETTLE_SECONDS, KeyBasis
from pointsman.domain.routing import Match, Options, Route
from pointsman.domain.states import TicketKind
from pointsman.domain.ticket_throttle import NEW_TICKETS_PER_MINUTE
from pointsman.intake.incoming import Incoming
from pointsman.intake.preparation import (
    ReportPreparer,
    choose,
    key_basis_of,
    key_hash_of,
    settle_seconds,
    ticket_rate_limit,
)
from pointsman.plugin_api import Report
from pointsman.plugin_host.instances import LiveSource
from pointsman.plugin_host.snapshot import ConfigReloader

SOURCE = LiveSource(1, "shop", "generic", None, ())
DIGEST = b"d" * 32


def report(dedupe: str | None = None, action: str = "opened") -> Report:
    return Report(action=action, fingerprint="f", title="t", dedupe=dedupe)


def key_hash(a_report: Report | None, *, key: str | None = None, part: int = 0) -> bytes:
    return key_hash_of(SOURCE, a_report, uuid.uuid4(), DIGEST, key=key, part=part)


def test_the_senders_key_counts_before_the_reports_key_and_the_body():
    assert key_hash(report("a"), key="k") == key_hash(report("b"), key="k") == key_hash(None, key="k")
    assert key_hash(report("a")) == key_hash(report("a")) != key_hash(report("b"))
    assert key_hash(report()) == key_hash(None) != key_hash(report("a"))


@pytest.mark.parametrize("never_repeated", [report(""), report(action="test")])
def test_a_report_that_is_never_repeated_has_a_key_of_its_own(never_repeated: Report):
    assert key_hash(never_repeated) != key_hash(never_repeated)


def test_the_reports_of_one_request_have_different_keys_unless_they_have_their_own():
    for key in (None, "k"):
        assert len({key_hash(report(), key=key, part=part) for part in range(3)}) == 3
    assert key_hash(report("a"), part=1) == key_hash(report("a"), part=2)
    assert key_hash(report("a"), key="k", part=1) != key_hash(report("a"), key="k", part=2)


def test_support_tickets_reach_every_threshold():
    routes = [Route(1, Match(occurrences=3), (1,)), Route(2, Match(), (2,))]
    assert choose(routes, TicketKind.ALERT).destinations == (2,)
    assert choose(routes, TicketKind.SUPPORT).destinations == (1,)


@pytest.mark.parametrize(("configured", "limit"), [(None, NEW_TICKETS_PER_MINUTE), (0, 0), (7, 7)])
def test_the_rate_limit_of_a_source_holds_for_alerts_alone(configured: int | None, limit: int):
    source = replace(SOURCE, limits=SourceLimits(new_tickets_per_minute=configured))
    assert ticket_rate_limit(source, TicketKind.ALERT) == limit
    assert ticket_rate_limit(source, TicketKind.SUPPORT) == 0


def test_the_basis_of_a_key_is_what_it_identifies():
    def basis(a_report: Report | None, key: str | None = None) -> KeyBasis:
        return key_basis_of(SOURCE, a_report, key=key)

    state = Report(action="opened", fingerprint="f", dedupe="a", dedupe_by="state")
    assert basis(state) is KeyBasis.STATE
    assert basis(report("a")) is KeyBasis.REQUEST
    assert basis(report()) is KeyBasis.BODY
    for never in (report(""), report(action="test"), None):
        assert basis(never) is KeyBasis.REQUEST
    assert basis(state, "Idempotency-Key") is basis(report(), "Idempotency-Key") is KeyBasis.REQUEST


@pytest.mark.parametrize(("configured", "seconds"), [(None, SETTLE_SECONDS), (0, 0), (60, 60)])
def test_the_settle_time_is_a_limit_of_the_source(configured: int | None, seconds: float):
    assert settle_seconds(replace(SOURCE, limits=SourceLimits(settle_seconds=configured))) == seconds


def test_an_alert_whose_fingerprint_a_route_replaces_is_a_member_of_its_ticket():
    def prepared(fingerprint: str | None) -> Incoming:
        routes = [Route(1, Match(), (1,), options=Options(fingerprint=fingerprint))]
        config = SimpleNamespace(current=SimpleNamespace(routes=routes))
        return ReportPreparer(cast(ConfigReloader, config)).prepare(SOURCE, report(), b"{}", {})

    assert prepared(None).member is None
    member = prepared("{{ source }}").member
    assert member is not None
    assert member == prepared("{{ source }} {{ title }}").member
