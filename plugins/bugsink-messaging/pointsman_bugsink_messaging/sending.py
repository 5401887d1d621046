"""Up to three quick attempts and their result. Pure: clock, sleep and the post itself are arguments.

Bugsink runs a task at most once, and its workers process incoming events too. So an attempt that failed at once is
repeated, and a slow one is not.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

PAUSES_SECONDS: Sequence[float] = (0.5, 1.5)
TRY_SECONDS = 5.0
"""Bugsink's own timeout of one post."""
ALL_SECONDS = 8.0
KEPT_CHARACTERS = 2000


class Answer(Protocol):
    """The parts of ``requests.Response`` that are used."""

    @property
    def status_code(self) -> int:
        """Return the status."""

    @property
    def content(self) -> bytes:
        """Return the body."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """Bugsink's record of a failure; the names are its columns without ``last_failure_``."""

    error_type: str
    error_message: str
    status_code: int | None = None
    response_text: str | None = None
    is_json: bool | None = None


def deliver(
    post: Callable[[], Answer],
    url: str,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Failure | None:
    """Post until it is accepted, refused for good, or time is up; return None if it was accepted. Never raises an
    Exception.
    """
    began = clock()
    for pause in (*PAUSES_SECONDS, None):
        failure, repeated = _attempt(post, url)
        if failure is None or not repeated or pause is None:
            return failure
        if clock() - began + pause + TRY_SECONDS > ALL_SECONDS:
            return failure
        sleep(pause)
    raise AssertionError("the last pause is None")


def _attempt(post: Callable[[], Answer], url: str) -> tuple[Failure | None, bool]:
    """Return the result of one attempt, and whether another one may help."""
    try:
        answer = post()
        status, content = answer.status_code, answer.content
    except Exception as error:  # noqa: BLE001 - whatever it was belongs into Bugsink's page, and another service's turn comes
        failed = Failure(error_type=type(error).__name__, error_message=without_address(str(error), url))
        # what Bugsink's policy forbids is a ValueError, and so is an address that is none
        return failed, isinstance(error, OSError) and not isinstance(error, ValueError)
    if 200 <= status < 300:
        return None, False
    # a redirect is not followed, so nothing was delivered
    payload = "redirects, which is not followed" if 300 <= status < 400 else "did not take the alert"
    failed = Failure(
        error_type="HTTPError",
        error_message=f"{status}: the address {payload}",
        status_code=status,
        response_text=content[: KEPT_CHARACTERS * 4]
        .decode("utf-8", "replace")[:KEPT_CHARACTERS]
        .replace("\0", ""),
        is_json=_is_json(content),
    )
    return failed, status == 429 or status >= 500


def without_address(message: str, url: str) -> str:
    """Return a message without the parts of the URL that may contain a token: it is stored in Bugsink and shown to
    people.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return message.replace(url, "...")
    where = parts.path + (f"?{parts.query}" if parts.query else "")
    for part in (where, parts.path, parts.query, parts.netloc.rpartition("@")[0]):
        if len(part) > 1:
            message = message.replace(part, "...")
    return message


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content[:100_000])
    except ValueError:
        return False
    return True
