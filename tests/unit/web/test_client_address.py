"""Test which address counts as the client of a request."""

from __future__ import annotations

import ipaddress

import pytest

from pointsman.web import client_address

TRUSTED = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "192.168.7.3/32", "fd00::/8")))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.5", [], "203.0.113.5"),
        ("203.0.113.5", ["1.2.3.4"], "203.0.113.5"),
        ("203.0.113.5", ["10.1.1.1"], "203.0.113.5"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["9.9.9.9, 1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["9.9.9.9", "1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["1.2.3.4", "10.3.3.3, 192.168.7.3"], "1.2.3.4"),
        ("10.0.0.1", ["9.9.9.9, 1.2.3.4, 192.168.7.4"], "192.168.7.4"),
        ("10.0.0.1", ["10.2.2.2, 10.3.3.3"], "10.2.2.2"),
        ("10.0.0.1", ["1.2.3.4, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4, , 10.3.3.3"], "10.3.3.3"),
        ("10.0.0.1", ["1.2.3.4, \x00\xff"], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4:5678"], "1.2.3.4"),
        ("10.0.0.1", ["[2001:db8::1]:5678"], "2001:db8::1"),
        ("10.0.0.1", ['"[2001:db8::1]"'], "2001:db8::1"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["::ffff:1.2.3.4"], "1.2.3.4"),
        ("fe80::1%eth0", ["1.2.3.4"], "fe80::1"),
        ("10.0.0.1", ["9.9.9.9," * 10_000 + "1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["9.9.9.9," + "10.1.1.1," * 40 + "10.1.1.2"], "10.1.1.1"),
    ],
)
def test_the_rightmost_address_that_no_proxy_of_ours_has_counts(peer, forwarded, client):
    """What a client writes into X-Forwarded-For itself changes nothing."""
    address = client_address.client(client_address.read_address((peer, 1)), forwarded, TRUSTED)
    assert str(address) == client


def test_without_trusted_proxies_nothing_is_believed():
    peer = ipaddress.ip_address("127.0.0.1")
    assert client_address.client(peer, ["1.2.3.4"], ()) == peer
    assert client_address.client(None, ["1.2.3.4"], TRUSTED) is None
    assert client_address.read_address("") is None


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("::1", "::"),
    ],
)
def test_limits_count_an_ipv6_network_of_64_bits_as_one_client(address, key):
    assert str(client_address.limit_key(ipaddress.ip_address(address))) == key
