"""Test the delay of refusals, and what their metric shows."""

from __future__ import annotations

import ipaddress

from pointsman.web.refusals import (
    FREE_REFUSALS,
    MAX_ADDRESSES,
    MAX_DELAY_SECONDS,
    Refusals,
    endpoint_of,
    has_credential,
    slug_of,
)

ANN, BEN = map(ipaddress.ip_address, ("203.0.113.5", "203.0.113.6"))


def test_an_address_with_many_refusals_waits_longer_each_time_and_others_do_not():
    clock = [0.0]
    refusals = Refusals(lambda: clock[0])
    assert [refusals.count(ANN) for _ in range(FREE_REFUSALS)] == [0.0] * FREE_REFUSALS
    assert [refusals.count(ANN) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.6, MAX_DELAY_SECONDS]
    assert refusals.count(BEN) == 0.0
    clock[0] += 61.0
    assert refusals.count(ANN) == 0.0


def test_an_ipv6_network_is_one_address():
    refusals = Refusals()
    delays = [refusals.count(ipaddress.ip_address(f"2001:db8::{number:x}")) for number in range(30)]
    assert delays[-1] > 0.0


def test_the_memory_of_refusals_has_a_bound():
    refusals = Refusals()
    for number in range(MAX_ADDRESSES + 10):
        refusals.count(ipaddress.ip_address(number))
    assert len(refusals._recent) == MAX_ADDRESSES


def test_a_request_without_a_credential_is_no_guess():
    assert not has_credential({"reason": "no password"})
    assert has_credential({"reason": "wrong token"})


def test_labels_come_from_routes_and_known_slugs():
    assert [endpoint_of(route) for route in ("/intake/{source}", "/console/", "(none)")] == [
        "intake",
        "console",
        "other",
    ]
    assert (slug_of({"source": "shop"}), slug_of({"destination": "there"}), slug_of({})) == (
        "shop",
        "there",
        "",
    )
