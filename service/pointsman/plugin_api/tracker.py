"""Trackers: places where issues live, and the HTTP client they are given."""

from __future__ import annotations

import abc
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from pointsman.plugin_api.values import (
    Actor,
    CloseReason,
    CommentRef,
    Connection,
    Draft,
    Finding,
    IgnoredWebhook,
    IssueRef,
    IssueRemoved,
    IssueState,
    Marker,
    PluginSettings,
    Response,
    Secret,
    State,
    TrackerCapabilities,
    WebhookEvent,
)


class ApiClient(Protocol):
    """HTTP towards one tracker, given by the core.

    Bound to the destination's base address, with its credential, time limits, a cap on answers and the address
    guard. Redirects are not followed. Answers of any status are returned; raises Unavailable if nothing was sent and
    UnknownOutcome if the request may have left.
    """

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request; ``path`` is relative to the base address, or a full address on the same origin."""
        ...


class Tracker(abc.ABC):
    """A kind of place where issues live. One instance serves one destination.

    Methods that read or write may raise the errors above. The webhook methods are pure: they get raw bytes, do no
    I/O, and must come to a decision on any input.
    """

    kind: ClassVar[str]
    """The word used in configuration and in webhook addresses, such as ``forgejo``."""
    title: ClassVar[str]
    """The name people know it by."""
    api_version: ClassVar[int]
    """The major version of this contract that the class was written for."""
    Settings: ClassVar[type[PluginSettings]]
    capabilities: ClassVar[TrackerCapabilities]
    webhook_url: str = ""
    """Where we hear this destination's webhooks, for ``check``; set by the core, empty if it has no public address."""

    def __init__(self, settings: Any, client: ApiClient) -> None:
        self.settings = settings
        self.client = client

    @classmethod
    def connection(cls, settings: Any) -> Connection | None:
        """Where to connect to, None for a tracker that needs no HTTP."""
        raise NotImplementedError

    @abc.abstractmethod
    async def create_issue(self, draft: Draft) -> IssueRef:
        """Create an issue that carries the draft's marker."""

    @abc.abstractmethod
    async def add_comment(self, issue: IssueRef, body: str, marker: Marker) -> CommentRef:
        """Add a comment (Markdown) that carries the marker."""

    @abc.abstractmethod
    async def set_state(self, issue: IssueRef, state: State, reason: CloseReason | None) -> IssueState | None:
        """Close or reopen an issue. Called again for an issue already in that state, it changes nothing.

        Gives back how the issue stands afterwards if the tracker's answer says so: its version tells a late webhook
        about the time before from news.
        """

    async def own_account(self) -> Actor:
        """The account behind the credential, named as ``IssueState.author`` names accounts."""
        raise NotImplementedError

    async def update_issue(self, issue: IssueRef, draft: Draft) -> None:
        """Replace title and body."""
        raise NotImplementedError

    async def read_issue(self, issue: IssueRef) -> IssueState:
        """How the issue stands now. Raises NotFound if it is gone and IssueMoved if it lives elsewhere."""
        raise NotImplementedError

    async def find_issue(self, marker: Marker, since: dt.datetime) -> Sequence[IssueRef]:
        """Issues of ours that carry the marker, oldest first, made at ``since`` or later.

        Ask an endpoint that reads the database, not a search index, and count an issue only if our own account
        wrote it. ``since`` has five minutes to spare already. A list that can't be read to its end raises: half a list
        proves nothing. Needs ``capabilities.find``.
        """
        raise NotImplementedError

    async def find_comment(self, issue: IssueRef, marker: Marker, since: dt.datetime) -> Sequence[CommentRef]:
        """Comments of ours on an issue that carry the marker, oldest first. Needs ``capabilities.find``."""
        raise NotImplementedError

    async def delete_comment(self, issue: IssueRef, comment: CommentRef) -> None:
        """Take away a comment of ours that ``find_comment`` gave and that was made twice.

        Raises NotFound if it is gone already. Optional: without it such a comment is told to the operator and stays.
        """
        raise NotImplementedError

    async def list_changes(self, since: dt.datetime) -> Sequence[IssueState | IssueRemoved]:
        """Issues changed at ``since`` or later, as they stand now. Needs ``capabilities.list_changes``."""
        raise NotImplementedError

    async def check(self) -> Sequence[Finding]:
        """What stands in the way of working with this destination; changes nothing."""
        return ()

    async def ensure_webhook(self, url: str, secret: Secret) -> Finding:
        """See to it that the tracker calls ``url`` with this secret, once.

        The secret is the first of the destination's ``webhook_secrets``.
        """
        raise NotImplementedError

    async def redeliver_webhooks(self, url: str, since: dt.datetime) -> int:
        """Ask the tracker to repeat those webhook calls to ``url`` that failed at ``since`` or later; how many it took on.

        Optional, for trackers that do not try again by themselves and let one ask. 0 where the credential may not.
        """
        raise NotImplementedError

    @classmethod
    def verify_webhook(cls, headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
        """Whether one of the secrets vouches for this call: it signs the raw bytes or, where the tracker knows no better,
        came along with them. Header names are lower case. Reading the clock, for signatures that hold a time, is fine.
        """
        return False

    @classmethod
    def webhook_id(cls, headers: Mapping[str, str], body: bytes) -> str | None:
        """The tracker's own id of this webhook call, None if it sends none.

        Unique to one call and the same when that call is repeated; known for 30 days, cut at 200 characters.
        """
        return None

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """What a verified webhook says."""
        return IgnoredWebhook("this tracker has no webhooks")
