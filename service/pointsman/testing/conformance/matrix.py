"""One cell: one call of the contract, one of its requests, one trouble; what the plugin makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pointsman.domain.retry_policy import Outcome, RetryDecision, classify_error
from pointsman.plugin_api import PluginError, RateLimited, Tracker
from pointsman.testing.conformance.faults import ASKED_SECONDS, Place, Trouble, at, right_classes
from pointsman.testing.conformance.harness import Sent, Stage, canaries
from pointsman.testing.conformance.log_capture import shown_by
from pointsman.testing.conformance.operations import Call, Scene
from pointsman.testing.conformance.spec import TrackerCase

AT_ONCE = 8
WAITING_AT_ONCE = 16
GIVE_UP_SECONDS = 30.0
PROVES_NOTHING_DONE = (400, 413, 415, 422)
"""After these a plugin may send a plainer form at once."""

Aspect = Literal["class", "once", "retry", "secret"]


@dataclass(slots=True)
class Cell:
    """What came of one cell. ``problems`` is empty if all is right."""

    call: str
    request: str
    place: Place
    trouble: Trouble
    outcome: str = ""
    """The class of outcome that the core sees, ``done`` included."""
    error: str = ""
    applied: bool = False
    sends: int = 0
    problems: list[tuple[Aspect, str]] = field(default_factory=list)

    def wrong(self, aspect: Aspect, why: str) -> None:
        """Note a problem."""
        self.problems.append((aspect, why))

    def says(self, aspect: Aspect) -> list[str]:
        """The problems of one aspect, each as a line."""
        return [
            f"{self.call} / {self.request} / {self.trouble}: {why}"
            for one, why in self.problems
            if one == aspect
        ]


@dataclass(slots=True, frozen=True)
class Step:
    """A request that a call makes when nothing goes wrong."""

    place: Place
    request: str
    names_issue: bool
    times: int
    """How often the call makes it."""


@dataclass(slots=True)
class Grid:
    """All cells of one call; ``broken`` says why there are none, ``logged`` what was wrong with the log."""

    cells: list[Cell] = field(default_factory=list)
    broken: str = ""
    logged: list[str] = field(default_factory=list)


async def try_all(case: TrackerCase, call: Call, troubles: Iterable[Trouble]) -> Grid:
    """Every request of a call meets every trouble, each on a stage of its own."""
    try:
        steps = await _rehearse(case, call)
    except Exception as error:  # noqa: BLE001 - a stranger's code
        return Grid(broken=f"{call.name} fails without any trouble: {type(error).__name__}: {error}")
    known = list(troubles)
    busy, waiting = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(WAITING_AT_ONCE)

    async def one(number: int, step: Step, trouble: Trouble) -> Cell:
        async with waiting if trouble.is_late else busy:
            return await _try(case, call, number, step, trouble)

    plan = [(number, step, trouble) for number, step in enumerate(steps) for trouble in at(step.place, known)]
    return Grid(list(await asyncio.gather(*(one(*each) for each in plan))))


async def _rehearse(case: TrackerCase, call: Call) -> list[Step]:
    """The requests of a call, and which one takes effect: found by looking at the double after each."""
    async with Stage.open(case) as stage:
        scene = await call.prepare(stage)
        tracker = stage.tracker()
        wire = stage.wire(tracker)
        effects: list[int] = []

        async def look() -> None:
            effects.append(await call.effects(stage.double, scene))

        wire.after_each = look
        value = await call.run(tracker, scene)
        why = await call.wrong(value, stage.double, scene)
        assert not why, why
        if call.writes:
            assert effects, "it made no request"
            assert effects[-1], "it took no effect"
        itself = next((number for number, count in enumerate(effects) if count), None)
        return [
            Step(
                place=_place(number, itself),
                request=_template(one, scene),
                names_issue=_names(one, scene),
                times=sum(_same(one, other) for other in wire.sent),
            )
            for number, one in enumerate(wire.sent)
        ]


def _place(number: int, itself: int | None) -> Place:
    if itself is None:
        return Place.READ
    return Place.BEFORE if number < itself else Place.ITSELF if number == itself else Place.AFTER


def _segments(sent: Sent) -> list[str]:
    return sent.said.split(" ", 1)[1].split("/")


def _names(sent: Sent, scene: Scene) -> bool:
    return scene.ref is not None and bool({scene.ref.remote_id, scene.ref.key} & set(_segments(sent)))


def _template(sent: Sent, scene: Scene) -> str:
    ours = {scene.ref.remote_id, scene.ref.key} if scene.ref is not None else set()
    return f"{sent.method} " + "/".join("{issue}" if part in ours else part for part in _segments(sent))


async def _try(case: TrackerCase, call: Call, number: int, step: Step, trouble: Trouble) -> Cell:
    cell = Cell(call.name, step.request, step.place, trouble)
    try:
        async with asyncio.timeout(GIVE_UP_SECONDS), Stage.open(case) as stage:
            scene = await call.prepare(stage)
            tracker = stage.tracker()
            stage.wire(tracker).trouble_at = (number, trouble)
            verdict = await _meet(cell, call, stage, tracker, scene, step, number)
            if call.writes:
                await _go_on(cell, call, stage, scene, verdict)
    except Exception as error:  # noqa: BLE001 - a stranger's code
        cell.outcome = cell.outcome or "broken"
        cell.wrong("class", f"afterwards: {type(error).__name__}: {error}")
    return cell


async def _meet(
    cell: Cell, call: Call, stage: Stage, tracker: Tracker, scene: Scene, step: Step, number: int
) -> RetryDecision | None:
    """The call in trouble. Gives the core's verdict, None if the plugin says that all went well."""
    value: Any = None
    error: Exception | None = None
    try:
        value = await call.run(tracker, scene)
    except Exception as raised:  # noqa: BLE001 - a stranger's code
        error = raised
    wire = stage.wire(tracker)
    await wire.settled()
    count = await call.effects(stage.double, scene)
    cell.applied = count > 0
    _count_sends(cell, wire.sent, number, step)
    for secret in canaries(stage.case, stage.settings):
        if secret in shown_by(error if error is not None else value):
            cell.wrong("secret", f"a secret shows in {type(error or value).__name__}")
    if not wire.met:
        cell.wrong("class", "the request never came: the plugin does something else each time")
    if error is None:
        cell.outcome = Outcome.DONE
        why = await _unfounded(cell, call, stage, scene, value)
        if why:
            cell.wrong("class", why)
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
    _judge_class(cell, call, stage.case, step, error, verdict)
    return verdict


async def _unfounded(cell: Cell, call: Call, stage: Stage, scene: Scene, value: Any) -> str:
    """Why a plugin may not say "done" here, empty if it may."""
    if call.writes and not cell.applied:
        # an empty answer may be what success looks like here, and then nobody can tell
        plausible = not cell.trouble.is_odd and cell.trouble.status in (200, 201, 202, 204)
        return "" if plausible and not call.creates else "says done, and nothing was done"
    why = await call.wrong(value, stage.double, scene)
    return f"says done: {why}" if why else ""


def _judge_class(
    cell: Cell, call: Call, case: TrackerCase, step: Step, error: Exception, verdict: RetryDecision
) -> None:
    said = f"{type(error).__name__} ({verdict.outcome})"
    if not isinstance(error, PluginError):
        cell.wrong("class", f"raised {said}: {error}; that is none of the contract's errors")
        return
    trouble = cell.trouble
    right = right_classes(
        trouble,
        step.place,
        creates=call.creates,
        idempotent=call.idempotent,
        names_issue=step.names_issue or not call.about_issue,
    )
    means = case.means.get((call.name, trouble.status or 0), frozenset())
    if verdict.outcome not in right and verdict.outcome not in means:
        wanted = " or ".join(sorted(right | {Outcome(one) for one in means}))
        cell.wrong("class", f"raised {said}: {error}; right is {wanted}")
    elif cell.applied and not call.idempotent and not verdict.outcome_unknown and not trouble.lies:
        cell.wrong("class", f"raised {said}, as if nothing had been done; it was")
    if isinstance(error, RateLimited) and trouble.asks and error.retry_after != ASKED_SECONDS:
        cell.wrong("class", f"asks to wait {error.retry_after} s, the answer said {ASKED_SECONDS}")


def _same(one: Sent, other: Sent) -> bool:
    return (one.method, one.path, one.content) == (other.method, other.path, other.content)


def _count_sends(cell: Cell, sent: Sequence[Sent], number: int, step: Step) -> None:
    """Nothing is sent twice, but for a plainer form after an answer which proves that nothing was done."""
    if number >= len(sent):
        return
    met, most = sent[number], step.times
    if step.place is Place.ITSELF:
        # here another content is a try again all the same
        cell.sends = sum((one.method, one.path) == (met.method, met.path) for one in sent)
        most += met.status in PROVES_NOTHING_DONE
    else:
        cell.sends = sum(_same(one, met) for one in sent)
    if cell.sends > most:
        cell.wrong("retry", f"{met.said} was sent {cell.sends} times within one call")


async def _go_on(cell: Cell, call: Call, stage: Stage, scene: Scene, verdict: RetryDecision | None) -> None:
    """What the core does next: look if it is in doubt, do again what was not found. In the end it is there once."""
    if cell.trouble.lies:
        return
    tracker = stage.tracker()
    there = await call.effects(stage.double, scene)
    if call.idempotent:
        if verdict is None and not there:
            return  # an answer that looks like success; the next reconcile run finds out
        again = verdict is not None
    else:
        can_find = stage.case.tracker.capabilities.find
        found = len(await call.look(tracker, scene)) if can_find else there
        if found != there:
            cell.wrong("once", f"the marker is found {found} times, it is there {there} times")
        again = verdict is not None and (not verdict.outcome_unknown or (can_find and not found))
        if verdict is not None and verdict.outcome_unknown and not can_find and not there:
            return  # it waits for a person
    if again:
        await call.run(tracker, scene)
    count = await call.effects(stage.double, scene)
    if count != 1:
        cell.wrong("once", f"in the end it is there {count} times")
