"""Guard against server-side request forgery: decide which addresses outbound calls may connect to.

The check runs at connect time, on the address that is connected to, so that neither an unusual spelling nor a name
that changes its address (DNS rebinding) passes. Private and special addresses (loopback, link-local with its metadata
services, multicast, ...) must be listed in POINTSMAN_OUTBOUND_ALLOW; a URL in the configuration allows nothing.
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

# Never public, also where this Python version does not know it: local NAT64, site-local, protocol assignments,
# documentation
_SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        ("64:ff9b:1::/48", "fec0::/10", "192.0.0.0/24", "192.88.99.0/24", "3fff::/20", "5f00::/16"),
    )
)

# Metadata services that return credentials, besides link-local ones: AWS, Google, Alibaba, Azure, Oracle
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    )
)


class BlockedAddress(OSError):
    """The egress policy forbids a connection to this address."""


class EgressPolicy(msgspec.Struct, frozen=True):
    """Hosts and networks that the operator allows in addition to public addresses."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()


def effective_address(text: str) -> Address:
    """Return the address that a connection reaches: unwrap IPv4 inside IPv6, drop a zone. Raises ValueError."""
    address: Address = ipaddress.ip_address(text.partition("%")[0])
    while isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and int(address) > 1 and any(address in network for network in _EMBEDDED):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None:
            break
        address = inner
    return address


def is_allowed(address: Address, host: str, policy: EgressPolicy) -> bool:
    """Return whether a connection to ``address``, reached by the name ``host``, is allowed."""
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
    """Return a socket factory for aiohttp's TCPConnector that raises BlockedAddress for forbidden addresses."""

    def make(info: Any) -> socket.socket:
        family, kind, protocol, _, sockaddr = info
        try:
            permitted = is_allowed(effective_address(sockaddr[0]), host, policy)
        except ValueError:
            permitted = False
        if not permitted:
            raise BlockedAddress(
                f"{host} has the address {sockaddr[0]}, which is private or special: if that is meant, add it to"
                " POINTSMAN_OUTBOUND_ALLOW"
            )
        new_socket = socket.socket(family, kind, protocol)
        new_socket.setblocking(False)
        return new_socket

    return make
