"""What is a repeat and what is news: the state table, and any sequence of reports against a model of the truth."""

from __future__ import annotations

import random
import uuid

import pytest

from pointsman.domain.repeats import SETTLE_SECONDS, KeyBasis, ProblemState, is_news
from pointsman.domain.states import TicketKind, TicketStatus
from pointsman.domain.ticket import Changes, DeliveryTargets, Ticket, apply_report, apply_state
from pointsman.plugin_api import Report

REQUEST, STATE, BODY = KeyBasis.REQUEST, KeyBasis.STATE, KeyBasis.BODY
SOON, LATER, DAYS = SETTLE_SECONDS - 1, SETTLE_SECONDS, 8 * 86400


def problem(*, is_open: bool = True, resolved: bool = False, seconds: float = DAYS) -> ProblemState:
    return ProblemState(
        is_open=is_open,
        resolved=resolved,
        state_seconds=seconds,
        closed_seconds=0.0 if is_open else seconds,
        key_seconds=seconds,
    )


@pytest.mark.parametrize(
    ("action", "basis", "state", "expected"),
    [
        ("opened", REQUEST, problem(is_open=False, resolved=True), False),
        ("resolved", REQUEST, problem(), False),
        ("opened", STATE, problem(), False),
        ("opened", STATE, problem(is_open=False), False),
        ("opened", STATE, problem(resolved=True, seconds=SOON), False),
        ("opened", STATE, problem(resolved=True, seconds=LATER), True),
        ("opened", STATE, problem(is_open=False, resolved=True, seconds=LATER), True),
        ("resolved", STATE, problem(resolved=True), False),
        ("resolved", STATE, problem(seconds=SOON), False),
        ("resolved", STATE, problem(seconds=LATER), True),
        ("opened", BODY, problem(), False),
        ("opened", BODY, problem(is_open=False, seconds=SOON), False),
        ("opened", BODY, problem(is_open=False, seconds=LATER), True),
        ("opened", BODY, problem(resolved=True, seconds=0), True),
        ("resolved", BODY, problem(seconds=0), True),
        ("resolved", BODY, problem(resolved=True), False),
        ("commented", BODY, problem(is_open=False), False),
        ("test", BODY, problem(is_open=False), False),
        ("opened", STATE, None, False),
        ("resolved", BODY, None, False),
    ],
)
def test_the_state_table(action: str, basis: KeyBasis, state: ProblemState | None, expected: bool):
    assert is_news(action, basis, state, SETTLE_SECONDS) is expected


@pytest.mark.parametrize("basis", [STATE, BODY])
def test_a_repeat_counts_if_a_ticket_without_an_issue_may_get_one(basis: KeyBasis):
    waiting = ProblemState(is_open=True, resolved=False, waits_for_issue=True)
    assert is_news("opened", basis, waiting, SETTLE_SECONDS, has_route=True)
    assert not is_news("opened", basis, waiting, SETTLE_SECONDS)
    assert not is_news("opened", REQUEST, waiting, SETTLE_SECONDS, has_route=True)
    assert not is_news("commented", basis, waiting, SETTLE_SECONDS, has_route=True)


class World:
    """One problem whose reports pass through the rule, with a clock of seconds."""

    def __init__(self, basis: KeyBasis) -> None:
        self.basis, self.now = basis, 0.0
        self.ticket: Ticket | None = None
        self.keys: dict[str, float] = {}
        self.reported_at = self.closed_at = 0.0
        self.events: list[str] = []

    def report(self, action: str, key: str) -> bool:
        """Accept a report; return whether it was news."""
        ticket = self.ticket
        known = self.keys.get(key)
        self.keys[key] = self.now
        if known is not None and not is_news(
            action, self.basis, self._state(known), settle_seconds=SETTLE_SECONDS
        ):
            return False
        if ticket is None:
            if action == "resolved":
                return True
            ticket = self.ticket = Ticket(
                uuid.uuid4(), 1, TicketKind.ALERT, "f", 1, TicketStatus.OPEN, None, 1
            )
        reason = "completed" if action == "resolved" else None
        report = Report(action=action, fingerprint="f", title="It fails", close_reason=reason)
        changes, before = Changes(), ticket.reported_resolved
        was_open = ticket.status is TicketStatus.OPEN
        apply_report(ticket, report, uuid.uuid4(), DeliveryTargets((1,), None), changes)
        self._note(changes, was_open)
        if ticket.reported_resolved is not before:
            self.reported_at = self.now
        return True

    def person(self, state: str) -> None:
        if self.ticket is not None:
            changes, was_open = Changes(), self.open
            targets = DeliveryTargets((1,), None)
            apply_state(self.ticket, state, None, targets, changes, except_destination=None, actor={})
            self._note(changes, was_open)

    @property
    def open(self) -> bool:
        return self.ticket is not None and self.ticket.status is TicketStatus.OPEN

    def _note(self, changes: Changes, was_open: bool) -> None:
        self.events += [event.kind for event in changes.events]
        if was_open and not self.open:
            self.closed_at = self.now

    def _state(self, key_seen_at: float) -> ProblemState | None:
        if self.ticket is None:
            return None
        return ProblemState(
            is_open=self.open,
            resolved=self.ticket.reported_resolved,
            state_seconds=self.now - self.reported_at,
            closed_seconds=self.now - self.closed_at,
            key_seconds=self.now - key_seen_at,
        )


@pytest.mark.parametrize("seed", range(150))
def test_a_source_that_repeats_its_state_has_an_open_ticket_while_the_problem_lasts(seed: int):
    """A pair of senders repeats for weeks what fires, with the same start after a short pause; persons close and reopen."""
    choice, world = random.Random(seed), World(STATE)
    began = 0
    for period in range(choice.randint(2, 6)):
        if choice.random() < 0.5:
            began += 1  # the alert has a new start, else the old one
        firing, end = f"firing {began}", f"resolved {period}"
        closed_by_person = False
        for repeat in range(choice.randint(1, 60)):
            events = len(world.events)
            for _ in range(choice.randint(1, 4)):
                assert not world.report("opened", firing) or repeat == 0
                world.now += choice.uniform(0, 20)
            if repeat:
                assert len(world.events) == events, "a repeat does nothing"
            assert world.open is not closed_by_person
            world.now += choice.uniform(300, 86400)
            if choice.random() < 0.1:
                world.person("closed")
                closed_by_person = True
            elif choice.random() < 0.05:
                world.person("open")
                closed_by_person = False
        world.report("resolved", end)
        assert not world.open
        for _ in range(choice.randint(0, 6)):
            world.now += choice.uniform(0, SETTLE_SECONDS / 7)
            assert not world.report(*choice.choice([("opened", firing), ("resolved", end)]))
            assert not world.open, "a late copy opens nothing"
        world.now += choice.uniform(SETTLE_SECONDS, 20 * 86400)


@pytest.mark.parametrize("seed", range(150))
def test_a_sender_with_constant_bodies_is_heard_after_each_change(seed: int):
    choice, world = random.Random(seed), World(BODY)
    for _ in range(choice.randint(5, 40)):
        match choice.choice(["fails", "fails", "over", "closed"]):
            case "fails":
                world.report("opened", "it fails")
                for _ in range(choice.randint(0, 3)):
                    world.now += choice.uniform(0, 30)
                    events = list(world.events)
                    assert not world.report("opened", "it fails"), "a retry"
                    assert world.events == events
                assert world.open
            case "over":
                world.report("resolved", "it works")
                assert not world.open
                assert not world.report("resolved", "it works")
            case "closed":
                was_open = world.open
                world.person("closed")
                if was_open and world.ticket is not None and not world.ticket.reported_resolved:
                    world.now += choice.uniform(0, SETTLE_SECONDS - 1)
                    assert not world.report("opened", "it fails"), "a retry after the closing"
                    assert not world.open
        world.now += choice.choice([SETTLE_SECONDS, 3600, 86400, 30 * 86400])
