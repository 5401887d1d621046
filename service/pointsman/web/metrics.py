"""Metrics for Prometheus. Labels come from the configuration and from code, never from what strangers send."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from pointsman.storage.db import Row

_AGE_SECONDS = 5.0


class Metrics:
    """All counters of one process."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "pointsman_http_requests", "Requests by route and status", ["route", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "pointsman_http_request_seconds", "Time to answer, by route", ["route"], registry=registry
        )
        self.batch = Histogram(
            "pointsman_accept_batch_rows",
            "Reports that shared one transaction",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=registry,
        )
        self.reports = Counter(
            "pointsman_reports", "Reports by source and result", ["source", "result"], registry=registry
        )
        self.attempts = Counter(
            "pointsman_attempts",
            "Attempts by destination, kind and outcome",
            ["destination", "kind", "outcome"],
            registry=registry,
        )
        self.attempt_seconds = Histogram(
            "pointsman_attempt_seconds",
            "Time of an attempt, by destination",
            ["destination"],
            registry=registry,
        )
        self.webhooks = Counter(
            "pointsman_webhooks",
            "Webhooks by destination and result",
            ["destination", "result"],
            registry=registry,
        )
        self.drift = Counter(
            "pointsman_drift", "Changes no webhook told, found by asking", ["destination"], registry=registry
        )
        self.stalls = Counter(
            "pointsman_loop_stalls",
            "Times the event loop stood still, by the plugin it stood in",
            ["plugin"],
            registry=registry,
        )
        self.pending = Gauge("pointsman_deliveries_pending", "Deliveries not yet made", registry=registry)
        self.in_doubt = Gauge(
            "pointsman_deliveries_in_doubt", "Deliveries of unknown outcome", registry=registry
        )
        self.dead = Gauge("pointsman_deliveries_dead", "Deliveries given up", registry=registry)
        self.oldest = Gauge(
            "pointsman_oldest_undelivered_seconds",
            "Age of the oldest delivery not yet made",
            registry=registry,
        )
        self.lanes = Gauge("pointsman_lanes_held", "Lanes being worked on by this replica", registry=registry)
        self._asked_at = -_AGE_SECONDS

    def attempt(self, destination: str, kind: str, outcome: str, seconds: float) -> None:
        """Count an attempt."""
        self.attempts.labels(destination, kind, outcome).inc()
        self.attempt_seconds.labels(destination).observe(seconds)

    async def page(self, undelivered: Callable[[], Awaitable[Row]]) -> bytes:
        """The page; the database is asked for its queue at most every few seconds."""
        if time.monotonic() - self._asked_at >= _AGE_SECONDS:
            self._asked_at = time.monotonic()
            row = await undelivered()
            self.pending.set(row["pending"])
            self.in_doubt.set(row["in_doubt"])
            self.dead.set(row["dead"])
            self.oldest.set(row["oldest_seconds"])
        return generate_latest(self.registry)
