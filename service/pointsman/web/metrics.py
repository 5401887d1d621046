"""Metrics for Prometheus. Labels come from the configuration and from code, never from what strangers send."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from pointsman.domain.retry_policy import Class
from pointsman.logs import logger
from pointsman.storage.db import LOST
from pointsman.storage.metrics import Now

log = logger("metrics")

_AGE_SECONDS = 5.0
_PATIENCE_SECONDS = 4.0
STALE = "stale"
"""The outcome of an attempt whose lane was lost before it could be written down."""
_CLASSES = frozenset(map(str, Class))


class Metrics:
    """All counters of one process."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "pointsman_http_requests", "Requests by route and status", ["route", "status"], registry=registry
        )
        self.connections = Gauge("pointsman_http_connections", "Connections that are open", registry=registry)
        self.turned_away = Counter(
            "pointsman_http_turned_away",
            "Clients turned away at the door, by why",
            ["why"],
            registry=registry,
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
        self._of_deliveries()
        self._of_destinations()
        self._of_the_house()
        self._asked_at = -_AGE_SECONDS
        # what labels() finds, found once: it costs more than counting
        self._of_route: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._of_report: dict[tuple[str, str], Counter] = {}

    def _of_deliveries(self) -> None:
        registry = self.registry
        self.stale = Counter(
            "pointsman_stale_results",
            "Results that came after the lease was lost, and were dropped",
            ["destination"],
            registry=registry,
        )
        self.doubles = Counter(
            "pointsman_doubles",
            "Issues and comments that were there twice, by what became of them",
            ["destination", "what", "result"],
            registry=registry,
        )
        self.masked = Counter(
            "pointsman_masked", "Secrets masked in what was sent, by kind", ["kind"], registry=registry
        )
        self.storms = Counter(
            "pointsman_storms",
            "Times a source opened more tickets than it may",
            ["source"],
            registry=registry,
        )
        self.pending = Gauge("pointsman_deliveries_pending", "Deliveries not yet made", registry=registry)
        self.in_doubt = Gauge(
            "pointsman_deliveries_in_doubt",
            "Deliveries of unknown outcome that are not given up",
            ["destination"],
            registry=registry,
        )
        self.dead = Gauge(
            "pointsman_deliveries_dead",
            "Deliveries given up and not replayed",
            ["destination", "class"],
            registry=registry,
        )
        self.oldest = Gauge(
            "pointsman_oldest_undelivered_seconds",
            "Age of the oldest delivery not yet made",
            ["destination"],
            registry=registry,
        )
        self.parked = Gauge(
            "pointsman_lanes_parked", "Lanes that wait for a person", ["destination"], registry=registry
        )
        self.lanes = Gauge("pointsman_lanes_held", "Lanes being worked on by this replica", registry=registry)

    def _of_destinations(self) -> None:
        registry = self.registry
        self.last_success = Gauge(
            "pointsman_last_success_timestamp_seconds",
            "When this replica last made a delivery there, in Unix time",
            ["destination"],
            registry=registry,
        )
        self.breaker = Gauge(
            "pointsman_destination_breaker",
            "Its breaker: 0 closed, 1 half open, 2 open",
            ["destination"],
            registry=registry,
        )
        self.paused = Gauge(
            "pointsman_destination_paused", "Whether it is paused", ["destination"], registry=registry
        )
        self.held = Gauge(
            "pointsman_destination_held_seconds",
            "For how long it is held, because it asked to wait or refused us",
            ["destination"],
            registry=registry,
        )
        self.failures = Gauge(
            "pointsman_destination_failures",
            "Failures in a row, up to now",
            ["destination"],
            registry=registry,
        )
        self.tokens = Gauge(
            "pointsman_budget_tokens",
            "Writes that may be made at once",
            ["destination", "scope"],
            registry=registry,
        )
        self.rate = Gauge(
            "pointsman_budget_rate",
            "Writes per second that are allowed now",
            ["destination", "scope"],
            registry=registry,
        )

    def _of_the_house(self) -> None:
        registry = self.registry
        self.house_alarms = Gauge(
            "pointsman_house_alarm", "What keeping house found wrong; 0 is well", ["what"], registry=registry
        )
        self.reports_parked = Gauge(
            "pointsman_reports_parked", "Reports that could not be decided on", registry=registry
        )
        self.careful = Gauge("pointsman_careful_mode", "Whether every write looks first", registry=registry)
        self.waiting = Gauge(
            "pointsman_accept_waiting_rows", "Reports that wait to be committed", registry=registry
        )
        self.database_up = Gauge(
            "pointsman_database_up", "Whether the database answered this page", registry=registry
        )
        self.pool_used = Gauge(
            "pointsman_database_connections_used", "Connections in use, of the pool", registry=registry
        )
        self.pool_size = Gauge(
            "pointsman_database_connections_max", "Connections the pool may have", registry=registry
        )
        self.loop_lag = Histogram(
            "pointsman_loop_lag_seconds",
            "How late the event loop comes to what is due, sampled four times a second",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
            registry=registry,
        )

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        found = self._of_route.get((route, status))
        if found is None:
            found = self.requests.labels(route, status), self.request_seconds.labels(route)
            self._of_route[route, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def report(self, source: str, result: str) -> None:
        """Count a report."""
        found = self._of_report.get((source, result))
        if found is None:
            found = self._of_report[source, result] = self.reports.labels(source, result)
        found.inc()

    def attempt(self, destination: str, kind: str, outcome: str, seconds: float) -> None:
        """Count an attempt."""
        self.attempts.labels(destination, kind, outcome).inc()
        self.attempt_seconds.labels(destination).observe(seconds)
        if outcome in (Class.DONE, Class.FOUND):
            self.last_success.labels(destination).set_to_current_time()
        elif outcome == STALE:
            self.stale.labels(destination).inc()

    def double(self, destination: str, what: str, repaired: bool) -> None:  # noqa: FBT001 - a callback
        """Count an issue or a comment that was made twice."""
        self.doubles.labels(destination, what, "repaired" if repaired else "left").inc()

    def mask(self, masked: Mapping[str, int]) -> None:
        """Count what was masked in a draft. The kinds are few: they stand in the code."""
        for kind, number in masked.items():
            self.masked.labels(kind).inc(number)

    async def page(self, read: Callable[[], Awaitable[Now]]) -> bytes:
        """The page; the database is asked at most every few seconds, and without it the rest is shown."""
        if time.monotonic() - self._asked_at >= _AGE_SECONDS:
            self._asked_at = time.monotonic()
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    now = await read()
            except LOST as error:
                self.database_up.set(0)
                log.warning("the metrics lack what the database knows", error=type(error).__name__)
            else:
                self._show(now)
        return generate_latest(self.registry)

    def _show(self, now: Now) -> None:
        """Set every gauge that is read from the database; what is no longer there is shown no more."""
        for gauge in (
            *(self.in_doubt, self.dead, self.oldest, self.parked, self.breaker, self.paused),
            *(self.held, self.failures, self.tokens, self.rate),
        ):
            gauge.clear()
        self.database_up.set(1)
        self.pending.set(sum(row["pending"] for row in now.destinations))
        for row in now.destinations:
            slug = row["slug"]
            self.in_doubt.labels(slug).set(row["in_doubt"])
            self.oldest.labels(slug).set(row["oldest_seconds"])
            self.parked.labels(slug).set(row["parked_lanes"])
            self.breaker.labels(slug).set(row["breaker"])
            self.paused.labels(slug).set(row["paused"])
            self.held.labels(slug).set(max(0.0, row["held_seconds"]))
            self.failures.labels(slug).set(row["failures"])
        for row in now.dead:
            cls = row["class"] if row["class"] in _CLASSES else "other"
            self.dead.labels(row["slug"], cls).inc(row["dead"])
        for row in now.rate_limits:
            for slug in row["destinations"]:
                self.tokens.labels(slug, row["scope"]).set(row["tokens"])
                self.rate.labels(slug, row["scope"]).set(row["rate"])
        self.reports_parked.set(now.house["reports_parked"])
        self.careful.set(now.house["careful"])
