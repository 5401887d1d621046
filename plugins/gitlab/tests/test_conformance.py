"""The conformance kit, run against the GitLab plugin."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pointsman.plugin_api import State
from pointsman.testing.conformance import (
    ConformanceSuite,
    IssueSnapshot,
    TrackerCase,
    TrackerDouble,
    WebhookCall,
)
from pointsman_gitlab import GitLabTracker
from pointsman_gitlab.testing import PERSON, FakeGitLab


class GitLabDouble(TrackerDouble):
    """One project on a GitLab server."""

    def __init__(self) -> None:
        self.fake: FakeGitLab = FakeGitLab(token="canary-of-the-gitlab-token")

    def settings(self) -> dict[str, Any]:
        return {
            "url": self.fake.url,
            "token": self.fake.token,
            "project": self.fake.project,
            "labels": ["from pointsman"],
            "assignees": ["ada"],  # so that looking up usernames is tried too
        }

    async def issues(self) -> list[IssueSnapshot]:
        return [
            IssueSnapshot(
                remote_id=str(issue.iid),
                title=issue.title,
                text=issue.description,
                state="closed" if issue.state == "closed" else "open",
                comments=tuple(note.body for note in issue.notes if not note.system),
                version=(issue.updated_at, len(issue.notes), issue.title, issue.description),
            )
            for issue in self.fake.issues.values()
        ]

    async def close(self, remote_id: str) -> None:
        await self.fake.close_issue(int(remote_id))

    async def reopen(self, remote_id: str) -> None:
        await self.fake.reopen_issue(int(remote_id))

    async def copy(self, remote_id: str) -> str:
        issue = self.fake.issues[int(remote_id)]
        return str(self.fake.add_issue(issue.title, issue.description, PERSON).iid)

    async def webhook(self, remote_id: str, state: State, secret: str) -> WebhookCall:
        await (self.close if state == "closed" else self.reopen)(remote_id)
        action = "close" if state == "closed" else "reopen"
        headers, body = self.fake.call(self.fake.issues[int(remote_id)], action, secret)
        return WebhookCall(headers=headers, body=body)


class TestConformance(ConformanceSuite):
    """GitLab does what every tracker has to, where its webhooks sign."""

    @pytest.fixture
    def tracker_case(self) -> TrackerCase:
        key = base64.b64encode(b"webhook-canary".ljust(32, b"-")).decode()
        return TrackerCase(tracker=GitLabTracker, double=GitLabDouble, webhook_secret=f"whsec_{key}")


class TestConformanceWithSecretToken(ConformanceSuite):
    """And where they bring a secret token along, which says nothing about the body."""

    @pytest.fixture
    def tracker_case(self) -> TrackerCase:
        return TrackerCase(tracker=GitLabTracker, double=GitLabDouble, body_signed=False)
