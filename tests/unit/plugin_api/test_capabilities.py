"""Capability flags say which optional methods a plugin implements."""

from __future__ import annotations

import pytest

from pointsman.plugin_api import Source, SourceCapabilities, Tracker, TrackerCapabilities
from pointsman.plugin_api.capabilities import (
    SOURCE_METHODS,
    TRACKER_METHODS,
    missing_methods,
    undeclared_methods,
)


class Partial(Tracker):
    async def check(self, webhook_url=""):
        return ()

    @classmethod
    def verify_webhook(cls, headers, body, secrets):
        return False


def test_a_declared_method_that_is_missing_is_named():
    declared = TrackerCapabilities(check=True, webhooks=True, read_issue=True)
    assert missing_methods(Partial, Tracker, declared) == ["read_webhook", "read_issue"]
    assert undeclared_methods(Partial, Tracker, declared) == []


def test_a_method_that_is_not_declared_is_named():
    assert undeclared_methods(Partial, Tracker, TrackerCapabilities()) == ["verify_webhook", "check"]


@pytest.mark.parametrize(
    ("base", "capabilities", "methods"),
    [(Tracker, TrackerCapabilities, TRACKER_METHODS), (Source, SourceCapabilities, SOURCE_METHODS)],
)
def test_every_optional_method_has_a_flag(base, capabilities, methods):
    """What is neither required nor answered by the base class itself can be declared."""
    assert set(methods) <= set(capabilities.__struct_fields__)
    covered = {method for names in methods.values() for method in names}
    optional = {
        name
        for name in vars(base)
        if callable(getattr(base, name)) and not name.startswith("_") and name not in base.__abstractmethods__
    }
    assert optional - covered <= {"connection", "webhook_id", "verify", "Settings"}
