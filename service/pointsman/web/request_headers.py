"""Checks of request headers that several endpoints share."""

from __future__ import annotations

from aiohttp import web

from pointsman.web.problems import Problem


def require_json(request: web.Request, *, or_text: bool = False) -> None:
    """Raise Problem for a body whose Content-Type is not JSON. A missing Content-Type is accepted.

    ``or_text``: so is plain text, as which some senders label JSON.
    """
    content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if (
        content_type
        and content_type not in ("application/json", "text/json")
        and not (or_text and content_type == "text/plain")
        and not content_type.endswith("+json")
    ):
        raise Problem("unsupported-type", "send JSON, with Content-Type: application/json")


def idempotency_key(request: web.Request, operation: str) -> str | None:
    """Return the sender's key for an operation, or None. Raises Problem for a malformed key."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 1 <= len(key) <= 255:
        raise Problem("bad-request", "Idempotency-Key has 1 to 255 characters")
    return f"{operation}\n{key}"
