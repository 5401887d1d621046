"""An attempt underway: what is being sent, where, and since when."""

from __future__ import annotations

import datetime as dt
import uuid

import msgspec

from pointsman.content import render
from pointsman.domain.states import DeliveryKind, TicketKind
from pointsman.plugin_api import IssueRef, NotFound
from pointsman.plugin_host.snapshot import LiveDestination
from pointsman.storage.queue import Lane, NextDelivery

IDEMPOTENT = frozenset({DeliveryKind.CLOSE, DeliveryKind.REOPEN, DeliveryKind.UPDATE})


class Attempt(msgspec.Struct, kw_only=True):
    """One try, as far as it got."""

    lane: Lane
    delivery: NextDelivery
    kind: DeliveryKind
    destination: LiveDestination
    started_at: dt.datetime
    started_monotonic: float
    outcome_unknown: bool
    """An earlier request may have taken effect, and that is not settled yet."""

    @property
    def idempotent(self) -> bool:
        """Whether doing it twice is the same as once."""
        return self.kind in IDEMPOTENT

    @property
    def issue(self) -> IssueRef:
        """The linked issue. Only a create comes before there is one."""
        if self.delivery.remote_id is None:
            raise NotFound("the issue of this ticket is not known here")
        return IssueRef(self.delivery.remote_id, self.delivery.remote_key, self.delivery.issue_url)


def ticket_text(head: NextDelivery, base_url: str) -> render.TicketText:
    """What rendering needs of a ticket."""
    ticket_id: uuid.UUID = head.ticket_id
    return render.TicketText(
        id=str(ticket_id),
        kind=TicketKind(head.ticket_kind),
        title=head.title,
        source=head.source,
        description=head.description,
        reporter_name=head.reporter_name,
        close_reason=head.close_reason,
        page=f"{base_url}/console/tickets/{ticket_id}" if base_url else "",
    )
