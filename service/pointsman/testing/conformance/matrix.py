"""One cell of the matrix: one operation, one of its requests, one fault, and the plugin's reaction."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pointsman.domain.retry_policy import Outcome, RetryDecision, classify_error
from pointsman.plugin_api import PluginError, RateLimited, Tracker
from pointsman.testing.conformance.faults import (
    RETRY_AFTER_SECONDS,
    FaultCase,
    RequestRole,
    correct_outcomes,
    faults_for,
)
from pointsman.testing.conformance.harness import Harness, SentRequest, canaries
from pointsman.testing.conformance.log_capture import visible_text
from pointsman.testing.conformance.operations import Operation, Subject
from pointsman.testing.conformance.spec import TrackerCase

CONCURRENCY = 8
LATE_CONCURRENCY = 16
CELL_TIMEOUT_SECONDS = 30.0
NOT_APPLIED_STATUSES = (400, 413, 415, 422)
"""After these a plugin may send a simpler form at once."""

Aspect = Literal["outcome", "once", "retry", "secret"]


@dataclass(slots=True)
class Cell:
    """The result of one cell. ``problems`` is empty if all is correct."""

    operation: str
    request: str
    role: RequestRole
    fault: FaultCase
    outcome: str = ""
    """The outcome that the core derives, ``done`` included."""
    error: str = ""
    applied: bool = False
    sends: int = 0
    problems: list[tuple[Aspect, str]] = field(default_factory=list)

    def add_problem(self, aspect: Aspect, why: str) -> None:
        """Add a problem."""
        self.problems.append((aspect, why))

    def problem_lines(self, aspect: Aspect) -> list[str]:
        """Return the problems of one aspect, a line each."""
        return [
            f"{self.operation} / {self.request} / {self.fault}: {why}"
            for problem_aspect, why in self.problems
            if problem_aspect == aspect
        ]


@dataclass(slots=True, frozen=True)
class RequestStep:
    """A request that an operation sends when nothing goes wrong."""

    role: RequestRole
    request: str
    names_issue: bool
    times: int
    """How often the operation sends it."""


@dataclass(slots=True)
class Grid:
    """All cells of one operation; ``broken`` says why there are none, ``logged`` what was wrong with the log."""

    cells: list[Cell] = field(default_factory=list)
    broken: str = ""
    logged: list[str] = field(default_factory=list)


async def run_matrix(case: TrackerCase, call: Operation, fault_cases: Iterable[FaultCase]) -> Grid:
    """Inject every fault into every request of an operation, each on a harness of its own."""
    try:
        steps = await _run_without_fault(case, call)
    except Exception as error:  # noqa: BLE001 - plugin code
        return Grid(broken=f"{call.name} fails without any fault: {type(error).__name__}: {error}")
    known = list(fault_cases)
    busy, waiting = asyncio.Semaphore(CONCURRENCY), asyncio.Semaphore(LATE_CONCURRENCY)

    async def run_cell(number: int, step: RequestStep, fault_case: FaultCase) -> Cell:
        async with waiting if fault_case.is_late else busy:
            return await _run_cell(case, call, number, step, fault_case)

    plan = [
        (number, step, fault_case)
        for number, step in enumerate(steps)
        for fault_case in faults_for(step.role, known)
    ]
    return Grid(list(await asyncio.gather(*(run_cell(*each) for each in plan))))


async def _run_without_fault(case: TrackerCase, call: Operation) -> list[RequestStep]:
    """Return the requests of an operation, and which one takes effect: the double is examined after each."""
    async with Harness.open(case) as harness:
        subject = await call.prepare(harness)
        tracker = harness.tracker()
        wire = harness.client_of(tracker)
        effects: list[int] = []

        async def look() -> None:
            effects.append(await call.count_effects(harness.double, subject))

        wire.after_each = look
        value = await call.run(tracker, subject)
        why = await call.find_error(value, harness.double, subject)
        assert not why, why
        if call.writes:
            assert effects, "it made no request"
            assert effects[-1], "it took no effect"
        itself = next((number for number, count in enumerate(effects) if count), None)
        return [
            RequestStep(
                role=_role(number, itself),
                request=_template(sent, subject),
                names_issue=_names(sent, subject),
                times=sum(_same(sent, repeated) for repeated in wire.sent),
            )
            for number, sent in enumerate(wire.sent)
        ]


def _role(number: int, itself: int | None) -> RequestRole:
    if itself is None:
        return RequestRole.READ
    return (
        RequestRole.BEFORE
        if number < itself
        else RequestRole.EFFECT
        if number == itself
        else RequestRole.AFTER
    )


def _segments(sent: SentRequest) -> list[str]:
    return sent.label.split(" ", 1)[1].split("/")


def _names(sent: SentRequest, subject: Subject) -> bool:
    return subject.ref is not None and bool({subject.ref.remote_id, subject.ref.key} & set(_segments(sent)))


def _template(sent: SentRequest, subject: Subject) -> str:
    ours = {subject.ref.remote_id, subject.ref.key} if subject.ref is not None else set()
    return f"{sent.method} " + "/".join("{issue}" if part in ours else part for part in _segments(sent))


async def _run_cell(
    case: TrackerCase, call: Operation, number: int, step: RequestStep, fault_case: FaultCase
) -> Cell:
    cell = Cell(call.name, step.request, step.role, fault_case)
    try:
        async with asyncio.timeout(CELL_TIMEOUT_SECONDS), Harness.open(case) as harness:
            subject = await call.prepare(harness)
            tracker = harness.tracker()
            harness.client_of(tracker).fault_at = (number, fault_case)
            verdict = await _call_with_fault(cell, call, harness, tracker, subject, step, number)
            if call.writes:
                await _recover(cell, call, harness, subject, verdict)
    except Exception as error:  # noqa: BLE001 - plugin code
        cell.outcome = cell.outcome or "broken"
        cell.add_problem("outcome", f"afterwards: {type(error).__name__}: {error}")
    return cell


async def _call_with_fault(
    cell: Cell,
    call: Operation,
    harness: Harness,
    tracker: Tracker,
    subject: Subject,
    step: RequestStep,
    number: int,
) -> RetryDecision | None:
    """Run the operation with the fault. Return the core's decision, None if the plugin reports success."""
    value: Any = None
    error: Exception | None = None
    try:
        value = await call.run(tracker, subject)
    except Exception as raised:  # noqa: BLE001 - plugin code
        error = raised
    wire = harness.client_of(tracker)
    await wire.wait_until_settled()
    count = await call.count_effects(harness.double, subject)
    cell.applied = count > 0
    _count_sends(cell, wire.sent, number, step)
    for secret in canaries(harness.case, harness.settings):
        if secret in visible_text(error if error is not None else value):
            cell.add_problem("secret", f"a secret shows in {type(error or value).__name__}")
    if not wire.fault_met:
        cell.add_problem("outcome", "the request never came: the plugin does something else each time")
    if error is None:
        cell.outcome = Outcome.DONE
        why = await _false_success(cell, call, harness, subject, value)
        if why:
            cell.add_problem("outcome", why)
        return None
    verdict = classify_error(
        error,
        creates=call.creates,
        idempotent=call.idempotent,
        attempts=1,
        destination_failures=0,
        jitter=0.5,
    )
    cell.outcome, cell.error = verdict.outcome, type(error).__name__
    _check_outcome(cell, call, harness.case, step, error, verdict)
    return verdict


async def _false_success(cell: Cell, call: Operation, harness: Harness, subject: Subject, value: Any) -> str:
    """Return why the plugin may not report success here, empty if it may."""
    if call.writes and not cell.applied:
        # an empty response may be a success on this tracker, which can't be distinguished
        plausible = not cell.fault.is_foreign and cell.fault.status in (200, 201, 202, 204)
        return "" if plausible and not call.creates else "says done, and nothing was done"
    why = await call.find_error(value, harness.double, subject)
    return f"says done: {why}" if why else ""


def _check_outcome(
    cell: Cell,
    call: Operation,
    case: TrackerCase,
    step: RequestStep,
    error: Exception,
    verdict: RetryDecision,
) -> None:
    label = f"{type(error).__name__} ({verdict.outcome})"
    if not isinstance(error, PluginError):
        cell.add_problem("outcome", f"raised {label}: {error}; that is none of the contract's errors")
        return
    fault_case = cell.fault
    right = correct_outcomes(
        fault_case,
        step.role,
        creates=call.creates,
        idempotent=call.idempotent,
        names_issue=step.names_issue or not call.about_issue,
    )
    means = case.accepted_outcomes.get((call.name, fault_case.status or 0), frozenset())
    if verdict.outcome not in right and verdict.outcome not in means:
        wanted = " or ".join(sorted(right | {Outcome(outcome) for outcome in means}))
        cell.add_problem("outcome", f"raised {label}: {error}; right is {wanted}")
    elif (
        cell.applied and not call.idempotent and not verdict.outcome_unknown and not fault_case.is_misleading
    ):
        cell.add_problem("outcome", f"raised {label}, as if nothing had been done; it was")
    if (
        isinstance(error, RateLimited)
        and fault_case.has_retry_after
        and error.retry_after != RETRY_AFTER_SECONDS
    ):
        cell.add_problem(
            "outcome", f"asks to wait {error.retry_after} s, the answer said {RETRY_AFTER_SECONDS}"
        )


def _same(first: SentRequest, second: SentRequest) -> bool:
    return (first.method, first.path, first.content) == (second.method, second.path, second.content)


def _count_sends(cell: Cell, sent: Sequence[SentRequest], number: int, step: RequestStep) -> None:
    """Check that nothing is sent twice, except a simpler form after a response which proves that nothing was done."""
    if number >= len(sent):
        return
    met, most = sent[number], step.times
    if step.role is RequestRole.EFFECT:
        # here a request with another content is a retry all the same
        cell.sends = sum((request.method, request.path) == (met.method, met.path) for request in sent)
        most += met.status in NOT_APPLIED_STATUSES
    else:
        cell.sends = sum(_same(request, met) for request in sent)
    if cell.sends > most:
        cell.add_problem("retry", f"{met.label} was sent {cell.sends} times within one call")


async def _recover(
    cell: Cell, call: Operation, harness: Harness, subject: Subject, verdict: RetryDecision | None
) -> None:
    """Do what the core does next: verify an unknown outcome, repeat what was not done. In the end it exists once."""
    if cell.fault.is_misleading:
        return
    tracker = harness.tracker()
    there = await call.count_effects(harness.double, subject)
    if call.idempotent:
        if verdict is None and not there:
            return  # a response that looks like success; the next reconcile run detects it
        repeat = verdict is not None
    else:
        can_find = harness.case.tracker.capabilities.find
        matches = len(await call.search(tracker, subject)) if can_find else there
        if matches != there:
            cell.add_problem("once", f"the marker is found {matches} times, it is there {there} times")
        repeat = verdict is not None and (not verdict.outcome_unknown or (can_find and not matches))
        if verdict is not None and verdict.outcome_unknown and not can_find and not there:
            return  # it waits for a person
    if repeat:
        await call.run(tracker, subject)
    count = await call.count_effects(harness.double, subject)
    if count != 1:
        cell.add_problem("once", f"in the end it is there {count} times")
