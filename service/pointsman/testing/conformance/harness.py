"""The harness of one test: a double, the settings, and trackers under test that use the core's HTTP client."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import ipaddress
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from pointsman.config.secrets import secret_fields
from pointsman.plugin_api import Connection, Draft, Marker, PluginSettings, Response, Tracker
from pointsman.plugin_api.client import NoApiClient
from pointsman.plugin_host.egress_policy import EgressPolicy
from pointsman.plugin_host.factory import make_settings
from pointsman.plugin_host.http_client import HttpClient
from pointsman.testing.conformance.faults import LATE_SECONDS, REPETITIONS, FaultCase
from pointsman.testing.conformance.spec import TrackerCase, TrackerDouble
from pointsman.testing.fake import FakeTracker, Fault

LOOPBACK = EgressPolicy(networks=(ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")))
TIMEOUT_SECONDS = 15.0
SECRET_CHARACTERS = 8


@dataclass(slots=True)
class SentRequest:
    """One request that a plugin sent. ``status`` is None if no response came."""

    method: str
    path: str
    content: str
    status: int | None = None

    @property
    def label(self) -> str:
        """Return method and path."""
        return f"{self.method} {urlsplit(self.path).path}"


class RecordingClient:
    """The core's HTTP client, which records each request and injects a fault into one of them."""

    def __init__(self, connection: Connection, fake: FakeTracker) -> None:
        self.sent: list[SentRequest] = []
        self.fault_at: tuple[int, FaultCase] | None = None
        self.fault_met = False
        self.after_each: Callable[[], Awaitable[None]] | None = None
        self._connection = connection
        self._fake = fake
        self._client = HttpClient(connection, LOOPBACK, timeout_seconds=TIMEOUT_SECONDS)
        self._late_request: asyncio.Task[Response] | None = None

    async def wait_until_settled(self) -> None:
        """Wait until a request whose caller gave up has taken effect."""
        if self._late_request is not None:
            await self._late_request

    async def close(self) -> None:
        """Close the connections."""
        await self.wait_until_settled()
        await self._client.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request."""
        note = SentRequest(method, path, repr((params, json)))
        self.sent.append(note)
        more: dict[str, Any] = {"params": params, "json": json, "headers": headers}
        if self.fault_at is not None and self.fault_at[0] == len(self.sent) - 1:
            response = await self._request_with_fault(self.fault_at[1], method, path, more)
        else:
            response = await self._client.request(method, path, **more)
        note.status = response.status
        if self.after_each is not None:
            await self.after_each()
        return response

    async def _request_with_fault(
        self, fault_case: FaultCase, method: str, path: str, more: dict[str, Any]
    ) -> Response:
        self.fault_met = True
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))  # and never listens
            connection, fault = self._connection, fault_case.fault()
            if fault_case.timing == "refused":
                connection = _to_port(connection, deaf.getsockname()[1])
            else:
                self._fake.faults.append(fault)
            timeout = LATE_SECONDS if fault_case.is_late else TIMEOUT_SECONDS
            client = HttpClient(connection, LOOPBACK, timeout_seconds=timeout)
            try:
                return await client.request(method, path, **more)
            finally:
                await client.close()
                if fault_case.is_late:
                    await _taken(fault)
                self._fake.faults.clear()
                if fault_case.timing == "too late":
                    self._late_request = asyncio.create_task(self._client.request(method, path, **more))


class Harness:
    """A running double, and trackers under test that use it."""

    def __init__(self, case: TrackerCase, double: TrackerDouble, closing: contextlib.AsyncExitStack) -> None:
        self.case = case
        self.double = double
        self.settings = settings_of(case, double)
        self._closing = closing

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, case: TrackerCase) -> AsyncIterator[Harness]:
        """Start a new double."""
        async with case.double() as double, contextlib.AsyncExitStack() as closing:
            yield cls(case, double, closing)

    def tracker(self) -> Tracker:
        """Return a new tracker with a client of its own."""
        connection = self.case.tracker.connection(self.settings)
        if connection is None:
            return self.case.tracker(self.settings, NoApiClient())
        assert self.double.fake is not None, "the tracker speaks HTTP, so its double needs `fake`"
        wire = RecordingClient(connection, self.double.fake)
        self._closing.push_async_callback(wire.close)
        return self.case.tracker(self.settings, wire)

    def client_of(self, tracker: Tracker) -> RecordingClient:
        """Return the client of a tracker made here."""
        assert isinstance(tracker.client, RecordingClient)
        return tracker.client


def settings_of(case: TrackerCase, double: TrackerDouble) -> PluginSettings:
    """Return the plugin's settings, made as the core makes them."""
    return make_settings(case.tracker.Settings, double.settings())


def canaries(case: TrackerCase, settings: PluginSettings) -> frozenset[str]:
    """Return the texts that must never show: each secret, and each part of a header that contains one, encoded or
    not.
    """
    secrets = {
        value.reveal()
        for name in secret_fields(type(settings))
        for value in _secrets(getattr(settings, name))
        if len(value.reveal()) >= SECRET_CHARACTERS
    }
    connection = case.tracker.connection(settings)
    parts = {
        part
        for header in (connection.headers.values() if connection is not None else ())
        for part in header.reveal().split()
    }
    return frozenset(
        secrets | {part for part in parts if any(secret in part + _decoded(part) for secret in secrets)}
    )


def _secrets(value: Any) -> list[Any]:
    values = value if isinstance(value, (tuple, list)) else [value]
    return [secret for secret in values if hasattr(secret, "reveal")]


def _decoded(word: str) -> str:
    try:
        return base64.b64decode(word, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""


async def _taken(fault: Fault) -> None:
    """Wait until a busy double has received the request that its caller gave up."""
    for _ in range(100):
        if fault.times < REPETITIONS:
            break
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.01)


def _to_port(connection: Connection, port: int) -> Connection:
    parts = urlsplit(connection.base_url)
    return msgspec.structs.replace(
        connection, base_url=parts._replace(scheme="http", netloc=f"127.0.0.1:{port}").geturl()
    )


def new_marker() -> Marker:
    """Return a marker in the core's form."""
    delivery_id = uuid.uuid4()
    return Marker(f"pm1-{delivery_id}-{delivery_id.hex[:12]}")


def new_draft(
    title: str = "Checkout fails", body: str = "What happened.\n\n* one\n* two", **more: Any
) -> Draft:
    """Return a draft with a marker of its own."""
    return Draft(title=title, body=body, marker=new_marker(), **more)
