"""Paths of requests, and responses that are not about the request."""

from __future__ import annotations

from pointsman.plugin_api.errors import NotFound, UnknownOutcome
from pointsman.plugin_api.values import Response


def number_in_path(remote_id: str, noun: str) -> str:
    """Return an id for use in a path. Raises NotFound if it is no number: then nothing has that id.

    ``noun`` names the object in the message ("issue").
    """
    if not (remote_id.isascii() and remote_id.isdigit()):
        raise NotFound(f"{remote_id!r} is no {noun} number")
    return remote_id


def unexpected_response(response: Response, doing: str) -> UnknownOutcome:
    """Return the error for a success that is not about the request: something else responded, or the server failed."""
    return UnknownOutcome(
        f"could not {doing}: the server says it is done and answers something else",
        status=response.status,
        excerpt=response.text(),
        is_json=True,
    )
