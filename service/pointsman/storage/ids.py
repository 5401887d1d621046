"""Identifiers of new rows."""

from __future__ import annotations

import os
import time
import uuid


def uuid7() -> uuid.UUID:
    """Return a new time-ordered UUID: https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-7."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value &= ~(0xF << 76 | 0x3 << 62)
    return uuid.UUID(int=value | 0x7 << 76 | 0x2 << 62)
