"""Timeouts for slow clients."""

from __future__ import annotations

import msgspec


class HttpTimeouts(msgspec.Struct, frozen=True, kw_only=True):
    """How long a client may take, in seconds unless the name has another unit."""

    first_byte: float = 5.0
    head: float = 10.0
    head_bytes: int = 32 * 1024
    body: float = 20.0
    body_grace: float = 5.0
    body_bytes_per_second: float = 1000.0
    idle: float = 15.0
    write: float = 20.0
    """How long a response may wait for a client that does not read."""
    linger: float = 1.0
    """How long the rest of a request is read after an early response, so that the response arrives."""
    check_interval: float = 0.25
    drain: float = 8.0
    """How long connections may stay open at shutdown."""
    drain_idle: float = 1.0
    """How long a connection must have been idle before it is closed at shutdown."""
