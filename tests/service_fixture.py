"""Run replicas for integration tests: configuration file, SMTP server, HTTP client, an operator and a customer."""

from __future__ import annotations

import contextlib
import ipaddress
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec

from configuration import ADMIN, HELPDESK, SHOP
from pointsman import app
from pointsman.config.settings import Settings, Smtp
from pointsman.crypto import sha256
from pointsman.plugin_api import Secret
from pointsman.plugin_host.registry import Registry
from pointsman.storage.db import Database
from polling import until
from smtp_sink import SmtpSink
from source_examples import alert


class RunningService:
    """Start replicas with ``replica()`` and send requests to the newest of them."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.folder = folder
        self.sink = SmtpSink()
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
        """Write the configuration file and return its path."""
        path = self.folder / "pointsman.toml"
        path.write_text(text, "utf-8")
        self.settings = msgspec.structs.replace(self.settings, config=path)
        return path

    @contextlib.asynccontextmanager
    async def replica(
        self, config: str | None = None, *, registry: Registry | None = None, **options: Any
    ) -> AsyncIterator[app.Running]:
        """Run one replica of the service in this process."""
        if config is not None:
            self.write_config(config)
        options = {"drain_seconds": 2.0, **options}
        async with (
            Database.open(self.settings.database_url.reveal()) as database,
            app.running(self.settings, database, registry or Registry.load(), **options) as running,
            aiohttp.ClientSession(running.url) as client,
        ):
            self.client, self.url = client, running.url
            yield running

    async def call(
        self, method: str, path: str, *, token: str = "", status: int | None = None, **options: Any
    ) -> Any:
        """Send one request and return the decoded response; ``status`` is the expected one."""
        headers = dict(options.pop("headers", {}))
        if token:
            headers["Authorization"] = f"Bearer {token}"
        async with self.client.request(method, path, headers=headers, **options) as response:
            text = await response.text()
            if status is not None:
                assert response.status == status, f"{method} {path}: {response.status} {text}"
            return json.loads(text) if "json" in response.content_type else text

    async def alert(self, reason: str = "NEW", status: int = 202, **fields: Any) -> dict[str, Any]:
        """Post an alert as Bugsink does."""
        return await self.call("POST", f"/intake/shop/{SHOP}", json=alert(reason, **fields), status=status)

    async def new_ticket(self, title: str = "Help", **fields: Any) -> str:
        """Open a ticket for a customer and return its id."""
        body = {
            "title": title,
            "description": "It does not work.",
            "reporter": {"email": "ada@customer.example", "name": "Ada"},
            **fields,
        }
        ticket = await self.call("POST", "/api/v1/tickets", token=HELPDESK, json=body, status=201)
        return ticket["id"]

    async def comment(self, ticket: str, text: str) -> None:
        """Add a comment of the customer."""
        body = {"body": text, "author": {"name": "Ada"}}
        await self.call("POST", f"/api/v1/tickets/{ticket}/comments", token=HELPDESK, json=body, status=201)

    async def ticket(self, ticket: str) -> dict[str, Any]:
        """Read the ticket as an operator."""
        return await self.call("GET", f"/api/v1/tickets/{ticket}", token=ADMIN, status=200)

    async def linked(self, ticket: str, count: int = 1) -> dict[str, Any]:
        """Wait until the ticket has ``count`` active links and return the first link."""
        linked = await self.until_ticket(
            ticket, lambda ticket: sum(link["state"] == "active" for link in ticket["links"]) == count
        )
        return linked["links"][0]

    async def until_ticket(self, ticket: str, expected: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until ``expected`` is true for the ticket, and return the ticket."""

        async def look() -> dict[str, Any] | None:
            current = await self.ticket(ticket)
            return current if expected(current) else None

        return await until(look)

    async def status(self, ticket: str, expected: str) -> None:
        """Wait until the ticket has a status."""
        await self.until_ticket(ticket, lambda ticket: ticket["status"] == expected)


async def count_pending(database: Database) -> int:
    """Return the number of pending deliveries."""
    return await database.fetchval("select count(*) from delivery where state = 0")


async def count_dead(database: Database) -> int:
    """Return the number of dead letters."""
    return await database.fetchval("select count(*) from delivery where state = 2")
