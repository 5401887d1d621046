"""Client of Bugsink's API, for all its versions. https://www.bugsink.com/docs/api/

Actions and comments exist since 2.2.1, reopening since 2.4.0, the history of an issue since 2.6.2. A missing endpoint is
recognized by the response, and the feature is then not used.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from pointsman.plugin_api import ApiClient, Misconfigured, NotFound, Refused, Response, UnknownOutcome
from pointsman.plugin_api.helpers import text_at
from pointsman.sources.json_access import time

BASE = "/api/canonical/0"
PAGES = 50
_ALERT_REASONS = {"first_seen": "NEW", "regressed": "REGRESSED", "unmuted": "UNMUTED"}


class HistoryEntry(dict[str, Any]):
    """Entry of an issue's history."""

    @property
    def reason(self) -> str:
        """Return the alert reason that Bugsink raised with the entry; empty for entries that people made by hand."""
        return _ALERT_REASONS.get(text_at(self, "kind"), "") if text_at(self, "triggering_event") else ""

    @property
    def at(self) -> dt.datetime | None:
        """Return the time of the entry."""
        return time(self, "timestamp")


class BugsinkApi:
    """Client of one Bugsink instance."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def get(self, path: str, params: Mapping[str, str | int] | None = None) -> Response:
        """Send a GET request and return any response."""
        return await self._client.request("GET", f"{BASE}/{path}", params=params)

    async def post(self, path: str, body: Any = None) -> Response:
        """Send a POST request and return any response."""
        return await self._client.request("POST", f"{BASE}/{path}", json=body)

    async def _dict(self, path: str, operation: str) -> Mapping[str, Any]:
        answer = await self.get(path)
        if not answer.ok:
            raise problem(answer, operation)
        decoded = answer.json()
        if not isinstance(decoded, dict):
            raise UnknownOutcome(
                f"{operation}: the answer is no object", status=answer.status, excerpt=answer.text()
            )
        return decoded

    async def issue(self, issue: str) -> Mapping[str, Any]:
        """Return an issue. Raises NotFound if it was deleted."""
        return await self._dict(f"issues/{quote(issue, safe='')}/", "reading the issue")

    async def event(self, event: str) -> Mapping[str, Any]:
        """Return an event with all its data."""
        return await self._dict(f"events/{quote(event, safe='')}/", "reading the event")

    async def newest_event(self, issue: str) -> str:
        """Return the id of the newest event that Bugsink still has; empty if there is none."""
        async for event in self.pages("events/", {"issue": issue}, "listing events", pages=1):
            return text_at(event, "id")
        return ""

    async def pages(
        self, path: str, params: Mapping[str, str | int], operation: str, *, pages: int = PAGES
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the objects of a list, page by page. Uses the cursor of the next page's URL, not the URL itself."""
        query = dict(params)
        for _ in range(pages):
            answer = await self.get(path, query)
            if not answer.ok:
                raise problem(answer, operation)
            decoded = answer.json()
            results = decoded.get("results") if isinstance(decoded, dict) else None
            if not isinstance(results, list):
                raise UnknownOutcome(
                    f"{operation}: the answer is no list", status=answer.status, excerpt=answer.text()
                )
            for item in results:
                if isinstance(item, dict):
                    yield item
            cursor = _cursor(decoded.get("next"))
            if not cursor or cursor == query.get("cursor"):
                return
            query["cursor"] = cursor

    async def history(self, issue: str) -> list[HistoryEntry] | None:
        """Return an issue's history, newest first; None before Bugsink 2.6.2. Raises NotFound if it was deleted."""
        answer = await self.get("issue-history/", {"issue": issue})
        if is_missing_endpoint(answer):
            return None
        if not answer.ok:
            raise problem(answer, "reading the issue's history")
        decoded = answer.json()
        results = decoded.get("results") if isinstance(decoded, dict) else None
        return (
            [HistoryEntry(entry) for entry in results if isinstance(entry, dict)]
            if isinstance(results, list)
            else []
        )

    async def act(self, issue: str, action: str, since: str, done: str) -> bool:
        """Perform an action on an issue. Return False if ``done`` shows that it was done before.

        Raises Misconfigured if Bugsink is older than version ``since``.
        """
        path = f"issues/{quote(issue, safe='')}/{action}/"
        answer = await self.post(path)
        if answer.ok:
            return True
        if answer.status == 400 and _field_contains(answer, "detail", done):
            return False
        if is_missing_endpoint(answer):
            raise Misconfigured(
                f"this Bugsink is older than {since} and can't {action} by its API: update it, or take it out of the"
                " source's settings",
                status=answer.status,
            )
        raise problem(answer, f"asking Bugsink to {action}")

    async def comment(self, issue: str, text: str) -> str:
        """Add a comment and return its id."""
        answer = await self.post("issue-comments/", {"issue": issue, "comment": text})
        if answer.ok:
            created = answer.json()
            return str(created.get("id", "")) if isinstance(created, dict) else ""
        if is_missing_endpoint(answer):
            raise Misconfigured(
                "this Bugsink is older than 2.2.1 and takes no comments by its API: update it, or set comment = false",
                status=answer.status,
            )
        if answer.status == 400:
            await self.issue(issue)  # the response for a missing issue is the same as for an invalid comment
        raise problem(answer, "adding a comment")

    async def project(self, wanted: int | None, known: str) -> int:
        """Return the project's number: the configured one, a known issue's, or the only one that the token can read.

        Raises Misconfigured if the number cannot be determined.
        """
        if wanted is not None:
            return wanted
        if known:
            try:
                number = (await self.issue(known)).get("project")
            except NotFound:
                number = None
            if isinstance(number, int):
                return number
        answer = await self.get("projects/")
        decoded = answer.json() if answer.ok else {}
        results = decoded.get("results") if isinstance(decoded, dict) else None
        if isinstance(results, list) and len(results) == 1 and isinstance(results[0], dict):
            number = results[0].get("id")
            if isinstance(number, int):
                return number
        if answer.status == 401:
            raise problem(answer, "listing projects")
        raise Misconfigured(
            "which project this is can't be told until its first alert comes: set `project` in the source's settings, the"
            " number in the project's addresses in Bugsink"
        )


def problem(answer: Response, operation: str) -> Exception:
    """Return the exception for a response that is not 2xx.

    Bugsink answers a malformed issue id with 400 and a bare list, which means that the issue does not exist.
    """
    if answer.status == 400 and b"Invalid issue identifier" in answer.body[:200]:
        return NotFound(f"{operation}: no such issue", status=answer.status, excerpt=answer.text())
    if answer.status == 403:
        return Misconfigured(
            f"{operation}: the token lacks a right: {answer.text(300)}",
            status=answer.status,
            excerpt=answer.text(),
        )
    if answer.status == 400:
        return Refused(f"{operation}: {answer.text(300)}", status=answer.status, excerpt=answer.text())
    return answer.error(operation)


def is_missing_endpoint(answer: Response) -> bool:
    """Return whether this Bugsink lacks the endpoint. Existing endpoints answer with JSON, also for a missing issue."""
    return answer.status == 405 or (answer.status == 404 and not _field_contains(answer, "detail", ""))


def _field_contains(answer: Response, key: str, phrase: str) -> bool:
    try:
        decoded = answer.json()
    except UnknownOutcome:
        return False
    return isinstance(decoded, dict) and key in decoded and phrase.lower() in str(decoded[key]).lower()


def _cursor(url: Any) -> str:
    if not isinstance(url, str):
        return ""
    try:
        return parse_qs(urlsplit(url).query).get("cursor", [""])[0]
    except ValueError:
        return ""
