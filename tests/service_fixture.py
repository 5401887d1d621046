"""Run replicas for integration tests: configuration file, SMTP server, HTTP client, an operator and a customer."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec

from pointsman import app
from pointsman.cli.demo.scenario import Sink
from pointsman.config.settings import Settings, Smtp
from pointsman.crypto import sha256
from pointsman.plugin_api import Secret
from pointsman.plugin_host.registry import Registry
from pointsman.storage.db import Database

ADMIN = "admin-token-of-the-tests"
SHOP, HELPDESK = "shop-token-of-the-tests", "helpdesk-token-of-the-tests"

SOURCES = f"""
[[source]]
slug = "shop"
kind = "bugsink"
token = "{SHOP}"
[[source]]
slug = "helpdesk"
kind = "tickets"
token = "{HELPDESK}"
"""


class RunningService:
    """Start replicas with ``replica()``, talk to them with ``client``."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.folder = folder
        self.sink = Sink()
        self.settings = Settings(
            database_url=Secret(dsn),
            port=0,
            data_dir=folder / "data",
            mail_from="Helpdesk <helpdesk@pointsman.example>",
            admin_token_sha256=sha256(ADMIN.encode()),
            secret_keys=(Secret("6gPbCDWBO3oPg3pYG3m1-Jd6DTOl2sYKsbQKY4x6bZk="),),
            outbound_networks=(ipaddress.ip_network("127.0.0.0/8"),),
            log="json",
        )
        self.client: aiohttp.ClientSession = None  # type: ignore[assignment]
        self.url = ""
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        port = await self._stack.enter_async_context(self.sink.running())
        self.settings = msgspec.structs.replace(self.settings, smtp=Smtp(host="127.0.0.1", port=port))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def write_config(self, text: str) -> Path:
        """The configuration file."""
        path = self.folder / "pointsman.toml"
        path.write_text(text, "utf-8")
        self.settings = msgspec.structs.replace(self.settings, config=path)
        return path

    @contextlib.asynccontextmanager
    async def replica(
        self, config: str | None = None, *, registry: Registry | None = None, **more: Any
    ) -> AsyncIterator[app.Running]:
        """One replica of the service, in this process."""
        if config is not None:
            self.write_config(config)
        more = {"drain_seconds": 2.0, **more}
        async with (
            Database.open(self.settings.database_url.reveal()) as database,
            app.running(self.settings, database, registry or Registry.load(), **more) as running,
            aiohttp.ClientSession(running.url) as client,
        ):
            self.client, self.url = client, running.url
            yield running

    # -- talking -----------------------------------------------------------------------------------------------

    async def call(
        self, method: str, path: str, *, token: str = "", status: int | None = None, **more: Any
    ) -> Any:
        """One request; the decoded answer. ``status`` is what must come."""
        headers = dict(more.pop("headers", {}))
        if token:
            headers["Authorization"] = f"Bearer {token}"
        async with self.client.request(method, path, headers=headers, **more) as answer:
            text = await answer.text()
            if status is not None:
                assert answer.status == status, f"{method} {path}: {answer.status} {text}"
            return json.loads(text) if "json" in answer.content_type else text

    async def alert(self, reason: str = "NEW", status: int = 202, **fields: Any) -> dict[str, Any]:
        """Bugsink posts an alert."""
        return await self.call("POST", f"/intake/shop/{SHOP}", json=alert(reason, **fields), status=status)

    async def new_ticket(self, title: str = "Help", **fields: Any) -> str:
        """A customer asks for help; the ticket's id."""
        body = {
            "title": title,
            "description": "It does not work.",
            "reporter": {"email": "ada@customer.example", "name": "Ada"},
            **fields,
        }
        made = await self.call("POST", "/api/v1/tickets", token=HELPDESK, json=body, status=201)
        return made["id"]

    async def comment(self, ticket: str, text: str) -> None:
        """The customer comments."""
        body = {"body": text, "author": {"name": "Ada"}}
        await self.call("POST", f"/api/v1/tickets/{ticket}/comments", token=HELPDESK, json=body, status=201)

    async def ticket(self, ticket: str) -> dict[str, Any]:
        """The ticket as operators see it."""
        return await self.call("GET", f"/api/v1/tickets/{ticket}", token=ADMIN, status=200)

    async def linked(self, ticket: str, count: int = 1) -> dict[str, Any]:
        """Wait for the ticket's issue; its (first) link."""
        seen = await self.until_ticket(
            ticket, lambda seen: sum(link["state"] == "active" for link in seen["links"]) == count
        )
        return seen["links"][0]

    async def until_ticket(self, ticket: str, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the ticket is as expected."""

        async def look() -> dict[str, Any] | None:
            seen = await self.ticket(ticket)
            return seen if good(seen) else None

        return await until(look)

    async def status(self, ticket: str, wanted: str) -> None:
        """Wait for the ticket's status."""
        await self.until_ticket(ticket, lambda seen: seen["status"] == wanted)


def alert(reason: str = "NEW", **fields: Any) -> dict[str, Any]:
    """A Bugsink alert, as its kind `custom` posts it."""
    body: dict[str, Any] = {
        "id": "6f0d2a51-3c5e-4a0e-9c55-0d6f6c2f6a01",
        "friendly_id": "SHOP-1",
        "project": 1,
        "digest_order": 1,
        "first_seen": "2026-11-20T10:00:00.000001Z",
        "last_seen": "2026-11-20T10:00:00.000001Z",
        "digested_event_count": 1,
        "stored_event_count": 1,
        "calculated_type": "KeyError",
        "calculated_value": "'basket'",
        "transaction": "/basket",
        "is_resolved": False,
        "is_resolved_unconditionally": False,
        "is_resolved_by_next_release": False,
        "is_muted": False,
        "title": "KeyError: 'basket'",
        "project_name": "Shop",
        "url": "https://bugsink.example.com/issues/issue/6f0d2a51-3c5e-4a0e-9c55-0d6f6c2f6a01/event/last/",
        "alert_reason": reason,
    }
    return {**body, **fields}


async def until(
    look: Callable[[], Awaitable[Any]], patience_seconds: float = 15.0, *, every_seconds: float = 0.03
) -> Any:
    """Look again and again until there is something; fails after a while."""
    end = time.monotonic() + patience_seconds
    while True:
        found = await look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited {patience_seconds:g} s in vain; last seen: {found!r}")
        await asyncio.sleep(every_seconds)


async def count_pending(database: Database) -> int:
    """How many deliveries wait."""
    return await database.fetchval("select count(*) from delivery where state = 0")


async def count_dead(database: Database) -> int:
    """How many deliveries were given up."""
    return await database.fetchval("select count(*) from delivery where state = 2")
