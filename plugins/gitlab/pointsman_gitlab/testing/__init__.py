"""Test double of a GitLab server: an HTTP server on loopback that answers as the real one does."""

from __future__ import annotations

from pointsman_gitlab.testing.double import (
    BOT,
    PERSON,
    FakeGitLab,
    GitLabHook,
    GitLabIssue,
    GitLabNote,
)

__all__ = ["BOT", "PERSON", "FakeGitLab", "GitLabHook", "GitLabIssue", "GitLabNote"]
