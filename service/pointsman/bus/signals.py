"""Typed in-process signals, dispatched to their subscribers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import msgspec

from pointsman.logs import logger
from pointsman.plugin_api import IssueRef

log = logger("signals")


class Signal(msgspec.Struct, frozen=True):
    """Base class of all signals. A signal is emitted after the transaction that it announces was committed."""


class WorkAvailable(Signal, frozen=True):
    """Deliveries were committed; workers should claim lanes now."""


class BatchAccepted(Signal, frozen=True):
    """A batch of reports was committed in one transaction."""

    report_count: int


class ThrottleStarted(Signal, frozen=True):
    """A source opened more tickets in a minute than it may; the rest share one summary ticket."""

    source: str


class ReportBackfilled(Signal, frozen=True):
    """A report that no request had brought was fetched from its source."""

    source: str


class IssueLinked(Signal, frozen=True):
    """An issue was created at a destination and linked to its ticket."""

    destination_id: int
    issue: IssueRef


class AttemptFinished(Signal, frozen=True):
    """An attempt of a delivery ended; ``outcome`` is an ``Outcome`` or ``lease lost``."""

    destination: str
    kind: str
    outcome: str
    seconds: float


class TextRedacted(Signal, frozen=True):
    """Secrets were masked in a draft; ``counts`` maps the kind of secret to the number of masked places."""

    counts: Mapping[str, int]


class DriftDetected(Signal, frozen=True):
    """Polling found a change of an issue that no webhook had announced."""

    destination: str


class DuplicateFound(Signal, frozen=True):
    """A second issue or comment with the same marker was found."""

    destination: str
    subject: Literal["issue", "comment"]
    repaired: bool


class MaintenanceChecked(Signal, frozen=True):
    """A maintenance check ran; ``value`` is 0 when healthy."""

    check: str
    value: float


class EventLoopStalled(Signal, frozen=True):
    """The event loop did not run for a second or more; ``plugin`` is the kind of the blocking plugin or ``core``."""

    plugin: str


class EventLoopLagMeasured(Signal, frozen=True):
    """The event loop ran a timer; ``seconds`` is how late."""

    seconds: float


SignalT = TypeVar("SignalT", bound=Signal)
Subscriber = Callable[[SignalT], None]


class Signals:
    """Dispatcher of signals to their subscribers.

    Subscribers are plain functions that return quickly; one that has more to do wakes a background service. Delivery is
    best effort: a signal that is lost with the process only delays work, which polling finds.
    """

    def __init__(self) -> None:
        self._subscribers: dict[type[Signal], list[Subscriber[Any]]] = {}

    def subscribe(self, signal_type: type[SignalT], subscriber: Subscriber[SignalT]) -> None:
        """Call ``subscriber`` with every signal of exactly this type."""
        self._subscribers.setdefault(signal_type, []).append(subscriber)

    def emit(self, signal: Signal) -> None:
        """Call the subscribers of a signal. Their errors are logged and never reach the caller."""
        for subscriber in self._subscribers.get(type(signal), ()):
            try:
                subscriber(signal)
            except Exception:
                log.exception("signal subscriber failed", signal=type(signal).__name__)
