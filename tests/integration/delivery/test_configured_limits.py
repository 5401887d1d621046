"""Limits from the configuration file: which destinations share a credential and its rate limits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pointsman.delivery.rate_limiter import RateLimiter
from pointsman.domain.states import DeliveryKind
from pointsman.domain.token_bucket import RateLimit
from pointsman.operations.apply import apply_file
from pointsman.plugin_api import Connection, PluginSettings, Secret
from pointsman.plugin_host import bootstrap, factory, snapshot
from pointsman.plugin_host.registry import Registry
from pointsman.storage import rate_limits
from pointsman.storage.db import Database
from service_fixture import RunningService

SOURCE = '[[source]]\nslug = "shop"\nkind = "bugsink"\ntoken = "shop-token-of-the-tests"\n'


def forgejo(slug: str, *more: str, token: str = "one-token", url: str = "https://forgejo.example.com") -> str:
    return "\n".join(
        [
            f'[[destination]]\nslug = "{slug}"\ntracker = "forgejo"',
            f'settings = {{ url = "{url}", token = "{token}", repository = "acme/{slug}" }}',
            *more,
            "",
        ]
    )


async def in_force(database: Database, service: RunningService, text: str) -> snapshot.ConfigSnapshot:
    registry = Registry.load()
    await apply_file(database, service.settings, registry, service.write_config(text))
    reloader = bootstrap.build_reloader(service.settings, database, registry)
    await reloader.refresh()
    return reloader.current


async def test_limits_reach_the_rows_and_the_configuration_in_force(
    database: Database, service: RunningService
):
    limits = "limits = { writes_per_minute = 120, at_once = 3 }"
    now = await in_force(
        database, service, SOURCE + "limits.new_tickets_per_minute = 5\n" + forgejo("a", limits)
    )
    assert now.sources["shop"].new_tickets_per_minute == 5
    destination = now.destination("a")
    assert destination is not None
    assert (destination.limits.writes_per_minute, destination.limits.at_once) == (120, 3)
    assert destination.rate_limits == (RateLimit("all", 2.0, 10.0),)
    row = await database.fetchrow(
        "select d.limits, s.max_inflight, s.credential from destination d"
        " join destination_state s on s.destination_id = d.id where slug = 'a'"
    )
    assert json.loads(row["limits"]) == {"writes_per_minute": 120, "at_once": 3}
    assert (row["max_inflight"], row["credential"]) == (3, destination.credential)
    # and back to the defaults
    now = await in_force(database, service, SOURCE + forgejo("a"))
    assert now.sources["shop"].new_tickets_per_minute is None
    destination = now.destination("a")
    assert destination is not None and destination.rate_limits == (
        RateLimit("all", 4.0, pytest.approx(60.0)),
    )
    assert (
        await database.fetchval("select max_inflight from destination_state where credential is not null")
        == 8
    )


async def test_the_limit_of_one_destination_holds_for_all_that_use_its_credential(
    database: Database, service: RunningService
):
    text = (
        forgejo("a", "limits.writes_per_minute = 60")
        + forgejo("b")
        + forgejo("c", token="another")
        + forgejo("d", url="https://other.example.com")
        + forgejo("e", "limits.writes_per_minute = 0", token="third")
        + '[[destination]]\nslug = "f"\ntracker = "folder"\nsettings.path = "/nowhere"\n'
    )
    now = await in_force(database, service, text)
    destinations = {slug: now.destination(slug) for slug in "abcdef"}
    assert all(destinations.values())
    rates = {
        slug: [pace.rate for pace in destination.rate_limits]
        for slug, destination in destinations.items()
        if destination
    }
    assert rates == {"a": [1.0], "b": [1.0], "c": [4.0], "d": [4.0], "e": [], "f": []}
    credentials = {slug: destination.credential for slug, destination in destinations.items() if destination}
    assert credentials["a"] == credentials["b"] and credentials["f"] is None
    assert len(set(credentials.values())) == 5
    # one bucket for both
    budgets = RateLimiter(database)
    first, second = destinations["a"], destinations["b"]
    assert first is not None and second is not None
    for where in (first, second):
        assert await budgets.acquire(where, DeliveryKind.CREATE, 1) == 0.0
    [row] = await rate_limits.list_status(database)
    assert (row.destinations, row.declared_rate) == (["a", "b"], 1.0)


class OfALaterToken(PluginSettings, frozen=True, kw_only=True):
    account: str = ""
    key: Secret = Secret("")
    others: tuple[Secret, ...] = ()


def digest(
    *, base_url: str = "https://x.test/api", headers: Any = (), account: str = "", **settings: Any
) -> bytes:
    connection = Connection(
        base_url=base_url, headers={name: Secret(value) for name, value in headers}, account=account
    )
    return factory.credential_digest(connection, OfALaterToken(**settings))


def test_a_credential_is_identified_by_origin_headers_account_and_secrets():
    same = digest(headers=[("Authorization", "a"), ("Accept", "b")])
    assert same == digest(
        base_url="https://X.test:443/else", headers=[("accept", "b"), ("authorization", "a")]
    )
    different = [
        digest(headers=[("Authorization", "other"), ("Accept", "b")]),
        digest(base_url="http://x.test/api", headers=[("Authorization", "a"), ("Accept", "b")]),
        digest(base_url="https://x.test:8443", headers=[("Authorization", "a"), ("Accept", "b")]),
        digest(key=Secret("k")),
        digest(others=(Secret("k"),)),
        digest(account="installation 1"),
        digest(account="installation 2"),
    ]
    assert len({same, *different}) == 8
    assert digest(key=Secret("k")) == digest(key=Secret(" k\n"), account="")
    assert digest(account="1", key=Secret("old")) == digest(account="1", key=Secret("new"))


def test_the_plugins_say_by_what_they_sign_in():
    registry = Registry.load()
    kind = registry.trackers["github"]

    def of(**settings: Any) -> bytes:
        class Settings:
            url = "https://api.github.com"
            token = Secret("")
            is_app = False
            app_id = installation_id = ""

        for name, value in settings.items():
            setattr(Settings, name, value)
        connection = kind.connection(Settings())
        assert connection is not None
        return factory.credential_digest(connection, OfALaterToken())

    assert of(token=Secret("a")) == of(token=Secret(" a")) != of(token=Secret("b"))
    assert of(is_app=True, app_id=1, installation_id=2) != of(is_app=True, app_id=1, installation_id=3)


def test_what_our_plugins_declare():
    """Published limits: GitHub's content creation, Jira's writes to one issue."""
    declared = {
        kind: [(quota.scope, quota.calls, quota.seconds) for quota in tracker.capabilities.quotas]
        for kind, tracker in Registry.load().trackers.items()
    }
    assert declared == {
        "folder": [],
        "forgejo": [("all", 300, 60.0)],
        "github": [("content", 80, 60.0), ("content-hour", 500, 3600.0)],
        "gitlab": [("all", 300, 60.0)],
        "jira": [("issue", 20, 2.0), ("issue-long", 100, 30.0)],
    }
