"""The base class of trackers."""

from __future__ import annotations

import abc
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic

from pointsman.plugin_api.capabilities import TrackerCapabilities
from pointsman.plugin_api.client import ApiClient, NoApiClient
from pointsman.plugin_api.settings import PluginSettings, Secret, SettingsT
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
    State,
    WebhookEvent,
)


class Tracker(abc.ABC, Generic[SettingsT]):
    """A kind of issue tracker. One instance serves one destination.

    Subclass ``Tracker[YourSettings]``. Three methods are required; every other one is called only if ``capabilities``
    declares it. Methods that read or write may raise the errors of the package's docstring. The webhook methods do no I/O
    and return a decision for any input.
    """

    kind: ClassVar[str]
    """The name in configuration and in webhook URLs, such as ``forgejo``."""
    title: ClassVar[str]
    """The product name, for people."""
    api_version: ClassVar[int]
    """The major version of this contract that the class was written for."""
    Settings: ClassVar[type[PluginSettings]]
    capabilities: TrackerCapabilities = TrackerCapabilities()
    """What it can do. A tracker whose settings decide that assigns its own in ``__init__``."""

    def __init__(self, settings: SettingsT, client: ApiClient | None = None) -> None:
        self.settings = settings
        self.client: ApiClient = client or NoApiClient()

    @classmethod
    def connection(cls, settings: SettingsT) -> Connection | None:
        """Return the base URL and the credential of the API, None for a tracker that needs no HTTP."""
        return None

    @abc.abstractmethod
    async def create_issue(self, draft: Draft) -> IssueRef:
        """Create an issue that contains the draft's marker."""

    @abc.abstractmethod
    async def add_comment(self, issue: IssueRef, body: str, marker: Marker) -> CommentRef:
        """Add a comment (Markdown) that contains the marker."""

    @abc.abstractmethod
    async def set_state(self, issue: IssueRef, state: State, reason: CloseReason | None) -> IssueState | None:
        """Close or reopen an issue. An issue that is already in that state is not changed.

        Return the new state of the issue if the response contains it: its version tells outdated webhooks from new ones.
        """

    async def update_issue(self, issue: IssueRef, draft: Draft) -> None:
        """Replace title and body."""
        raise NotImplementedError

    async def own_account(self) -> Actor:
        """Return the account behind the credential, identified as ``IssueState.author`` identifies accounts."""
        raise NotImplementedError

    async def read_issue(self, issue: IssueRef) -> IssueState:
        """Return the present state of an issue. Raises NotFound if it was deleted, IssueMoved if it was moved."""
        raise NotImplementedError

    async def find_issue(self, marker: Marker, since: dt.datetime) -> Sequence[IssueRef]:
        """Return our issues that contain the marker and were created at ``since`` or later, oldest first.

        Ask an endpoint that reads the database and not a search index. Count an issue only if our own account wrote it.
        ``since`` already includes a margin of five minutes. Raise an error if a list can't be read to its end: an incomplete
        list proves nothing.
        """
        raise NotImplementedError

    async def find_comment(self, issue: IssueRef, marker: Marker, since: dt.datetime) -> Sequence[CommentRef]:
        """Return our comments on an issue that contain the marker and were written at ``since`` or later, oldest first."""
        raise NotImplementedError

    async def delete_comment(self, issue: IssueRef, comment: CommentRef) -> None:
        """Delete a duplicate comment of ours that ``find_comment`` returned. Raises NotFound if it was deleted already.

        Without this method the operator is told about the duplicate, and it stays.
        """
        raise NotImplementedError

    async def list_changes(self, since: dt.datetime) -> Sequence[IssueState | IssueRemoved]:
        """Return the present states of the issues that changed at ``since`` or later."""
        raise NotImplementedError

    async def check(self, webhook_url: str = "") -> Sequence[Finding]:
        """Check credential, rights and configuration without changing anything.

        ``webhook_url`` is where Pointsman receives this destination's webhooks, empty if it has no public address.
        """
        raise NotImplementedError

    async def ensure_webhook(self, url: str, secret: Secret) -> Finding:
        """Register one webhook that calls ``url`` with this secret, or repair the one that exists.

        The secret is the first of the destination's ``webhook_secrets``.
        """
        raise NotImplementedError

    async def redeliver_webhooks(self, url: str, since: dt.datetime) -> int:
        """Ask the tracker to repeat the webhook calls to ``url`` that failed at ``since`` or later. Return how many.

        For trackers that do not retry by themselves. Return 0 if the credential lacks the right.
        """
        raise NotImplementedError

    @classmethod
    def verify_webhook(cls, headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
        """Return whether one of the secrets authenticates this call.

        The secret signs the raw bytes or, on trackers that do not sign, is sent with the call. Header names are in lower
        case. Reading the clock is allowed, for signatures that contain a time.
        """
        return False

    @classmethod
    def webhook_id(cls, headers: Mapping[str, str], body: bytes) -> str | None:
        """Return the tracker's own id of this webhook call, None if it sends none.

        The id is unique to one call and stays the same when the call is repeated. It is stored for 30 days and cut at
        200 characters.
        """
        return None

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Return what a verified webhook reports."""
        return IgnoredWebhook("this tracker has no webhooks")
