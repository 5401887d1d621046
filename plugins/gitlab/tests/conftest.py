"""Fixtures of the GitLab plugin's tests: a loopback server, and a small client like the core's."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
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
from pointsman_gitlab import GitLabTracker
from pointsman_gitlab.settings import GitLabSettings
from pointsman_gitlab.testing import FakeGitLab

TOKEN = "gitlab-token"


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
        sent = {name: value.reveal() for name, value in self.connection.headers.items()} | dict(headers or {})
        url = self.connection.base_url + path
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
        reported = {name.lower(): value for name, value in answer.headers.items()}
        return Response(method=method, path=path, status=answer.status, headers=reported, body=body)


@pytest.fixture
async def gitlab():
    async with FakeGitLab(token=TOKEN) as server:
        yield server


@pytest.fixture
def make_tracker(gitlab):
    def make(**changed) -> GitLabTracker:
        values = {"url": gitlab.url, "token": Secret(TOKEN), "project": "acme/shop", **changed}
        settings = GitLabSettings(**values)
        return GitLabTracker(settings, SmallClient(GitLabTracker.connection(settings)))

    return make


@pytest.fixture
def tracker(make_tracker):
    return make_tracker()


@pytest.fixture
def helpers():
    class Helpers:
        long_ago = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)

        @staticmethod
        def marker() -> Marker:
            return Marker(f"pm1-{uuid.uuid4()}-0123456789ab")

        @classmethod
        def draft(cls, title="Checkout fails", body="What happened.", labels=()) -> Draft:
            return Draft(title=title, body=body, marker=cls.marker(), labels=labels)

        @staticmethod
        def number(value: int) -> IssueRef:
            return IssueRef(str(value), f"#{value}")

    return Helpers
