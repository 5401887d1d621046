"""The POST request that all queues send: create an issue over at most 64 connections and read the response."""

from __future__ import annotations

import os
from typing import Any

import aiohttp

AT_ONCE = 64
TEXT = "A ticket of the bench. " + "x" * 480
HEADERS = {"Authorization": "token of-the-bench", "Accept": "application/json"}


def issue(number: int) -> dict[str, str]:
    """Return title and body of an issue, of the size that the service sends."""
    return {"title": f"bench{number:012x}", "body": TEXT}


class Poster:
    """Client that posts issues."""

    def __init__(self) -> None:
        self._url = os.environ["BENCH_TRACKER"] + "/api/v1/repos/acme/shop/issues"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=AT_ONCE), headers=HEADERS, trust_env=False
        )

    async def post(self, job: dict[str, Any]) -> int:
        """Post an issue and return its number."""
        async with self._session.post(self._url, json=job) as answer:
            assert answer.status == 201, answer.status
            number: int = (await answer.json())["number"]
            return number
