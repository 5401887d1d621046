"""The numbers that state and kind columns of the database contain.

Each enumeration names its columns. A test compares the values with the constraints, comments and literals in ``sql/``.
"""

from __future__ import annotations

import enum


class TicketKind(enum.IntEnum):
    """``ticket.kind``."""

    ALERT = 1
    SUPPORT = 2


class TicketStatus(enum.IntEnum):
    """``ticket.status``, and ``link.remote_state``: the state of the issue as last known."""

    OPEN = 1
    CLOSED = 2


class ReportState(enum.IntEnum):
    """``report.state``."""

    STORED = 1
    PARKED = 2
    """Our code failed on it; kept for an operator."""
    TEST = 3


class DeliveryKind(enum.IntEnum):
    """``delivery.kind``: the operation."""

    CREATE = 1
    COMMENT = 2
    CLOSE = 3
    REOPEN = 4
    UPDATE = 5
    MAIL = 6


class DeliveryState(enum.IntEnum):
    """``delivery.state``."""

    PENDING = 0
    DONE = 1
    DEAD = 2


class LaneState(enum.IntEnum):
    """``lane.state``."""

    IDLE = 0
    READY = 1
    LEASED = 2
    PARKED = 3


class LinkState(enum.IntEnum):
    """``link.state``."""

    ACTIVE = 1
    ORPHANED = 2


class DestinationKind(enum.IntEnum):
    """``destination.kind``."""

    TRACKER = 1
    MAIL = 2
    SOURCE = 3


class BreakerState(enum.IntEnum):
    """``destination_state.breaker``: the state of the circuit breaker."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class WebhookState(enum.IntEnum):
    """``webhook.state``."""

    APPLIED = 1
    NOTHING_TO_DO = 2
    WAITING = 3
    """Its issue has no link yet."""
    PARKED = 4
    """Its plugin could not read it; kept for an operator."""


class WebhookKeyKind(enum.IntEnum):
    """``webhook_key.kind``."""

    DELIVERY_ID = 1
    BODY_DIGEST = 2


class EnrichmentState(enum.IntEnum):
    """``enrichment.state``."""

    PENDING = 0
    KNOWN = 1
    UNAVAILABLE = 2
    """The source has no more information."""
