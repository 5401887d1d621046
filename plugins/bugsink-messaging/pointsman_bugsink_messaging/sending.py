"""Up to three quick tries, and how they ended. Pure: clock, sleep and the post itself are given.

Bugsink runs a task at most once, and its workers take in events too. So a try that failed at once is made again, and
one that took its time is not.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

PAUSES_SECONDS: Sequence[float] = (0.5, 1.5)
TRY_SECONDS = 5.0
"""Bugsink's own time-out for one post."""
ALL_SECONDS = 8.0
KEPT_CHARACTERS = 2000


class Answer(Protocol):
    """Of ``requests.Response``, what is read."""

    @property
    def status_code(self) -> int:
        """The status."""

    @property
    def content(self) -> bytes:
        """The body."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """What Bugsink keeps about a failure, named as its columns are without ``last_failure_``."""

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
    """Post until it is taken, refused for good, or time is up; None if it was taken. Never raises an Exception."""
    began = clock()
    for pause in (*PAUSES_SECONDS, None):
        failure, again = _one(post, url)
        if failure is None or not again or pause is None:
            return failure
        if clock() - began + pause + TRY_SECONDS > ALL_SECONDS:
            return failure
        sleep(pause)
    raise AssertionError("the last pause is None")


def _one(post: Callable[[], Answer], url: str) -> tuple[Failure | None, bool]:
    """How one try ended, and whether another one may help."""
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
    said = "redirects, which is not followed" if 300 <= status < 400 else "did not take the alert"
    failed = Failure(
        error_type="HTTPError",
        error_message=f"{status}: the address {said}",
        status_code=status,
        response_text=content[: KEPT_CHARACTERS * 4]
        .decode("utf-8", "replace")[:KEPT_CHARACTERS]
        .replace("\0", ""),
        is_json=_is_json(content),
    )
    return failed, status == 429 or status >= 500


def without_address(message: str, url: str) -> str:
    """A message without the parts of the URL that may hold a token: it stays in Bugsink and is shown to people."""
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
