"""The conformance kit, run against the Jira plugin."""

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
from pointsman_jira import JiraTracker
from pointsman_jira.testing import FakeJira, plain_text

pytestmark = pytest.mark.slow


class JiraDouble(TrackerDouble):
    """One project on a Jira Cloud site."""

    def __init__(self) -> None:
        self.fake: FakeJira = FakeJira(api_token="canary-of-the-jira-token")

    def settings(self) -> dict[str, Any]:
        return {
            "url": self.fake.url,
            "email": self.fake.email,
            "api_token": self.fake.api_token,
            "project_key": self.fake.project_key,
        }

    async def issues(self) -> list[IssueSnapshot]:
        return [
            IssueSnapshot(
                remote_id=issue.id,
                title=issue.summary,
                text=plain_text(issue.description) if issue.description else "",
                state="closed" if self.fake.statuses[issue.status][1] == "done" else "open",
                comments=tuple(plain_text(comment.body) for comment in issue.comments),
                version=(issue.updated, issue.status, issue.resolution),
            )
            for issue in self.fake.issues.values()
        ]

    async def close(self, remote_id: str) -> None:
        await self.fake.close_issue(self.fake.issues[remote_id].key)

    async def reopen(self, remote_id: str) -> None:
        await self.fake.reopen_issue(self.fake.issues[remote_id].key)

    async def copy(self, remote_id: str) -> str:
        issue = self.fake.issues[remote_id]
        key = await self.fake.open_issue(issue.summary, labels=tuple(issue.labels))
        return self.fake.by_key(key).id

    async def webhook(self, remote_id: str, state: State, secret: str) -> WebhookCall:
        self.fake.webhook_url, self.fake.webhook_secret = f"{self.fake.url}/webhook", secret
        act = self.fake.close_issue if state == "closed" else self.fake.reopen_issue
        await act(self.fake.issues[remote_id].key)
        return WebhookCall(headers=self.fake.webhooks[-1].headers, body=self.fake.webhooks[-1].body)


CASE = TrackerCase(tracker=JiraTracker, double=JiraDouble)


@pytest.fixture
def tracker_case() -> TrackerCase:
    return CASE


class TestConformance(ConformanceSuite):
    """Jira does what every tracker has to."""
