"""Test double of a Forgejo server: an HTTP server on loopback that answers as the real one does."""

from __future__ import annotations

from pointsman_forgejo.testing.double import (
    FakeForgejo,
    ForgejoComment,
    ForgejoHook,
    ForgejoIssue,
    ForgejoWebhook,
)

__all__ = ["FakeForgejo", "ForgejoComment", "ForgejoHook", "ForgejoIssue", "ForgejoWebhook"]
