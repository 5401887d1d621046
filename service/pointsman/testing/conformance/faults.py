"""What can happen to one request, and which classes of outcome are right after it."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from pointsman.domain.retry_policy import Outcome
from pointsman.testing.fake import Fault

LATE_SECONDS = 0.3
"""How long a plugin's request may take in a trial of lateness; the double takes longer."""
TIMES = 2
"""How many requests meet a fault: the client's library sends a read again by itself when its connection is cut."""
ASKED_SECONDS = 7
"""What a ``Retry-After`` of the suite says."""
ELSEWHERE = "http://elsewhere.invalid/moved"
"""Where redirects of the suite point: another origin, where no request may follow."""

When = Literal["refused", "before", "after", "late", "too late"]
"""``before``: the request does not take effect. ``after``: it does, and then comes the trouble. ``late``: it takes
effect and no answer comes in time. ``too late``: it takes effect only after the caller gave up."""


class Place(enum.Enum):
    """Where in a call the request stands that meets the trouble."""

    READ = "a request of a call that only reads"
    BEFORE = "a request before the one that takes effect"
    ITSELF = "the request that takes effect"
    AFTER = "a request after the one that took effect"


class Content(enum.Enum):
    """What an answer of the trouble holds."""

    NONE = b""
    ERROR = b'{"message": "no"}'
    HTML = b"<!doctype html><html><title>Sign in</title><body>Please sign in to go on.</body></html>"
    CUT = b'{"id": 12, "number": 12, "key": "OPS-1'
    TEXT = b'"under maintenance"'
    OBJECT = b'{"status": "under maintenance"}'
    BIG = b"x"
    """Of this, ten million."""

    @property
    def body(self) -> bytes:
        """Its bytes."""
        body: bytes = self.value
        return body * 10**7 if self is Content.BIG else body

    @property
    def type(self) -> str:
        """Its media type."""
        return "text/html" if self is Content.HTML else "application/json"

    @property
    def is_odd(self) -> bool:
        """Whether no API of a tracker ever answers so."""
        return self not in (Content.NONE, Content.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that goes wrong with one request. Without a status the connection is cut, refused, or silent."""

    when: When
    status: int | None = None
    content: Content = Content.NONE
    asks: bool = False
    """Whether the answer says ``Retry-After``."""

    def __str__(self) -> str:
        """Its name in the report."""
        if self.when == "refused":
            return "connection refused"
        if self.status is None:
            names = {"before": "cut before", "after": "applied, then cut", "late": "applied, silent"}
            return names.get(self.when, "silent, applied later")
        said = str(self.status) + (" retry-after" if self.asks else "")
        if self.content not in (Content.NONE, Content.ERROR):
            said += f" {self.content.name.lower()}"
        elif self.status < 300 or self.content is Content.NONE:
            said += " empty"
        lead = {"after": "applied, then ", "late": "applied, silent, then ", "too late": "silent, then "}
        return lead.get(self.when, "") + said

    @property
    def is_late(self) -> bool:
        """Whether the caller waits in vain."""
        return self.when in ("late", "too late")

    @property
    def is_odd(self) -> bool:
        """Whether what came back is no answer of the tracker's own API; a 204 has no content, whatever was meant."""
        return self.status is None or (self.content.is_odd and self.status != 204)

    @property
    def lies(self) -> bool:
        """Whether the answer says "not done" of something done: nobody can see through that."""
        return (
            self.when == "after"
            and self.status is not None
            and 300 <= self.status < 500
            and self.status != 408
        )

    def fault(self) -> Fault:
        """The fault that brings the trouble about, once."""
        headers = {"Content-Type": self.content.type}
        if self.asks:
            headers["Retry-After"] = str(ASKED_SECONDS)
        if self.status is not None and 300 <= self.status < 400:
            headers["Location"] = ELSEWHERE
        return Fault(
            status=self.status,
            body=self.content.body,
            headers=headers,
            reset=self.status is None and not self.is_late,
            hang_seconds=100 * LATE_SECONDS if self.is_late else 0.0,
            applied=self.when in ("after", "late"),
            times=TIMES,
        )


def everyday() -> Iterator[Trouble]:
    """The standard list."""
    yield Trouble(when="refused")
    yield Trouble(when="before")
    yield Trouble(when="after")
    yield Trouble(when="late")
    yield Trouble(when="too late")
    for status in (500, 502, 503, 504):
        content = Content.ERROR if status == 500 else Content.HTML
        yield Trouble(when="before", status=status, content=content)
        yield Trouble(when="after", status=status, content=content)
    yield Trouble(when="before", status=503, content=Content.ERROR, asks=True)
    yield Trouble(when="after", status=503, content=Content.ERROR, asks=True)
    yield Trouble(when="before", status=429, content=Content.ERROR)
    yield Trouble(when="before", status=429, content=Content.ERROR, asks=True)
    for status in (400, 401, 403, 404, 409, 410, 422, 423, 301):
        yield Trouble(when="before", status=status, content=Content.ERROR)
    yield Trouble(when="before", status=200, content=Content.HTML)
    yield Trouble(when="after", status=200, content=Content.HTML)
    yield Trouble(when="after", status=200, content=Content.CUT)
    yield Trouble(when="after", status=201, content=Content.CUT)
    yield Trouble(when="after", status=200, content=Content.NONE)
    yield Trouble(when="after", status=200, content=Content.BIG)
    yield Trouble(when="before", status=200, content=Content.TEXT)
    yield Trouble(when="before", status=200, content=Content.OBJECT)
    yield Trouble(when="after", status=200, content=Content.OBJECT)


STATUSES = (
    200, 201, 202, 204, 301, 307, 308, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 415, 422, 423, 429, 500, 502,
    503, 504,
)  # fmt: skip


_MOMENTS: tuple[When, ...] = ("before", "after", "late", "too late")


def every() -> Iterator[Trouble]:
    """The full product: 25 statuses, four moments, five contents; and what has no status."""
    known = set()
    for one in everyday():
        known.add(one)
        yield one
    for status in STATUSES:
        for when in _MOMENTS:
            for content in (Content.NONE, Content.HTML, Content.CUT, Content.TEXT, Content.OBJECT):
                one = Trouble(when=when, status=status, content=content)
                if one not in known:
                    yield one
    yield Trouble(when="after", status=500, content=Content.BIG)


def at(place: Place, troubles: Iterable[Trouble]) -> list[Trouble]:
    """The troubles that differ at this place: where nothing takes effect, before and after are the same."""
    if place is Place.ITSELF:
        return list(troubles)
    same: dict[When, When] = {"after": "before", "too late": "late"}
    return list(dict.fromkeys(replace(one, when=same.get(one.when, one.when)) for one in troubles))


def right_classes(
    trouble: Trouble, place: Place, *, creates: bool, idempotent: bool, names_issue: bool
) -> frozenset[Outcome]:
    """The classes that are right where this trouble met a request.

    ``names_issue``: the request's address names the issue, so that its 404 says something about the issue.
    """
    found = _right(trouble, place, creates=creates, idempotent=idempotent, names_issue=names_issue)
    if trouble.lies and place is Place.ITSELF:
        # a plugin may look again and see through it
        found |= {Outcome.UNKNOWN, Outcome.UNAVAILABLE, Outcome.CONFLICT}
    return found


def _right(  # noqa: C901 - a decision table
    trouble: Trouble, place: Place, *, creates: bool, idempotent: bool, names_issue: bool
) -> frozenset[Outcome]:
    status = trouble.status
    surely = place in (Place.READ, Place.BEFORE) or idempotent
    if trouble.when == "refused" and place is not Place.AFTER:
        return frozenset({Outcome.UNAVAILABLE})
    if place is Place.AFTER:
        # the thing is made: whatever comes now, another one must not be
        return (
            frozenset({Outcome.UNAVAILABLE, Outcome.UNKNOWN}) if idempotent else frozenset({Outcome.UNKNOWN})
        )
    if trouble.is_late or status is None or status < 300 or status >= 500 or status == 408:
        found = {Outcome.UNAVAILABLE, Outcome.UNKNOWN} if surely else {Outcome.UNKNOWN}
        if surely and trouble.asks:
            found.add(Outcome.RATE_LIMITED)
        if surely and place is not Place.ITSELF and status is not None and status < 300:
            found.add(Outcome.MISCONFIGURED)  # an address that answers, and is not the API
        return frozenset(found)
    if status < 400:
        return frozenset({Outcome.MOVED, Outcome.MISCONFIGURED})
    if status in (404, 410):
        found = {Outcome.MISCONFIGURED}
        if place is not Place.ITSELF:
            found |= {Outcome.UNAVAILABLE, Outcome.UNKNOWN}
        if names_issue and not creates:
            found.add(Outcome.ORPHAN)
        return frozenset(found)
    if status == 412:
        return frozenset({Outcome.UNKNOWN, Outcome.UNAVAILABLE, Outcome.REFUSED, Outcome.CONFLICT})
    if status in (400, 413, 415, 422):
        found = {Outcome.REFUSED}
        if place is not Place.ITSELF:
            found.add(Outcome.MISCONFIGURED)
        return frozenset(found)
    plain = {401: Outcome.AUTH, 403: Outcome.MISCONFIGURED, 405: Outcome.MISCONFIGURED, 409: Outcome.CONFLICT}
    return frozenset({{**plain, 423: Outcome.MISCONFIGURED, 429: Outcome.RATE_LIMITED}[status]})
