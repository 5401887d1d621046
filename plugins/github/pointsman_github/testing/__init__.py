"""Test double of GitHub: an HTTP server on loopback that answers as the real one does."""

from __future__ import annotations

from pointsman_github.testing.double import (
    FakeGitHub,
    GitHubApp,
    GitHubComment,
    GitHubHook,
    GitHubIssue,
    GitHubWebhook,
)

__all__ = ["FakeGitHub", "GitHubApp", "GitHubComment", "GitHubHook", "GitHubIssue", "GitHubWebhook"]
