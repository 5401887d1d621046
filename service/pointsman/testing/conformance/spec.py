"""What a plugin's author supplies: the tracker class, and a double of the tracker as a person there sees it."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pointsman.plugin_api import State, Tracker
from pointsman.testing.fake import FakeTracker


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueSnapshot:
    """An issue as it stands at the double.

    ``text`` is its body as the double keeps it, the marker included if the tracker keeps it there: the suite quotes it.
    ``version`` changes whenever anything of the issue does, such as its time of change together with its comments.
    """

    remote_id: str
    title: str
    text: str
    state: State
    comments: tuple[str, ...]
    version: object


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookCall:
    """A webhook as it would arrive."""

    headers: Mapping[str, str]
    body: bytes


class TrackerDouble(abc.ABC):
    """One empty place on the tracker, and what a person can do and see there.

    A new one is made for each trial, and nothing may be shared between them: several run at the same time. An HTTP
    tracker's double sets ``fake``, a server built on ``pointsman.testing.fake.FakeTracker``, whose faults the suite
    uses; it is started and stopped with the double.
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
        """The plugin's settings for this place, once it is started: plain values, secrets as texts.

        Give each secret a text of its own, of eight characters at least, that stands nowhere else: the suite looks
        for it in all that shows.
        """

    @abc.abstractmethod
    async def issues(self) -> Sequence[IssueSnapshot]:
        """All issues, oldest first, whoever made them and in whatever state."""

    @abc.abstractmethod
    async def close(self, remote_id: str) -> None:
        """A person closes an issue."""

    @abc.abstractmethod
    async def reopen(self, remote_id: str) -> None:
        """A person reopens an issue."""

    async def copy(self, remote_id: str) -> str:
        """A person, not our account, makes an issue with the same text (and labels): the new one's id.

        Leave it out where the tracker knows no authors.
        """
        raise NotImplementedError

    async def webhook(self, remote_id: str, state: State, secret: str) -> WebhookCall:
        """The call that the tracker makes when a person closes or reopens the issue, signed with the secret.

        With an empty secret: the call as it comes from a webhook that was set up without one.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerCase:
    """A tracker class under test, and how to make its double.

    ``title_limit``: the most characters that a title may have on the tracker. ``missing_id``: the id of an issue that
    is not there. ``means``: where a status means something else on this tracker than everywhere, the classes that are
    right too, as ``{("create", 409): {"refused"}}``; say why beside it. ``webhook_secret``: what the double's webhooks are
    signed with, where the tracker takes secrets of one form only. ``body_signed``: False where a webhook brings its secret
    along as it is, so that nothing vouches for the body.
    """

    tracker: type[Tracker]
    double: Callable[[], TrackerDouble]
    title_limit: int = 255
    missing_id: str = "999999"
    webhook_secret: str = "webhook-canary-5f0d2a51"  # noqa: S105 - of a double
    body_signed: bool = True
    accepted_outcomes: Mapping[tuple[str, int], frozenset[str] | set[str]] = field(default_factory=dict)

    def double_supports(self, method: str) -> bool:
        """Whether the double has an optional ability."""
        return getattr(type(self.double()), method) is not getattr(TrackerDouble, method)
