"""Error responses as problem+json (RFC 9457, https://www.rfc-editor.org/rfc/rfc9457)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiohttp import web

from pointsman.intake.errors import InvalidBody, InvalidFields, InvalidRequest

TYPE_BASE = "urn:pointsman:problem:"

TITLES: Mapping[str, tuple[int, str]] = {
    "bad-request": (400, "The request can't be read"),
    "invalid-json": (400, InvalidBody.summary),
    "unauthorized": (401, "The credentials are missing or wrong"),
    "forbidden": (403, "This token may not do that"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "This address does not accept that method"),
    "timeout": (408, "The request came too slowly"),
    "key-reused": (409, "The idempotency key was used with another body"),
    "conflict": (409, "The resource was changed meanwhile"),
    "too-large": (413, "The body is too large"),
    "head-too-large": (431, "The head of the request is too large"),
    "unsupported-type": (415, "This content type is not accepted"),
    "invalid-fields": (422, InvalidFields.summary),
    "internal": (500, "Internal error"),
    "unavailable": (503, "Temporarily unavailable"),
}
"""Status and title of every problem, by name; its type is ``urn:pointsman:problem:<name>``."""


class ProblemBody(msgspec.Struct, omit_defaults=True):
    """An error (RFC 9457). ``type`` never changes its meaning; ``errors`` maps fields to messages."""

    type: str
    title: str
    status: int
    detail: str = ""
    errors: dict[str, str] = {}


class Problem(Exception):
    """An error response. ``errors`` maps fields to messages; it must not contain secrets."""

    def __init__(
        self,
        name: str,
        detail: str = "",
        *,
        errors: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        log_reason: str = "",
    ) -> None:
        super().__init__(detail or name)
        self.name = name
        self.status, self.title = TITLES[name]
        self.detail = detail
        self.errors = dict(errors or {})
        self.headers = dict(headers or {})
        self.log_reason = log_reason
        """Reason for the log only, where the sender must not learn which of several reasons applies."""

    def response(self) -> web.Response:
        """Return the HTTP response."""
        body = ProblemBody(
            type=TYPE_BASE + self.name,
            title=self.title,
            status=self.status,
            detail=self.detail,
            errors=self.errors,
        )
        return web.Response(
            status=self.status,
            body=msgspec.json.encode(body),
            content_type="application/problem+json",
            headers=self.headers,
        )


def as_problem(error: Problem | InvalidRequest) -> Problem:
    """Return the problem for a refused request."""
    match error:
        case Problem():
            return error
        case InvalidBody():
            return Problem("invalid-json", error.detail)
        case InvalidFields():
            return Problem("invalid-fields", error.detail, errors=error.fields)
        case _:
            return Problem("bad-request", error.detail, errors=error.fields)


def unauthorized(log_reason: str) -> Problem:
    """Return the same 401 for every authentication failure; only the log tells the reason."""
    return Problem("unauthorized", headers={"WWW-Authenticate": "Bearer"}, log_reason=log_reason)


def unavailable(detail: str, *, retry_after_seconds: int = 5) -> Problem:
    """Return a 503: the same request can succeed later."""
    return Problem("unavailable", detail, headers={"Retry-After": str(retry_after_seconds)})


def overloaded() -> Problem:
    """Return the 503 for a request over a limit."""
    return unavailable("too many requests are waiting")
