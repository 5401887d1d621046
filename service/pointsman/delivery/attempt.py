"""An attempt in progress: what is being delivered, where, and since when."""

from __future__ import annotations

import datetime as dt
import time

import msgspec

from pointsman.content import render
from pointsman.domain.states import DeliveryKind, TicketKind
from pointsman.plugin_api import CommentRef, IssueRef, IssueState, NotFound
from pointsman.plugin_host.instances import LiveDestination
from pointsman.storage.queue_values import Lane, NextDelivery

IDEMPOTENT = frozenset({DeliveryKind.CLOSE, DeliveryKind.REOPEN})


class Attempt(msgspec.Struct, kw_only=True):
    """One try of a delivery."""

    lane: Lane
    delivery: NextDelivery
    kind: DeliveryKind
    destination: LiveDestination
    started_at: dt.datetime
    started_monotonic: float
    outcome_unknown: bool
    """An earlier request may have taken effect, and that is not resolved yet."""
    keep_lease: bool = True
    """Whether the lease is kept for the next delivery of the lane."""

    @classmethod
    def start(
        cls, lane: Lane, delivery: NextDelivery, destination: LiveDestination, *, keep_lease: bool = True
    ) -> Attempt:
        """Return an attempt that starts now."""
        return cls(
            lane=lane,
            delivery=delivery,
            kind=DeliveryKind(delivery.kind),
            destination=destination,
            started_at=dt.datetime.now(dt.UTC),
            started_monotonic=time.monotonic(),
            outcome_unknown=delivery.outcome_unknown,
            keep_lease=keep_lease,
        )

    @property
    def idempotent(self) -> bool:
        """Whether doing it twice has the same effect as doing it once."""
        return self.kind in IDEMPOTENT

    @property
    def issue(self) -> IssueRef:
        """The linked issue. Raises NotFound if there is none; only a create comes before its issue."""
        delivery = self.delivery
        if delivery.remote_id is None or delivery.remote_key is None or delivery.issue_url is None:
            raise NotFound("the issue of this ticket is not known here")
        return IssueRef(delivery.remote_id, delivery.remote_key, delivery.issue_url)


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What a delivery did at its tracker: an issue or a comment, or a new state of an issue.

    ``verified``: the effect of an earlier request, found by verification.
    """

    issue: IssueRef | None = None
    comment: CommentRef | None = None
    remote_state: int | None = None
    remote_version: dt.datetime | None = None
    verified: bool = False

    @classmethod
    def of_earlier_request(cls, ref: IssueRef | CommentRef) -> Effect:
        """Return the effect of an earlier request."""
        if isinstance(ref, IssueRef):
            return cls(issue=ref, verified=True)
        return cls(comment=ref, verified=True)

    @classmethod
    def of_state(cls, remote_state: int, issue_state: IssueState | None) -> Effect:
        """Return the effect of a change of state; the tracker may report the version it led to."""
        version = issue_state.version if isinstance(issue_state, IssueState) else None
        return cls(remote_state=remote_state, remote_version=version)


def ticket_text(delivery: NextDelivery, base_url: str) -> render.TicketText:
    """Return what rendering needs of a delivery's ticket."""
    return render.TicketText(
        id=str(delivery.ticket_id),
        kind=TicketKind(delivery.ticket_kind),
        title=delivery.title,
        source=delivery.source,
        description=delivery.description,
        reporter_name=delivery.reporter_name,
        close_reason=delivery.close_reason,
        page=f"{base_url}/console/tickets/{delivery.ticket_id}" if base_url else "",
    )
