"""Metrics for Prometheus. Label values come from the configuration and the code, never from requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from pointsman.bus import signals as sent
from pointsman.bus.signals import Signals
from pointsman.delivery.attempt_result import LEASE_LOST
from pointsman.domain.retry_policy import Outcome
from pointsman.logs import logger
from pointsman.storage.errors import DatabaseUnavailable
from pointsman.storage.metrics import DatabaseMetrics, PoolUsage

log = logger("metrics")

_MAX_AGE_SECONDS = 5.0
_READ_TIMEOUT_SECONDS = 4.0
_SUCCESSES = frozenset({str(Outcome.DONE), str(Outcome.VERIFIED)})
_OUTCOMES = frozenset(map(str, Outcome))


class Metrics:
    """All metrics of one process."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._define_http()
        self._define_events()
        self._define_deliveries()
        self._define_destinations()
        self._define_maintenance()
        self._read_at = -_MAX_AGE_SECONDS

    def subscribe(self, signals: Signals) -> None:
        """Count what the other packages announce."""
        signals.subscribe(
            sent.BatchAccepted, lambda signal: self.intake_batch_size.observe(signal.report_count)
        )
        signals.subscribe(
            sent.ThrottleStarted, lambda signal: self.ticket_rate_exceeded.labels(signal.source).inc()
        )
        signals.subscribe(
            sent.ReportBackfilled, lambda signal: self.reports.labels(signal.source, "backfilled").inc()
        )
        signals.subscribe(sent.AttemptFinished, self._count_attempt)
        signals.subscribe(sent.TextRedacted, self._count_redactions)
        signals.subscribe(
            sent.DriftDetected, lambda signal: self.poll_detected_changes.labels(signal.destination).inc()
        )
        signals.subscribe(sent.DuplicateFound, self._count_duplicate)
        signals.subscribe(
            sent.MaintenanceChecked,
            lambda signal: self.maintenance_alarm.labels(signal.check).set(signal.value),
        )
        signals.subscribe(
            sent.EventLoopStalled, lambda signal: self.event_loop_stalls.labels(signal.plugin).inc()
        )
        signals.subscribe(
            sent.EventLoopLagMeasured, lambda signal: self.event_loop_lag.observe(signal.seconds)
        )

    def _counter(self, name: str, description: str, *labels: str) -> Counter:
        return Counter(f"pointsman_{name}", description, labels, registry=self.registry)

    def _gauge(self, name: str, description: str, *labels: str) -> Gauge:
        return Gauge(f"pointsman_{name}", description, labels, registry=self.registry)

    def _histogram(
        self, name: str, description: str, *labels: str, buckets: Sequence[float] = Histogram.DEFAULT_BUCKETS
    ) -> Histogram:
        return Histogram(f"pointsman_{name}", description, labels, buckets=buckets, registry=self.registry)

    def _define_http(self) -> None:
        self.requests = self._counter("http_requests", "Requests by route and status", "route", "status")
        self.request_duration = self._histogram(
            "http_request_duration_seconds", "Time to answer a request", "route"
        )
        self.connections = self._gauge("http_connections", "Open connections of clients")
        self.rejected_connections = self._counter(
            "http_rejected_connections", "Connections that were refused or cut, by reason", "reason"
        )
        self.refused_credentials = self._counter(
            "refused_credentials",
            "Requests with a wrong token, password or signature; the slug is that of a source or destination that exists",
            *("endpoint", "slug"),
        )
        self.intake_batch_size = self._histogram(
            "intake_batch_size",
            "Reports committed in one transaction",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
        )
        self.intake_queue_length = self._gauge(
            "intake_queue_length", "Reports that wait to be committed by this replica"
        )

    def _define_events(self) -> None:
        self.reports = self._counter("reports", "Reports by source and result", "source", "result")
        self.reports_parked = self._gauge("reports_parked", "Reports that could not be processed")
        self.ticket_rate_exceeded = self._counter(
            "ticket_rate_exceeded", "Times a source opened more tickets in a minute than allowed", "source"
        )
        self.webhooks = self._counter(
            "webhooks", "Webhooks by destination and result", "destination", "result"
        )
        self.poll_detected_changes = self._counter(
            "poll_detected_changes",
            "Changes of issues that polling found and no webhook had announced",
            "destination",
        )
        self.redactions = self._counter("redactions", "Secrets masked in outgoing texts, by kind", "kind")

    def _define_deliveries(self) -> None:
        self.attempts = self._counter(
            "attempts",
            "Delivery attempts by destination, kind and outcome",
            *("destination", "kind", "outcome"),
        )
        self.attempt_duration = self._histogram(
            "attempt_duration_seconds", "Duration of a delivery attempt", "destination"
        )
        self.lost_lease_results = self._counter(
            "lost_lease_results", "Results dropped because the lease of their lane was lost", "destination"
        )
        self.duplicate_writes = self._counter(
            "duplicate_writes",
            "Issues and comments that existed twice, by whether they could be repaired",
            *("destination", "object", "result"),
        )
        self.deliveries_pending = self._gauge("deliveries_pending", "Deliveries that are not finished")
        self.deliveries_outcome_unknown = self._gauge(
            "deliveries_outcome_unknown", "Pending deliveries with an unknown outcome", "destination"
        )
        self.dead_letters = self._gauge(
            "dead_letters",
            "Deliveries that were given up and not replayed",
            *("destination", "outcome"),
        )
        self.oldest_pending_delivery_age = self._gauge(
            "oldest_pending_delivery_age_seconds", "Age of the oldest pending delivery", "destination"
        )
        self.lanes_parked = self._gauge("lanes_parked", "Lanes that wait for an operator", "destination")
        self.lanes_claimed = self._gauge("lanes_claimed", "Lanes that this replica works on")

    def _define_destinations(self) -> None:
        self.last_success = self._gauge(
            "last_success_timestamp_seconds",
            "Unix time of this replica's last successful delivery",
            "destination",
        )
        self.circuit_breaker_state = self._gauge(
            "destination_circuit_breaker_state", "0 closed, 1 half open, 2 open", "destination"
        )
        self.destination_paused = self._gauge(
            "destination_paused", "1 if the destination is paused", "destination"
        )
        self.destination_backoff = self._gauge(
            "destination_backoff_seconds",
            "Time until the destination is tried again after a failure or a request to wait",
            "destination",
        )
        self.destination_failures = self._gauge(
            "destination_consecutive_failures", "Failures since the last success", "destination"
        )
        self.rate_limit_tokens = self._gauge(
            "rate_limit_tokens", "Writes that are allowed at once", "destination", "scope"
        )
        self.rate_limit_writes_per_second = self._gauge(
            "rate_limit_writes_per_second", "Writes per second that are allowed", "destination", "scope"
        )

    def _define_maintenance(self) -> None:
        self.maintenance_alarm = self._gauge(
            "maintenance_alarm", "Value of a maintenance check; 0 is healthy", "check"
        )
        self.verify_writes_mode = self._gauge(
            "verify_writes_mode", "1 while every write is preceded by a search for its marker"
        )
        self.database_up = self._gauge("database_up", "Whether the database answered when this page was made")
        self.database_connections_used = self._gauge(
            "database_connections_used", "Connections of the pool that are in use"
        )
        self.database_connections_max = self._gauge("database_connections_max", "Size of the connection pool")
        self.event_loop_lag = self._histogram(
            "event_loop_lag_seconds",
            "Delay of a timer of the event loop, sampled four times a second",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
        )
        self.event_loop_stalls = self._counter(
            "event_loop_stalls",
            "Times the event loop was blocked for over a second, by the plugin that blocked it",
            "plugin",
        )

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self.requests.labels(route, status).inc()
        self.request_duration.labels(route).observe(seconds)

    def _count_attempt(self, attempt: sent.AttemptFinished) -> None:
        self.attempts.labels(attempt.destination, attempt.kind, attempt.outcome).inc()
        self.attempt_duration.labels(attempt.destination).observe(attempt.seconds)
        if attempt.outcome in _SUCCESSES:
            self.last_success.labels(attempt.destination).set_to_current_time()
        elif attempt.outcome == LEASE_LOST:
            self.lost_lease_results.labels(attempt.destination).inc()

    def _count_duplicate(self, duplicate: sent.DuplicateFound) -> None:
        result = "repaired" if duplicate.repaired else "left"
        self.duplicate_writes.labels(duplicate.destination, duplicate.subject, result).inc()

    def _count_redactions(self, redacted: sent.TextRedacted) -> None:
        for kind, number in redacted.counts.items():
            self.redactions.labels(kind).inc(number)

    async def render(self, pool: PoolUsage, read: Callable[[], Awaitable[DatabaseMetrics]]) -> bytes:
        """Return the page in the text format.

        ``read`` is called at most every five seconds; when it fails, the page has the last values.
        """
        self.database_connections_used.set(pool.used)
        self.database_connections_max.set(pool.size)
        if time.monotonic() - self._read_at >= _MAX_AGE_SECONDS:
            self._read_at = time.monotonic()
            try:
                async with asyncio.timeout(_READ_TIMEOUT_SECONDS):
                    metrics = await read()
            except (DatabaseUnavailable, TimeoutError) as error:
                self.database_up.set(0)
                log.warning("metrics of the database are missing", error=str(error) or type(error).__name__)
            else:
                self._show(metrics)
        return generate_latest(self.registry)

    def _show(self, metrics: DatabaseMetrics) -> None:
        """Set every gauge that is read from the database. Series of destinations that are gone disappear."""
        for gauge in (
            *(self.deliveries_outcome_unknown, self.dead_letters, self.oldest_pending_delivery_age),
            *(self.lanes_parked, self.circuit_breaker_state, self.destination_paused),
            *(self.destination_backoff, self.destination_failures),
            *(self.rate_limit_tokens, self.rate_limit_writes_per_second),
        ):
            gauge.clear()
        self.database_up.set(1)
        self.deliveries_pending.set(sum(row.pending for row in metrics.destinations))
        for row in metrics.destinations:
            self.deliveries_outcome_unknown.labels(row.slug).set(row.outcome_unknown)
            self.oldest_pending_delivery_age.labels(row.slug).set(row.oldest_pending_seconds)
            self.lanes_parked.labels(row.slug).set(row.parked_lanes)
            self.circuit_breaker_state.labels(row.slug).set(row.circuit_breaker_state)
            self.destination_paused.labels(row.slug).set(row.paused)
            self.destination_backoff.labels(row.slug).set(max(0.0, row.backoff_seconds))
            self.destination_failures.labels(row.slug).set(row.consecutive_failures)
        for dead in metrics.dead_letters:
            outcome = dead.outcome if dead.outcome in _OUTCOMES else "other"
            self.dead_letters.labels(dead.slug, outcome).inc(dead.deliveries)
        for limit in metrics.rate_limits:
            for slug in limit.destinations:
                self.rate_limit_tokens.labels(slug, limit.scope).set(limit.tokens)
                self.rate_limit_writes_per_second.labels(slug, limit.scope).set(limit.rate)
        self.reports_parked.set(metrics.maintenance.reports_parked)
        self.verify_writes_mode.set(metrics.maintenance.verify_writes)
