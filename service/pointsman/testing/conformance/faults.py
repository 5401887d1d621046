"""Faults that one request can meet, and the correct outcomes after each."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from pointsman.domain.retry_policy import Outcome
from pointsman.testing.fake import Fault

LATE_SECONDS = 0.3
"""The timeout of a plugin's request when the response is late; the double takes longer."""
REPETITIONS = 2
"""How many requests meet a fault: a plugin that repeats one must not succeed by it."""
RETRY_AFTER_SECONDS = 7
"""The value of ``Retry-After`` in the suite."""
REDIRECT_TARGET = "http://elsewhere.invalid/moved"
"""The target of redirects in the suite: another origin, where no request may follow."""

Timing = Literal["refused", "before", "after", "late", "too late"]
"""``before``: the request does not take effect. ``after``: it takes effect before the fault. ``late``: it takes
effect and no response comes in time. ``too late``: it takes effect only after the caller gave up.
"""


class RequestRole(enum.Enum):
    """The role of the faulty request in an operation."""

    READ = "a request of a call that only reads"
    BEFORE = "a request before the one that takes effect"
    EFFECT = "the request that takes effect"
    AFTER = "a request after the one that took effect"


class Content(enum.Enum):
    """The body of a faulty response."""

    NONE = b""
    ERROR = b'{"message": "no"}'
    HTML = b"<!doctype html><html><title>Sign in</title><body>Please sign in to go on.</body></html>"
    CUT = b'{"id": 12, "number": 12, "key": "OPS-1'
    TEXT = b'"under maintenance"'
    OBJECT = b'{"status": "under maintenance"}'
    BIG = b"x"
    """This, ten million times."""

    @property
    def body(self) -> bytes:
        """Return its bytes."""
        body: bytes = self.value
        return body * 10**7 if self is Content.BIG else body

    @property
    def type(self) -> str:
        """Return its media type."""
        return "text/html" if self is Content.HTML else "application/json"

    @property
    def is_foreign(self) -> bool:
        """Return whether no tracker's API ever responds like this."""
        return self not in (Content.NONE, Content.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultCase:
    """A fault of one request. Without a status the connection is cut, refused, or silent."""

    timing: Timing
    status: int | None = None
    content: Content = Content.NONE
    has_retry_after: bool = False
    """Whether the response has ``Retry-After``."""
    quotes_request: bool = False
    """Whether the body contains the headers of the request, its credential included."""

    def __str__(self) -> str:
        """Return its name in the report."""
        if self.timing == "refused":
            return "connection refused"
        if self.status is None:
            names = {"before": "cut before", "after": "applied, then cut", "late": "applied, silent"}
            return names.get(self.timing, "silent, applied later")
        text = str(self.status) + (" retry-after" if self.has_retry_after else "")
        text += " quoting the request" if self.quotes_request else ""
        if self.content not in (Content.NONE, Content.ERROR):
            text += f" {self.content.name.lower()}"
        elif self.status < 300 or self.content is Content.NONE:
            text += " empty"
        lead = {"after": "applied, then ", "late": "applied, silent, then ", "too late": "silent, then "}
        return lead.get(self.timing, "") + text

    @property
    def is_late(self) -> bool:
        """Return whether the caller waits in vain."""
        return self.timing in ("late", "too late")

    @property
    def is_foreign(self) -> bool:
        """Return whether the response is not from the tracker's own API; a 204 has no content, whatever was meant."""
        return self.status is None or (self.content.is_foreign and self.status != 204)

    @property
    def is_misleading(self) -> bool:
        """Return whether the response says "not done" about something that was done: nobody can recognize that."""
        return (
            self.timing == "after"
            and self.status is not None
            and 300 <= self.status < 500
            and self.status != 408
        )

    def fault(self) -> Fault:
        """Return the double's fault for this case."""
        headers = {"Content-Type": self.content.type}
        if self.has_retry_after:
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        if self.status is not None and 300 <= self.status < 400:
            headers["Location"] = REDIRECT_TARGET
        return Fault(
            status=self.status,
            body=self.content.body,
            headers=headers,
            reset=self.status is None and not self.is_late,
            hang_seconds=100 * LATE_SECONDS if self.is_late else 0.0,
            applied=self.timing in ("after", "late"),
            quotes_request=self.quotes_request,
            times=REPETITIONS,
        )


def standard_faults() -> Iterator[FaultCase]:
    """Yield the standard list."""
    yield FaultCase(timing="refused")
    yield FaultCase(timing="before")
    yield FaultCase(timing="after")
    yield FaultCase(timing="late")
    yield FaultCase(timing="too late")
    for status in (500, 502, 503, 504):
        content = Content.ERROR if status == 500 else Content.HTML
        yield FaultCase(timing="before", status=status, content=content)
        yield FaultCase(timing="after", status=status, content=content)
    yield FaultCase(timing="before", status=503, content=Content.ERROR, has_retry_after=True)
    yield FaultCase(timing="after", status=503, content=Content.ERROR, has_retry_after=True)
    yield FaultCase(timing="before", status=429, content=Content.ERROR)
    yield FaultCase(timing="before", status=429, content=Content.ERROR, has_retry_after=True)
    for status in (400, 401, 403, 404, 409, 410, 422, 423, 301):
        yield FaultCase(timing="before", status=status, content=Content.ERROR)
    for status in (401, 422):
        yield FaultCase(timing="before", status=status, content=Content.ERROR, quotes_request=True)
    yield FaultCase(timing="after", status=500, content=Content.ERROR, quotes_request=True)
    yield FaultCase(timing="before", status=200, content=Content.HTML)
    yield FaultCase(timing="after", status=200, content=Content.HTML)
    yield FaultCase(timing="after", status=200, content=Content.CUT)
    yield FaultCase(timing="after", status=201, content=Content.CUT)
    yield FaultCase(timing="after", status=200, content=Content.NONE)
    yield FaultCase(timing="after", status=200, content=Content.BIG)
    yield FaultCase(timing="before", status=200, content=Content.TEXT)
    yield FaultCase(timing="before", status=200, content=Content.OBJECT)
    yield FaultCase(timing="after", status=200, content=Content.OBJECT)


STATUSES = (
    200, 201, 202, 204, 301, 307, 308, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 415, 422, 423, 429, 500, 502,
    503, 504,
)  # fmt: skip


_TIMINGS: tuple[Timing, ...] = ("before", "after", "late", "too late")


def all_faults() -> Iterator[FaultCase]:
    """Yield the full product: 25 statuses, four timings, five contents; and the faults without a status."""
    known = set()
    for case in standard_faults():
        known.add(case)
        yield case
    for status in STATUSES:
        for when in _TIMINGS:
            for content in (Content.NONE, Content.HTML, Content.CUT, Content.TEXT, Content.OBJECT):
                case = FaultCase(timing=when, status=status, content=content)
                if case not in known:
                    yield case
    yield FaultCase(timing="after", status=500, content=Content.BIG)


def faults_for(place: RequestRole, fault_cases: Iterable[FaultCase]) -> list[FaultCase]:
    """Return the faults that differ for this role: where nothing takes effect, before and after are the same."""
    if place is RequestRole.EFFECT:
        return list(fault_cases)
    same: dict[Timing, Timing] = {"after": "before", "too late": "late"}
    return list(
        dict.fromkeys(replace(case, timing=same.get(case.timing, case.timing)) for case in fault_cases)
    )


def correct_outcomes(
    fault_case: FaultCase, place: RequestRole, *, creates: bool, idempotent: bool, names_issue: bool
) -> frozenset[Outcome]:
    """Return the outcomes that are correct after this fault of a request.

    ``names_issue``: the request's path names the issue, so that its 404 says something about the issue.
    """
    outcomes = _correct_outcomes(
        fault_case, place, creates=creates, idempotent=idempotent, names_issue=names_issue
    )
    if fault_case.is_misleading and place is RequestRole.EFFECT:
        # a plugin may read again and detect it
        outcomes |= {Outcome.UNKNOWN, Outcome.UNAVAILABLE, Outcome.CONFLICT}
    return outcomes


def _correct_outcomes(  # noqa: C901, PLR0912 - a decision table
    fault_case: FaultCase, place: RequestRole, *, creates: bool, idempotent: bool, names_issue: bool
) -> frozenset[Outcome]:
    status = fault_case.status
    certain = place in (RequestRole.READ, RequestRole.BEFORE) or idempotent
    if fault_case.timing == "refused" and place is not RequestRole.AFTER:
        return frozenset({Outcome.UNAVAILABLE})
    if place is RequestRole.AFTER:
        # the issue or comment exists: it must not be created again
        return (
            frozenset({Outcome.UNAVAILABLE, Outcome.UNKNOWN}) if idempotent else frozenset({Outcome.UNKNOWN})
        )
    if fault_case.is_late or status is None or status < 300 or status >= 500 or status == 408:
        outcomes = {Outcome.UNAVAILABLE, Outcome.UNKNOWN} if certain else {Outcome.UNKNOWN}
        if certain and fault_case.has_retry_after:
            outcomes.add(Outcome.RATE_LIMITED)
        if certain and place is not RequestRole.EFFECT and status is not None and status < 300:
            outcomes.add(Outcome.MISCONFIGURED)  # a server that responds and is not the API
        return frozenset(outcomes)
    if status < 400:
        return frozenset({Outcome.MOVED, Outcome.MISCONFIGURED})
    if status in (404, 410):
        outcomes = {Outcome.MISCONFIGURED}
        if place is not RequestRole.EFFECT:
            outcomes |= {Outcome.UNAVAILABLE, Outcome.UNKNOWN}
        if names_issue and not creates:
            outcomes.add(Outcome.ORPHAN)
        return frozenset(outcomes)
    if status == 412:
        return frozenset({Outcome.UNKNOWN, Outcome.UNAVAILABLE, Outcome.REFUSED, Outcome.CONFLICT})
    if status in (400, 413, 415, 422):
        outcomes = {Outcome.REFUSED}
        if place is not RequestRole.EFFECT:
            outcomes.add(Outcome.MISCONFIGURED)
        return frozenset(outcomes)
    if status in (403, 405, 423):
        # whether one issue or the whole place is concerned, only the tracker's own words can say
        return frozenset(
            {Outcome.MISCONFIGURED, Outcome.BLOCKED}
            if names_issue and not creates
            else {Outcome.MISCONFIGURED}
        )
    plain = {401: Outcome.AUTH, 409: Outcome.CONFLICT, 429: Outcome.RATE_LIMITED}
    return frozenset({plain[status]})
