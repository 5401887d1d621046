"""Plugins that hang, block, raise, lie or answer nonsense harm only their own destinations."""

from __future__ import annotations

import asyncio
import time
from types import ModuleType
from typing import ClassVar

import pytest

from configuration import SOURCES
from pointsman.operations.destinations import list_destinations
from pointsman.plugin_api import (
    CommentRef,
    IssueRef,
    PluginSettings,
    Tracker,
    TrackerCapabilities,
    hookimpl,
)
from pointsman.plugin_host.registry import Registry
from pointsman.storage.db import Database
from polling import until
from service_fixture import RunningService


class NoSettings(PluginSettings, frozen=True, kw_only=True):
    """Nothing to set."""


class Good(Tracker):
    """Keeps issues in memory."""

    kind: ClassVar[str] = "good"
    title: ClassVar[str] = "Good"
    api_version: ClassVar[int] = 1
    Settings = NoSettings
    capabilities = TrackerCapabilities(request_timeout_seconds=5.0)
    created: ClassVar[list[str]] = []

    @classmethod
    def connection(cls, settings):
        return None

    async def create_issue(self, draft):
        self.created.append(draft.title)
        return IssueRef(str(len(self.created)), str(len(self.created)))

    async def add_comment(self, issue, body, marker):
        return CommentRef("1")

    async def set_state(self, issue, state, reason):
        return None


class Hangs(Good):
    kind = "hangs"
    capabilities = TrackerCapabilities(request_timeout_seconds=0.3)

    async def create_issue(self, draft):
        await asyncio.Event().wait()


class Blocks(Good):
    kind = "blocks"

    async def create_issue(self, draft):
        time.sleep(1.6)
        raise RuntimeError("slept")


class Raises(Good):
    kind = "raises"

    async def create_issue(self, draft):
        raise ZeroDivisionError("oops")


class Exits(Good):
    kind = "exits"

    async def create_issue(self, draft):
        raise SystemExit(3)


class Nonsense(Good):
    kind = "nonsense"

    async def create_issue(self, draft):
        return {"number": 1}


class WrongTypes(Good):
    kind = "wrong-types"

    async def create_issue(self, draft):
        return IssueRef(4711, None, b"\x00")  # type: ignore[arg-type]


class Empty(Good):
    kind = "empty"

    async def create_issue(self, draft):
        return IssueRef("", "")


class Unfit(Good):
    """Raises in its constructor."""

    kind = "unfit"

    def __init__(self, settings, client):
        raise ValueError("not today")


class BadNews(Good):
    """Creates well, but its webhooks and polls are broken."""

    kind = "bad-news"
    capabilities = TrackerCapabilities(
        request_timeout_seconds=0.3, webhooks=True, list_changes=True, poll_seconds=0.2
    )

    @classmethod
    def verify_webhook(cls, headers, body, secrets):
        if body == b"raise":
            raise KeyError("verify")
        return True

    def read_webhook(self, headers, body):
        raise RecursionError("read")

    async def list_changes(self, since):
        return ["nonsense", None]


HOSTILE = [Hangs, Blocks, Raises, Exits, Nonsense, WrongTypes, Empty, Unfit, BadNews]


@pytest.fixture
def registry():
    module = ModuleType("hostile")

    @hookimpl
    def pointsman_register_trackers(register):
        for tracker in [Good, *HOSTILE]:
            register(tracker)

    module.pointsman_register_trackers = pointsman_register_trackers
    loaded = Registry.load([])
    loaded.add("hostile", "tests", "1", module)
    assert set(loaded.trackers) == {tracker.kind for tracker in [Good, *HOSTILE]}, loaded.statuses
    Good.created.clear()
    return loaded


def config(*kinds: type[Tracker]) -> str:
    destinations = "".join(
        f'[[destination]]\nslug = "{kind.kind}"\ntracker = "{kind.kind}"\nwebhook_secrets = ["a-secret-of-tests"]\n'
        for kind in kinds
    )
    names = ", ".join(f'"{kind.kind}"' for kind in kinds)
    return f"{SOURCES}{destinations}[[route]]\ndestination = [{names}]\n"


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.kind)
async def test_a_hostile_plugin_harms_only_its_own_destination(
    service: RunningService, database: Database, registry, hostile
):
    """Tickets reach the good destination at once, the bad one shows the problem, and the service keeps running."""
    async with service.replica(config(hostile, Good), registry=registry):
        tickets = [await service.new_ticket(f"number {n}") for n in range(3)]
        for ticket in tickets:
            await service.until_ticket(
                ticket,
                lambda seen: any(
                    link["destination"] == "good" and link["state"] == "active" for link in seen["links"]
                ),
            )

        async def failing():
            rows = {status.slug: status for status in await list_destinations(database)}
            return rows[hostile.kind].failure_type

        assert await until(failing)
        assert (await list_destinations(database))[0].slug
        assert (await service.call("GET", "/health/ready", status=200))["status"] == "ready"
        rows = {status.slug: status for status in await list_destinations(database)}
        if hostile is not Blocks:  # a plugin that blocks the loop delays all work until it is paused
            assert rows["good"].failed_at is None


async def test_a_webhook_that_the_plugin_can_not_read_is_kept(
    service: RunningService, database: Database, registry
):
    async with service.replica(config(BadNews), registry=registry):
        await service.call("POST", "/webhooks/bad-news/bad-news", data=b"raise", status=401)
        await service.call("POST", "/webhooks/bad-news/bad-news", data=b"{}", status=200)
        row = await database.fetchrow("select state, body from webhook")
        assert (row["state"], row["body"]) == (4, b"{}")


async def test_a_plugin_that_blocks_the_loop_is_named_and_in_the_end_paused(
    service, database, registry, capfd
):
    from pointsman import logs

    logs.configure("json", level="error")
    from unittest.mock import patch

    with patch(
        "pointsman.plugin_host.registry.Registry.modules",
        lambda _: {Blocks.__module__.partition(".")[0]: "blocks"},
    ):
        async with service.replica(config(Blocks, Good), registry=registry):
            for n in range(4):
                await service.new_ticket(f"number {n}")

            async def paused():
                await database.execute("update lane set due_at = now(), state = 1 where state = 1")
                # several consecutive blocks count as one stall: wait for the next stall
                await database.execute(
                    "update delivery set outcome_unknown = false, attempts = 0 where state = 0"
                )
                await database.execute("update destination_state set blocked_until = null")
                rows = {status.slug: status for status in await list_destinations(database)}
                return rows["blocks"].state.startswith("paused")

            assert await until(paused, 30)
            page = await service.call("GET", "/metrics", status=200)
            assert 'pointsman_event_loop_stalls_total{plugin="blocks"}' in page
    assert "create_issue" in capfd.readouterr().err


async def test_only_allowed_plugins_are_imported():
    from pointsman.plugin_host.registry import Registry

    registry = Registry.load(allow=["folder"])
    assert set(registry.trackers) == {"folder"}
    assert {status.name for status in registry.statuses if status.refused} == {
        "forgejo",
        "github",
        "gitlab",
        "jira",
    }
