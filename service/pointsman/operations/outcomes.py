"""Describe outcomes of attempts for people: a label, a severity, an explanation and the next step."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from pointsman.content.sanitize import one_line
from pointsman.domain.retry_policy import Outcome
from pointsman.domain.states import DeliveryKind

Severity: TypeAlias = Literal["good", "wait", "bad", "calm"]
"""``bad`` needs an operator; ``wait`` resolves by itself; ``calm`` is neutral."""

NO_ACTION = "nothing: deliveries continue automatically"


class StatusMessage(msgspec.Struct, frozen=True):
    """A state in a few words, how much it matters, and a sentence that explains it."""

    label: str
    severity: Severity
    message: str = ""


class OutcomeText(msgspec.Struct, frozen=True):
    """The description of an outcome. ``next_step`` may contain ``{slug}`` and ``{delivery}``."""

    label: str
    severity: Severity
    message: str = ""
    next_step: str = ""

    @property
    def status(self) -> StatusMessage:
        """Return the description without the next step."""
        return StatusMessage(self.label, self.severity, self.message)


OUTCOMES: Mapping[str, OutcomeText] = {
    Outcome.DONE: OutcomeText("done", "good"),
    Outcome.VERIFIED: OutcomeText(
        "verified",
        "good",
        "An earlier request had taken effect: its result was found by its marker, and nothing was sent twice.",
    ),
    Outcome.UNAVAILABLE: OutcomeText(
        "unreachable",
        "wait",
        "The destination can't be reached. The delivery is retried automatically; nothing is lost.",
        NO_ACTION,
    ),
    Outcome.RATE_LIMITED: OutcomeText(
        "rate limited",
        "wait",
        "The destination asked for fewer requests. Deliveries continue automatically after the time it named.",
        NO_ACTION,
    ),
    Outcome.UNKNOWN: OutcomeText(
        "outcome unknown",
        "wait",
        "A request was sent, and whether it took effect is unknown. The tracker is searched for its marker before "
        "anything is sent again.",
        "nothing: the tracker is searched for the marker before anything is sent again",
    ),
    "not found yet": OutcomeText(
        "being verified",
        "wait",
        "The tracker was searched for the marker, and it was not there yet. It is searched again.",
        "nothing: the tracker is searched for the marker again",
    ),
    Outcome.REFUSED: OutcomeText(
        "refused",
        "bad",
        "The destination refused the request. It is not sent again until an operator replays it.",
        "fix the cause that the error names, then run `pointsman replay {delivery}`",
    ),
    Outcome.AUTH: OutcomeText(
        "credentials refused",
        "bad",
        "The destination refused the credentials. Deliveries continue automatically once they are valid.",
        "configure a valid credential; `pointsman doctor {slug}` checks it",
    ),
    Outcome.MISCONFIGURED: OutcomeText(
        "misconfigured",
        "bad",
        "Something that the destination's settings name does not exist or is not allowed. Deliveries continue "
        "automatically once it is fixed.",
        "fix the setting that the error names; `pointsman doctor {slug}` checks it",
    ),
    Outcome.BLOCKED: OutcomeText(
        "issue blocked",
        "bad",
        "Something about this one issue prevents the change, such as its workflow. The delivery is retried and given up "
        "after three days; other issues are not concerned.",
        "change what the error names at the issue or in the settings; the delivery is retried automatically",
    ),
    Outcome.ORPHAN: OutcomeText(
        "issue missing",
        "bad",
        "The issue no longer exists at its destination: it was deleted or moved.",
        "nothing, if the issue was deleted on purpose; if it exists again, run `pointsman replay {delivery}`",
    ),
    Outcome.CONFLICT: OutcomeText(
        "conflict",
        "wait",
        "The issue changed during the request. The delivery is retried soon.",
        NO_ACTION,
    ),
    Outcome.MOVED: OutcomeText(
        "moved",
        "wait",
        "The issue has a new address. The delivery is retried there.",
        NO_ACTION,
    ),
    Outcome.DEFECT: OutcomeText(
        "plugin error",
        "bad",
        "The plugin raised an unexpected error. The delivery is retried a few times and then given up.",
        "see the plugin's traceback in the log, fix or update the plugin, then run `pointsman replay {delivery}`",
    ),
    Outcome.EXPIRED: OutcomeText(
        "expired",
        "bad",
        "The delivery did not succeed before its deadline and was given up.",
        "fix the cause that the last attempts name, then run `pointsman replay {delivery}`",
    ),
}
"""Each outcome by its name in the database, in logs and in metrics."""

FINAL = frozenset({Outcome.REFUSED, Outcome.DEFECT, Outcome.EXPIRED, Outcome.ORPHAN})
"""Outcomes that need an operator once a lane is parked with them. Before that, the delivery is retried."""

FAILURE_OUTCOMES: Mapping[str, str] = {
    "Unavailable": Outcome.UNAVAILABLE,
    "RateLimited": Outcome.RATE_LIMITED,
    "UnknownOutcome": Outcome.UNKNOWN,
    "TimeoutError": Outcome.UNKNOWN,
    "Refused": Outcome.REFUSED,
    "AuthFailed": Outcome.AUTH,
    "Misconfigured": Outcome.MISCONFIGURED,
    "Blocked": Outcome.MISCONFIGURED,
    "NotFound": Outcome.MISCONFIGURED,
    "Conflict": Outcome.CONFLICT,
    "IssueMoved": Outcome.MOVED,
}
"""The outcome that each type of a destination's last failure leads to."""

ACTIONS: Mapping[int, str] = {
    DeliveryKind.CREATE: "create an issue",
    DeliveryKind.COMMENT: "add a comment",
    DeliveryKind.CLOSE: "close the issue",
    DeliveryKind.REOPEN: "reopen the issue",
    DeliveryKind.UPDATE: "update the issue",
    DeliveryKind.MAIL: "send an e-mail to the reporter",
}
"""The action of each kind of delivery."""


def outcome_status(outcome: str | None) -> StatusMessage:
    """Describe an outcome. An unknown name is shown as it is."""
    known = OUTCOMES.get(outcome or "")
    if known is not None:
        return known.status
    return StatusMessage(one_line(outcome or "", 80) or "no outcome", "wait")


def failure_outcome(error_type: str | None) -> str:
    """Return the outcome of a destination's last failure. Unknown types are errors of the plugin."""
    return FAILURE_OUTCOMES.get(error_type or "", Outcome.DEFECT)


def park_message(reason: str | None) -> str:
    """Explain why a lane is parked: the outcome it was parked with, or the reason as it is stored."""
    known = outcome_status(reason).message
    if known or not reason:
        return known or "It waits for an operator."
    text = one_line(reason, 500)
    return f"{text[:1].upper()}{text[1:]}."


def destination_label(slug: str) -> str:
    """Return a destination's name for people."""
    if slug.startswith("@source:"):
        return f"the source {slug.removeprefix('@source:')}"
    return "e-mail" if slug == "@mail" else slug


def format_time(moment: dt.datetime | None) -> str:
    """Format a time in UTC for people."""
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}" if moment is not None else "?"
