"""Test double of a Jira Cloud site: an HTTP server on loopback that answers as the real one does."""

from __future__ import annotations

from pointsman_jira.testing.double import (
    FakeJira,
    JiraComment,
    JiraIssue,
    JiraTransition,
    JiraWebhook,
    plain_text,
)

__all__ = ["FakeJira", "JiraComment", "JiraIssue", "JiraTransition", "JiraWebhook", "plain_text"]
