"""Whose request it is: the peer's address, or what proxies that are trusted say. Any text gives an answer."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Networks: TypeAlias = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]

HOPS_READ = 32
"""Of the addresses in X-Forwarded-For, from the right; nobody has more proxies."""


def read_address(peer: object) -> Address | None:
    """The address of a socket's other end; None for what is no network address."""
    if isinstance(peer, tuple) and peer and isinstance(peer[0], str):
        return parse(peer[0])
    return None


@lru_cache(maxsize=1024)
def parse(text: str) -> Address | None:
    """An address as proxies write it: with a port, in brackets, mapped into IPv6; None if it is none."""
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


def inside(address: Address, networks: Networks) -> bool:
    """Whether an address lies in one of the networks."""
    return any(address in network for network in networks)


def client(peer: Address | None, forwarded: Sequence[str], trusted: Networks) -> Address | None:
    """The rightmost address that no trusted proxy has.

    ``forwarded`` are the values of X-Forwarded-For in their order. They count only if the peer is a trusted proxy;
    what a client writes into them stands further left than what the proxies add. Where the chain can't be read, the
    last proxy that can be is named.
    """
    if peer is None or not trusted or not inside(peer, trusted):
        return peer
    found = peer
    hops = ",".join(forwarded).rsplit(",", HOPS_READ)[-HOPS_READ:]
    for hop in reversed(hops):
        address = parse(hop)
        if address is None:
            break
        found = address
        if not inside(address, trusted):
            break
    return found
