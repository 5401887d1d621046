"""JSON responses."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiohttp import web


def json_response(status: int, value: object, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a response with ``value`` as JSON."""
    return web.Response(
        status=status, body=msgspec.json.encode(value), content_type="application/json", headers=headers
    )
