"""Determine the client of a request: the peer, or the address that trusted proxies report."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Networks: TypeAlias = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]

MAX_HOPS = 32
"""Addresses of X-Forwarded-For that are read, from the right."""


def read_address(peer: object) -> Address | None:
    """Return the address of a socket's peer, or None if it is not a network socket."""
    if isinstance(peer, tuple) and peer and isinstance(peer[0], str):
        return parse(peer[0])
    return None


@lru_cache(maxsize=1024)
def parse(text: str) -> Address | None:
    """Return an address as proxies write it (with a port, in brackets, mapped into IPv6), or None for other text."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_in_networks(address: Address, networks: Networks) -> bool:
    """Return whether an address belongs to one of the networks."""
    return any(address in network for network in networks)


def limit_key(address: Address) -> Address:
    """Return what limits per address count by: an IPv4 address, or the first address of an IPv6 network of 64 bits.

    One client usually has such a network for itself, with any number of addresses.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return ipaddress.IPv6Address(int(address) >> 64 << 64)


def client(peer: Address | None, forwarded: Sequence[str], trusted: Networks) -> Address | None:
    """Return the rightmost address that is not a trusted proxy's.

    ``forwarded`` are the values of X-Forwarded-For in their order. They count only if the peer is a trusted proxy: what a
    client writes into the header is left of what the proxies add. Where the chain can't be parsed, the last address that
    can is returned.
    """
    if peer is None or not trusted or not is_in_networks(peer, trusted):
        return peer
    client_address = peer
    hops = ",".join(forwarded).rsplit(",", MAX_HOPS)[-MAX_HOPS:]
    for hop in reversed(hops):
        address = parse(hop)
        if address is None:
            break
        client_address = address
        if not is_in_networks(address, trusted):
            break
    return client_address
