"""Errors of requests that senders must correct, and the description of failures in our own code."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import ClassVar

from pointsman.logs import scrub


class InvalidRequest(Exception):
    """A request that is refused; nothing of it is stored."""

    summary: ClassVar[str] = "The request can't be read"

    def __init__(self, detail: str = "", fields: Mapping[str, str] | None = None) -> None:
        super().__init__(detail or self.summary)
        self.detail = detail
        self.fields = dict(fields or {})


class InvalidBody(InvalidRequest):
    """The body is not JSON that can be stored; ``detail`` names the position where it is known."""

    summary = "The body is not valid JSON"


class InvalidFields(InvalidRequest):
    """The body is JSON, but not a report; ``fields`` maps names of fields to messages."""

    summary = "Some fields are missing or wrong"


def describe_failure(error: BaseException) -> str:
    """Return the type, message and place of an exception in our own code, for the operator."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].name}, line {frames[-1].lineno})" if frames else ""
    return scrub(f"{type(error).__name__}: {error}{place}")
