"""Webhooks that arrived before the link of their issue are applied once the issue is linked."""

from __future__ import annotations

from typing import Any

import pytest

from pointsman.bus.signals import IssueLinked, Signals, WorkAvailable
from pointsman.plugin_api import IssueRef
from pointsman.storage.errors import DatabaseUnavailable
from pointsman.sync import early_webhooks
from pointsman.sync.early_webhooks import EarlyWebhooks

FIRST, SECOND = IssueRef("1", "a/1", ""), IssueRef("2", "a/2", "")


class FakeReceiver:
    """Records the issues whose webhooks are applied; those of the first issue fail."""

    def __init__(self) -> None:
        self.issues: list[IssueRef] = []

    async def apply_waiting(self, destination_id: int, issue: IssueRef) -> None:
        self.issues.append(issue)
        if issue is FIRST:
            raise RuntimeError(f"can't read the webhooks at {destination_id}")


@pytest.fixture
def receiver() -> FakeReceiver:
    return FakeReceiver()


def service(receiver: Any, signals: Signals) -> EarlyWebhooks:
    database: Any = None
    return EarlyWebhooks(database, receiver, signals=signals)


async def test_webhooks_of_each_linked_issue_are_applied_whatever_happens_to_others(
    receiver: FakeReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def waiting(_: Any, issues: list[tuple[int, str, str]]) -> set[tuple[int, str]]:
        return {(destination_id, remote_id) for destination_id, remote_id, _ in issues}

    monkeypatch.setattr(early_webhooks, "issues_with_waiting_webhooks", waiting)
    signals = Signals()
    announced: list[WorkAvailable] = []
    signals.subscribe(WorkAvailable, announced.append)
    early = service(receiver, signals)

    early.issue_linked(IssueLinked(7, FIRST))
    early.issue_linked(IssueLinked(7, SECOND))
    await early.run_once()
    await early.run_once()

    assert receiver.issues == [FIRST, SECOND]
    assert len(announced) == 1


async def test_linked_issues_are_kept_while_the_database_is_unavailable(
    receiver: FakeReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [DatabaseUnavailable("it restarts"), {(7, "2")}]

    async def waiting(*_: Any) -> set[tuple[int, str]]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(early_webhooks, "issues_with_waiting_webhooks", waiting)
    early = service(receiver, Signals())

    early.issue_linked(IssueLinked(7, SECOND))
    with pytest.raises(DatabaseUnavailable):
        await early.run_once()
    await early.run_once()

    assert receiver.issues == [SECOND]
