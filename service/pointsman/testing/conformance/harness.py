"""A harness for one trial: a double, the settings, a tracker under test over the real client."""

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
    """One request that a plugin made. ``status`` is None where no answer came."""

    method: str
    path: str
    content: str
    status: int | None = None

    @property
    def label(self) -> str:
        """Method and path, as a person reads it."""
        return f"{self.method} {urlsplit(self.path).path}"


class RecordingClient:
    """The client a plugin gets here: the core's own, which notes each request and meets fault_case at a chosen one."""

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
        """Wait until a request that nobody waits for any more has taken effect all the same."""
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
            answer = await self._request_with_fault(self.fault_at[1], method, path, more)
        else:
            answer = await self._client.request(method, path, **more)
        note.status = answer.status
        if self.after_each is not None:
            await self.after_each()
        return answer

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
            patience = LATE_SECONDS if fault_case.is_late else TIMEOUT_SECONDS
            client = HttpClient(connection, LOOPBACK, timeout_seconds=patience)
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
    """A double that runs, and trackers under test at it."""

    def __init__(self, case: TrackerCase, double: TrackerDouble, closing: contextlib.AsyncExitStack) -> None:
        self.case = case
        self.double = double
        self.settings = settings_of(case, double)
        self._closing = closing

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, case: TrackerCase) -> AsyncIterator[Harness]:
        """A new double, started."""
        async with case.double() as double, contextlib.AsyncExitStack() as closing:
            yield cls(case, double, closing)

    def tracker(self) -> Tracker:
        """Another tracker that remembers nothing, with a wire of its own."""
        connection = self.case.tracker.connection(self.settings)
        if connection is None:
            return self.case.tracker(self.settings, NoApiClient())
        assert self.double.fake is not None, "the tracker speaks HTTP, so its double needs `fake`"
        wire = RecordingClient(connection, self.double.fake)
        self._closing.push_async_callback(wire.close)
        return self.case.tracker(self.settings, wire)

    def client_of(self, tracker: Tracker) -> RecordingClient:
        """The wire of a tracker made here."""
        assert isinstance(tracker.client, RecordingClient)
        return tracker.client


def settings_of(case: TrackerCase, double: TrackerDouble) -> PluginSettings:
    """The plugin's settings, made as the core makes them."""
    return make_settings(case.tracker.Settings, double.settings())


def canaries(case: TrackerCase, settings: PluginSettings) -> frozenset[str]:
    """What must never show: each secret, and each part of a header that carries one, encoded or not."""
    secrets = {
        value.reveal()
        for name in secret_fields(type(settings))
        for value in _secrets(getattr(settings, name))
        if len(value.reveal()) >= SECRET_CHARACTERS
    }
    connection = case.tracker.connection(settings)
    words = {
        word
        for header in (connection.headers.values() if connection is not None else ())
        for word in header.reveal().split()
    }
    return frozenset(
        secrets | {word for word in words if any(secret in word + _decoded(word) for secret in secrets)}
    )


def _secrets(value: Any) -> list[Any]:
    found = value if isinstance(value, (tuple, list)) else [value]
    return [one for one in found if hasattr(one, "reveal")]


def _decoded(word: str) -> str:
    try:
        return base64.b64decode(word, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""


async def _taken(fault: Fault) -> None:
    """Wait until a busy double has come to the request that its caller gave up."""
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
    """A marker, in the core's form."""
    made = uuid.uuid4()
    return Marker(f"pm1-{made}-{made.hex[:12]}")


def new_draft(
    title: str = "Checkout fails", body: str = "What happened.\n\n* one\n* two", **more: Any
) -> Draft:
    """An issue to be, with a marker of its own."""
    return Draft(title=title, body=body, marker=new_marker(), **more)
