"""The address guard: whatever the spelling, the address that is connected to is judged."""

import ipaddress
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.plugin_host.egress_policy import (
    BlockedAddress,
    EgressPolicy,
    effective_address,
    is_allowed,
    socket_factory,
)

QUICK = settings(deadline=None, max_examples=50)
NOTHING = EgressPolicy()
HOSTS = EgressPolicy(hosts=frozenset({"forgejo.lan"}))
NETWORKS = EgressPolicy(networks=(ipaddress.ip_network("10.2.0.0/16"), ipaddress.ip_network("fd12::/32")))


def may(address, host="x.test", policy=NOTHING):
    return is_allowed(effective_address(address), host, policy)


def disguises(v4):
    """An IPv4 address in each form that IPv6 has for one."""
    high, low = (int.from_bytes(ipaddress.IPv4Address(v4).packed[at : at + 2], "big") for at in (0, 2))
    return [
        v4,
        f"::ffff:{v4}",
        f"0:0:0:0:0:ffff:{high:x}:{low:x}",
        f"::{v4}",
        f"::ffff:0:{v4}",
        f"64:ff9b::{v4}",
        f"2002:{high:x}:{low:x}::",
        f"2002:{high:x}:{low:x}::1",
        f"2002:{high:x}:{low:x}:ffff::dead:beef",
    ]


SPECIAL_V4 = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1"),
    *(
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "240.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "203.0.113.9",
    ),
    *("192.0.0.192", "100.100.100.200", "168.63.129.16"),
]
PRIVATE_V4 = ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1"]
SPECIAL_V6 = [
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fe80::a9fe:a9fe%1", "ff02::1", "ff0e::1", "fec0::1", "100::1"),
    *("fd00:ec2::254", "fd20:ce::254", "2001:db8::1", "64:ff9b:1::7f00:1", "3fff::1", "5f00::1", "2001::1"),
]
PRIVATE_V6 = ["fc00::1", "fd12:3456::1", "fdff:ffff::1"]
PUBLIC = ["93.184.216.34", "1.1.1.1", "8.8.8.8", "2606:4700::1111", "2a01:4f8::2", "172.32.0.1", "11.0.0.1"]


@pytest.mark.parametrize("address", [form for base in SPECIAL_V4 + PRIVATE_V4 for form in disguises(base)])
def test_no_form_of_a_special_or_private_ipv4_address_may_be_connected_to(address):
    assert not may(address)


@pytest.mark.parametrize("address", SPECIAL_V6 + PRIVATE_V6)
def test_no_special_or_private_ipv6_address_may_be_connected_to(address):
    assert not may(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_connected_to(address):
    assert may(address)


@pytest.mark.parametrize("address", [*PRIVATE_V4, *PRIVATE_V6, "127.0.0.1", "::1", "::ffff:10.0.0.1"])
def test_a_host_that_the_operator_named_may_be_private_or_loopback(address):
    assert may(address, "forgejo.lan", HOSTS)
    assert may(address, "Forgejo.LAN.", HOSTS)
    assert not may(address, "evil.forgejo.lan", HOSTS)
    assert not may(address, "forgejo.lan.evil.test", HOSTS)
    assert not may(address, "", HOSTS)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "fe80::1",
            "0.0.0.0",
            "::",
        ),
        *("224.0.0.1", "ff02::1", "fd00:ec2::254", "100.100.100.200", "168.63.129.16"),
    ],
)
def test_a_named_host_that_resolves_to_a_metadata_service_is_refused(address):
    """An attacker who controls a name's address must not reach the cloud's credentials."""
    assert not may(address, "forgejo.lan", HOSTS)


def test_a_named_network_is_open_and_its_neighbours_are_not():
    assert may("10.2.3.4", policy=NETWORKS)
    assert may("::ffff:10.2.3.4", policy=NETWORKS)
    assert may("fd12::9", policy=NETWORKS)
    assert not may("10.3.0.1", policy=NETWORKS)
    assert not may("fd13::9", policy=NETWORKS)
    assert not may("127.0.0.1", policy=NETWORKS)


def test_a_special_address_needs_its_very_network_named():
    metadata = EgressPolicy(networks=(ipaddress.ip_network("169.254.169.254/32"),))
    assert may("169.254.169.254", policy=metadata)
    assert not may("169.254.169.253", policy=metadata)


@pytest.mark.parametrize("form", ["93.184.216.34", "127.0.0.1"])
def test_the_address_inside_is_the_true_one(form):
    assert {str(effective_address(form)) for form in disguises(form)} == {form}


def test_the_zone_does_not_count():
    assert effective_address("fe80::1%eth0") == ipaddress.ip_address("fe80::1")


@QUICK
@given(st.ip_addresses(v=6))
def test_any_ipv6_address_comes_to_a_decision_and_its_mapped_self_to_the_same(address):
    true = effective_address(str(address))
    assert is_allowed(true, "x.test", NOTHING) is is_allowed(effective_address(str(true)), "x.test", NOTHING)


@QUICK
@given(st.ip_addresses(v=4))
def test_every_form_of_an_ipv4_address_is_judged_alike(address):
    assert len({may(form) for form in disguises(str(address))}) == 1
    if address.is_private or address.is_loopback or address.is_link_local:
        assert not may(str(address))


def info(address, family=socket.AF_INET):
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 80))


def test_a_blocked_address_makes_no_socket_and_says_how_to_allow_it():
    with pytest.raises(BlockedAddress, match=r"x\.test.*127\.0\.0\.1.*POINTSMAN_OUTBOUND_ALLOW"):
        socket_factory("x.test", NOTHING)(info("127.0.0.1"))


@pytest.mark.parametrize("odd", ["0177.0.0.1", "2130706433", "", "localhost", "127.1", "::g"])
def test_what_is_no_address_is_blocked_like_a_wrong_one(odd):
    with pytest.raises(BlockedAddress):
        socket_factory("x.test", NOTHING)(info(odd))


def test_an_allowed_address_makes_a_socket_that_does_not_block():
    with socket_factory("x.test", NOTHING)(info("93.184.216.34")) as opened:
        assert opened.getblocking() is False
