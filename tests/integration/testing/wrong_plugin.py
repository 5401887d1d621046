"""Trackers that are wrong on purpose, each in one way, and one in all ways: the conformance kit must notice each."""

from __future__ import annotations

import json
from typing import Any

from right_plugin import ShelfTracker, seen_of

from pointsman.plugin_api import (
    Draft,
    IssueRef,
    IssueState,
    Marker,
    Misconfigured,
    Refused,
    Response,
    UnknownOutcome,
)


class RetriesInside(ShelfTracker):
    async def create_issue(self, draft: Draft) -> IssueRef:
        try:
            return await super().create_issue(draft)
        except UnknownOutcome:
            return await super().create_issue(draft)


class NoMarker(ShelfTracker):
    def marked(self, text: str, marker: Marker) -> str:
        return text


class LeaksItsToken(ShelfTracker):
    def problem(self, answer: Response, method: str, path: str) -> Exception:
        if answer.status == 403:
            return Misconfigured(f"refused to {self.settings.token.reveal()}", status=403)
        return super().problem(answer, method, path)


class CallsATimeOutRefused(ShelfTracker):
    async def create_issue(self, draft: Draft) -> IssueRef:
        try:
            return await super().create_issue(draft)
        except UnknownOutcome as error:
            raise Refused(f"no: {error}") from error


class AcceptsAnEmptySecret(ShelfTracker):
    @classmethod
    def verify_webhook(cls, headers: Any, body: bytes, secrets: Any) -> bool:
        return super().verify_webhook(headers, body, secrets) or not any(secrets)


class ReadsNoGarbage(ShelfTracker):
    def read_webhook(self, headers: Any, body: bytes) -> IssueState:
        return seen_of(json.loads(body))


class Toggles(ShelfTracker):
    async def set_state(self, issue: IssueRef, state: str, reason: Any) -> IssueState:
        now = await self.read_issue(issue)
        return await super().set_state(issue, "open" if now.state == "closed" else "closed", reason)


class AllWrong(
    AcceptsAnEmptySecret,
    ReadsNoGarbage,
    Toggles,
    NoMarker,
    LeaksItsToken,
    CallsATimeOutRefused,
    RetriesInside,
):
    pass
