"""The doctor's findings about public destinations."""

from __future__ import annotations

import pytest

from pointsman.operations.diagnostics import doctor, warn_if_public
from pointsman.plugin_api import Finding
from pointsman.storage.db import Database
from pointsman_forgejo.testing import FakeForgejo
from service_fixture import RunningService


@pytest.fixture
async def tracker():
    async with FakeForgejo(repository="acme/shop", token="forgejo-token-of-the-tests") as fake:
        yield fake


@pytest.mark.parametrize(
    ("redact", "private", "level", "read"),
    [
        ("normal", False, "warning", "telephone numbers"),
        ("off", False, "warning", "secrets"),
        ("strict", False, "ok", ""),
        ("normal", True, "ok", ""),
    ],
)
async def test_a_public_repository_wants_strict_masks(
    service: RunningService, tracker: FakeForgejo, redact: str, private: bool, level: str, read: str
):
    tracker.private = private
    config = f"""
[[destination]]
slug = "forge"
tracker = "forgejo"
redact = "{redact}"
[destination.settings]
url = "{tracker.url}"
token = "{tracker.token}"
repository = "acme/shop"
"""
    async with (
        service.replica(config),
        Database.open(service.settings.database_url.reveal(), size=2) as database,
    ):
        findings = await doctor(service.settings, database, "forge")
    [finding] = [
        finding
        for finding in findings
        if finding.message.startswith("forge: repository acme/shop is visible")
    ]
    assert finding.level == level
    assert read in finding.impact
    assert finding.remedy.startswith('set redact = "strict"') is (level == "warning")
    assert bool(finding.impact) is (level == "warning")


def test_errors_are_not_changed_to_warnings():
    findings = [
        Finding(level="error", message="it is gone", remedy="find it", public=True),
        Finding(level="ok", message="well"),
    ]
    assert warn_if_public(findings, "normal") == findings
