"""The address guard: which addresses outbound calls may connect to.

Judged at connect time, on the very address that is connected to, so that neither a clever spelling nor a name that
changes its address slips through. Special addresses (loopback, link-local with its metadata services, multicast and
so on) and private ones need the operator's word in POINTSMAN_OUTBOUND_ALLOW; a URL in the configuration can't widen
the net.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import Any

import msgspec

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# IPv6 addresses whose last 32 bits are an IPv4 address: NAT64, IPv4-translated, IPv4-compatible
_EMBEDDED = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::ffff:0:0:0/96", "::/96")))

# Never public, whatever the Python at hand knows of it: local NAT64, site-local, protocol assignments, documentation
_SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        ("64:ff9b:1::/48", "fec0::/10", "192.0.0.0/24", "192.88.99.0/24", "3fff::/20", "5f00::/16"),
    )
)

# What clouds answer credentials at, beside link-local: AWS, Google, Alibaba, Azure, Oracle
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    )
)


class BlockedAddress(OSError):
    """An address that may not be connected to."""


class EgressPolicy(msgspec.Struct, frozen=True):
    """What the operator allows beyond public addresses: hosts by name, and networks."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()


def effective_address(text: str) -> Address:
    """The address that is really meant: IPv4 inside IPv6 is unwrapped, a zone is dropped."""
    address: Address = ipaddress.ip_address(text.partition("%")[0])
    while isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and int(address) > 1 and any(address in network for network in _EMBEDDED):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None:
            break
        address = inner
    return address


def allowed(address: Address, host: str, policy: EgressPolicy) -> bool:
    """Whether an address, reached by a host's name, may be connected to."""
    if any(address.version == network.version and address in network for network in policy.networks):
        return True
    if address in _METADATA:
        return False
    special = any(address.version == network.version and address in network for network in _SPECIAL)
    if address.is_global and not address.is_multicast and not special:
        return True
    # a named host may be private or loopback, but never a metadata service
    return host.lower().strip("[]").rstrip(".") in policy.hosts and not (
        address.is_link_local or address.is_multicast or address.is_unspecified
    )


def socket_factory(host: str, policy: EgressPolicy) -> Callable[[Any], socket.socket]:
    """For aiohttp's TCPConnector: makes a socket only for an address that may be connected to."""

    def make(info: Any) -> socket.socket:
        family, kind, protocol, _, sockaddr = info
        try:
            fine = allowed(effective_address(sockaddr[0]), host, policy)
        except ValueError:
            fine = False
        if not fine:
            raise BlockedAddress(
                f"{host} has the address {sockaddr[0]}, which is private or special: if that is meant, add it to"
                " POINTSMAN_OUTBOUND_ALLOW"
            )
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    return make
