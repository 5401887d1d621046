"""Fixtures of the Jira plugin's tests: the loopback double, a small client towards it, and recorded payloads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pointsman.plugin_api import Response, Secret, Unavailable, UnknownOutcome
from pointsman_jira import JiraTracker
from pointsman_jira.settings import JiraSettings
from pointsman_jira.testing import FakeJira

RECORDED = Path(__file__).parents[4] / "shared/data/trackers/jira"


class LoopbackClient:
    """The contract's client, as thin as it can be."""

    def __init__(self, session: aiohttp.ClientSession, connection: Any) -> None:
        self._session = session
        self._base = connection.base_url
        self._headers = {name: secret.reveal() for name, secret in connection.headers.items()}

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        sent = {**self._headers, **(headers or {})}
        try:
            async with self._session.request(
                method, self._base + path, params=params, json=json, headers=sent, allow_redirects=False
            ) as answer:
                body = await answer.read()
                names = {name.lower(): value for name, value in answer.headers.items()}
                return Response(method=method, path=path, status=answer.status, headers=names, body=body)
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(str(error)) from error
        except aiohttp.ClientError as error:
            raise UnknownOutcome(str(error)) from error


def settings_for(jira: FakeJira, **changes: Any) -> JiraSettings:
    received = {
        "url": jira.url,
        "email": jira.email,
        "api_token": Secret(jira.api_token),
        "project_key": jira.project_key,
        **changes,
    }
    return JiraSettings(**received)


@pytest.fixture
async def jira() -> AsyncIterator[FakeJira]:
    async with FakeJira() as running:
        yield running


@pytest.fixture
async def make_tracker(jira: FakeJira) -> AsyncIterator[Any]:
    async with aiohttp.ClientSession() as session:

        def make(**changes: Any) -> JiraTracker:
            settings = settings_for(jira, **changes)
            return JiraTracker(settings, LoopbackClient(session, JiraTracker.connection(settings)))

        yield make


@pytest.fixture
def tracker(make_tracker: Any) -> JiraTracker:
    return make_tracker()


@pytest.fixture
def recorded() -> Any:
    def read(name: str) -> bytes:
        path = RECORDED / name
        if not path.exists():
            pytest.skip(f"the recorded payload {name} is not here")
        return path.read_bytes()

    return read
