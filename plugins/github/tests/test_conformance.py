"""The conformance kit, run against the GitHub plugin."""

from __future__ import annotations

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
from pointsman_github import GitHubTracker
from pointsman_github.testing import FakeGitHub

pytestmark = pytest.mark.slow


class GitHubDouble(TrackerDouble):
    """One repository on a GitHub."""

    def __init__(self) -> None:
        self.fake: FakeGitHub = FakeGitHub(token="canary-of-the-github-token")

    def settings(self) -> dict[str, Any]:
        return {
            "url": self.fake.url,
            "token": self.fake.token,
            "repository": self.fake.repository,
        }

    async def issues(self) -> list[IssueSnapshot]:
        return [
            IssueSnapshot(
                remote_id=str(issue.number),
                title=issue.title,
                text=issue.body,
                state="closed" if issue.state == "closed" else "open",
                comments=tuple(comment.body for comment in issue.comments),
                version=(issue.updated_at, issue.title, issue.body),
            )
            for issue in self.fake.issues.values()
        ]

    async def close(self, remote_id: str) -> None:
        await self.fake.close_issue(int(remote_id))

    async def reopen(self, remote_id: str) -> None:
        await self.fake.reopen_issue(int(remote_id))

    async def copy(self, remote_id: str) -> str:
        issue = self.fake.issues[int(remote_id)]
        return str(await self.fake.open_issue(issue.title, issue.body))

    async def webhook(self, remote_id: str, state: State, secret: str) -> WebhookCall:
        self.fake.webhook_url, self.fake.webhook_secret = f"{self.fake.url}/webhook", secret
        act = self.fake.close_issue if state == "closed" else self.fake.reopen_issue
        await act(int(remote_id))
        return WebhookCall(headers=self.fake.webhooks[-1].headers, body=self.fake.webhooks[-1].body)


CASE = TrackerCase(tracker=GitHubTracker, double=GitHubDouble)


@pytest.fixture
def tracker_case() -> TrackerCase:
    return CASE


class TestConformance(ConformanceSuite):
    """GitHub does what every tracker has to."""
