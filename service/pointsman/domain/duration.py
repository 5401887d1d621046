"""Durations in the configuration, such as ``10m``."""

from __future__ import annotations

import functools
import re

_PATTERN = re.compile(r"([0-9]{1,9})(s|m|h|d|w)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
MAX_SECONDS = 10 * 366 * 86400


@functools.lru_cache(maxsize=1000)
def parse_duration(text: str) -> int:
    """Return the seconds of ``90s``, ``10m``, ``24h``, ``7d`` or ``2w``. Raises ValueError with the correction."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is no duration: write a whole number and its unit, s, m, h, d or w, such as 90s or 10m"
        )
    seconds = int(match[1]) * _SECONDS[match[2]]
    if not 0 < seconds <= MAX_SECONDS:
        raise ValueError(f"{text!r} is no duration that can be kept: write 1s to 3660d")
    return seconds
