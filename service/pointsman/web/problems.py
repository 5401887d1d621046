"""Errors as problem+json (RFC 9457, https://www.rfc-editor.org/rfc/rfc9457): stable types, words that help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from pointsman.intake.errors import InvalidBody, InvalidFields, InvalidRequest

TYPE_BASE = "urn:pointsman:problem:"

TITLES: Mapping[str, tuple[int, str]] = {
    "bad-request": (400, "The request can't be read"),
    "invalid-json": (400, InvalidBody.summary),
    "unauthorized": (401, "The credentials are missing or wrong"),
    "forbidden": (403, "This token may not do that"),
    "not-found": (404, "There is no such thing here"),
    "method-not-allowed": (405, "This address does not take that method"),
    "timeout": (408, "The request came too slowly"),
    "key-reused": (409, "The idempotency key was used with another body"),
    "conflict": (409, "The thing has changed meanwhile"),
    "too-large": (413, "The body is too large"),
    "head-too-large": (431, "The head of the request is too large"),
    "unsupported-type": (415, "This content type is not taken"),
    "invalid-fields": (422, InvalidFields.summary),
    "rate-limited": (429, "Too many requests"),
    "internal": (500, "Something went wrong here"),
    "unavailable": (503, "Come again later"),
}
"""Every type of problem with its status and title; the type is ``urn:pointsman:problem:<name>``."""


class Problem(Exception):
    """An answer that is an error. ``errors`` names fields; nothing secret may stand in it."""

    def __init__(
        self,
        name: str,
        detail: str = "",
        *,
        errors: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        note: str = "",
    ) -> None:
        super().__init__(detail or name)
        self.name = name
        self.status, self.title = TITLES[name]
        self.detail = detail
        self.errors = dict(errors or {})
        self.headers = dict(headers or {})
        self.note = note
        """For our log only: the caller is not told which of several reasons it was."""

    def response(self) -> web.Response:
        """The answer."""
        body: dict[str, Any] = {"type": TYPE_BASE + self.name, "title": self.title, "status": self.status}
        if self.detail:
            body["detail"] = self.detail
        if self.errors:
            body["errors"] = self.errors
        return web.Response(
            status=self.status,
            body=msgspec.json.encode(body),
            content_type="application/problem+json",
            headers=self.headers,
        )


def as_problem(error: Problem | InvalidRequest) -> Problem:
    """Return the answer to a request that is refused."""
    match error:
        case Problem():
            return error
        case InvalidBody():
            return Problem("invalid-json", error.detail)
        case InvalidFields():
            return Problem("invalid-fields", error.detail, errors=error.fields)
        case _:
            return Problem("bad-request", error.detail, errors=error.fields)


def unauthorized(note: str) -> Problem:
    """One and the same answer whatever was wrong; the log knows better."""
    return Problem("unauthorized", headers={"WWW-Authenticate": "Bearer"}, note=note)


def unavailable(detail: str, *, retry_after_seconds: int = 5) -> Problem:
    """Our own trouble; the same request may do later."""
    return Problem("unavailable", detail, headers={"Retry-After": str(retry_after_seconds)})
