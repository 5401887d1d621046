"""Fixtures of the Forgejo plugin's tests: a loopback server, and a small client like the core's."""

from __future__ import annotations

import datetime as dt
import json as jsonlib
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pointsman.plugin_api import (
    Connection,
    Draft,
    IssueRef,
    Marker,
    Response,
    Secret,
    Unavailable,
    UnknownOutcome,
)
from pointsman_forgejo import ForgejoTracker
from pointsman_forgejo.testing import FakeForgejo
from pointsman_forgejo.tracker import ForgejoSettings

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
TOKEN = "forgejo-token"


class SmallClient:
    """A ApiClient as the contract wants it: no redirects, any status given back, failures told apart."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        url = path if path.startswith("http") else self.connection.base_url + path
        sent = {name: value.reveal() for name, value in self.connection.headers.items()} | dict(headers or {})
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.request(
                    method, url, params=params, json=json, headers=sent, allow_redirects=False
                ) as answer,
            ):
                body = await answer.read()
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(str(error)) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnknownOutcome(str(error)) from error
        return Response(
            method=method,
            path=path,
            status=answer.status,
            headers={name.lower(): value for name, value in answer.headers.items()},
            body=body,
        )


def new_marker() -> Marker:
    return Marker(f"pm1-{uuid.uuid4()}-0123456789abcdef")


def draft(title="Checkout fails", body="What happened.", labels=()) -> Draft:
    return Draft(title=title, body=body, marker=new_marker(), labels=labels)


def long_ago() -> dt.datetime:
    return dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def number(value: int) -> IssueRef:
    return IssueRef(str(value), str(value))


@pytest.fixture
async def forgejo():
    async with FakeForgejo(token=TOKEN) as server:
        yield server


@pytest.fixture
def make_tracker(forgejo):
    def make(**changed) -> ForgejoTracker:
        values = {"url": forgejo.url, "token": Secret(TOKEN), "repository": "acme/shop", **changed}
        settings = ForgejoSettings(**values)
        return ForgejoTracker(settings, SmallClient(ForgejoTracker.connection(settings)))

    return make


@pytest.fixture
def tracker(make_tracker):
    return make_tracker()


@pytest.fixture
def payload():
    """A recorded webhook payload; the test is skipped where the recordings are not at hand."""

    def read(name: str) -> bytes:
        file = DATA / "trackers" / "forgejo" / name
        if not file.exists():
            pytest.skip(f"no recorded payload {name}")
        return file.read_bytes()

    return read


@pytest.fixture
def api_document():
    """The server's own description of its API; the test is skipped where it is not at hand."""
    file = DATA / "openapi" / "forgejo-v15.json"
    if not file.exists():
        pytest.skip("no API document of Forgejo")
    return jsonlib.loads(file.read_text())


@pytest.fixture
def helpers():
    class Helpers:
        client = SmallClient
        marker = staticmethod(new_marker)
        draft = staticmethod(draft)
        long_ago = long_ago()
        number = staticmethod(number)

    return Helpers
