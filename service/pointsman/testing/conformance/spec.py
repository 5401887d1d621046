"""What a plugin's author supplies: the tracker class, and a double of the tracker as a person sees it."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pointsman.plugin_api import State, Tracker
from pointsman.testing.fake import FakeTracker


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueSnapshot:
    """The state of an issue at the double.

    ``text`` is its body as the double stores it, the marker included if the tracker keeps it there: the suite quotes
    it. ``version`` changes whenever anything about the issue changes, such as its time of change together with its
    comments.
    """

    remote_id: str
    title: str
    text: str
    state: State
    comments: tuple[str, ...]
    version: object


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookCall:
    """A webhook call as it would arrive."""

    headers: Mapping[str, str]
    body: bytes


class TrackerDouble(abc.ABC):
    """One empty project on the tracker, and what a person can do and see there.

    A new double is made for each test, and nothing may be shared between doubles: several run at the same time. An
    HTTP tracker's double sets ``fake``, a server built on ``pointsman.testing.fake.FakeTracker``, whose faults the
    suite uses; it is started and stopped with the double.
    """

    fake: FakeTracker | None = None

    async def __aenter__(self) -> Self:
        if self.fake is not None:
            await self.fake.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        if self.fake is not None:
            await self.fake.__aexit__(*error)

    @abc.abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Return the plugin's settings for this project, once it is started: plain values, secrets as texts.

        Give each secret a text of its own, of eight characters at least, that occurs nowhere else: the suite searches
        for it in everything that shows.
        """

    @abc.abstractmethod
    async def issues(self) -> Sequence[IssueSnapshot]:
        """Return all issues, oldest first, whoever created them and in whatever state."""

    @abc.abstractmethod
    async def close(self, remote_id: str) -> None:
        """Close an issue, as a person."""

    @abc.abstractmethod
    async def reopen(self, remote_id: str) -> None:
        """Reopen an issue, as a person."""

    async def copy(self, remote_id: str) -> str:
        """Create an issue with the same text (and labels), as a person, not as our account. Return the new issue's
        id.

        Leave it out if the tracker has no authors.
        """
        raise NotImplementedError

    async def webhook(self, remote_id: str, state: State, secret: str) -> WebhookCall:
        """Return the call that the tracker makes when a person closes or reopens the issue, signed with the secret.

        With an empty secret: the call of a webhook that was set up without one.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerCase:
    """A tracker class under test, and how to make its double.

    * ``title_limit``: the most characters of a title on the tracker.
    * ``missing_id``: the id of an issue that does not exist.
    * ``accepted_outcomes``: where a status has a special meaning on this tracker, the outcomes that are correct too,
      as ``{("create", 409): {"refused"}}``; say why beside it.
    * ``webhook_secret``: the secret of the double's webhooks, where the tracker takes secrets of one form only.
    * ``body_signed``: False where a webhook contains its secret, so that its body is not authenticated.
    """

    tracker: type[Tracker]
    double: Callable[[], TrackerDouble]
    title_limit: int = 255
    missing_id: str = "999999"
    webhook_secret: str = "webhook-canary-5f0d2a51"  # noqa: S105 - of a double
    body_signed: bool = True
    accepted_outcomes: Mapping[tuple[str, int], frozenset[str] | set[str]] = field(default_factory=dict)

    def double_supports(self, method: str) -> bool:
        """Return whether the double has an optional ability."""
        return getattr(type(self.double()), method) is not getattr(TrackerDouble, method)
