"""Prepare reports for acceptance: compute their idempotency key, routing and fingerprint."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from pointsman.content.fingerprint_template import compute_fingerprint
from pointsman.crypto import sha256
from pointsman.domain.repeats import SETTLE_SECONDS, KeyBasis
from pointsman.domain.routing import Choice, Facts, Route, evaluate_history, prefilter, referenced_fields
from pointsman.domain.states import TicketKind
from pointsman.domain.ticket_throttle import NEW_TICKETS_PER_MINUTE
from pointsman.intake.incoming import Incoming
from pointsman.intake.request_parser import PART_HEADER
from pointsman.logs import logger, scrub
from pointsman.plugin_api import Report
from pointsman.plugin_host.instances import LiveSource
from pointsman.plugin_host.snapshot import ConfigReloader, ConfigSnapshot
from pointsman.storage.ids import uuid7

log = logger("intake")

CACHE_LIMIT = 1000
"""Most combinations of facts whose routes are cached."""
_TICKET_KINDS = {kind.name.lower(): kind for kind in TicketKind}


class ReportPreparer:
    """Prepares reports by the current configuration."""

    def __init__(self, config: ConfigReloader) -> None:
        self._config = config
        self._snapshot: ConfigSnapshot | None = None
        self._referenced: frozenset[str] = frozenset()
        self._routes: dict[Facts, tuple[Route, ...]] = {}
        self._failed_templates: set[int | None] = set()
        """Positions of the routes whose template failed; each is logged once per snapshot."""

    def prepare(
        self,
        source: LiveSource,
        report: Report | None,
        body: bytes,
        headers: dict[str, str],
        *,
        key: str | None = None,
        kind: TicketKind | None = None,
        error: str | None = None,
        part: int = 0,
    ) -> Incoming:
        """Return a report ready to be submitted; ``report`` is None and ``error`` given if the body could not be read.

        ``key`` is the sender's idempotency key. ``part`` is the report's index within its request: the first report is
        stored with the body of the request, later ones with what was read of them.
        """
        report_id, ticket_id = uuid7(), uuid7()
        digest = sha256(body)
        ticket_kind = kind or ticket_kind_of(source)
        key_hash = key_hash_of(source, report, report_id, digest, key=key, part=part)
        if part:
            body, headers = msgspec.json.encode(report), {**headers, PART_HEADER: str(part)}
        routes: tuple[Route, ...] = ()
        choice, member = Choice(), None
        if report is not None:
            routes = self._candidate_routes(source, ticket_kind, report)
            choice = choose(routes, ticket_kind)
            own_fingerprint = report.fingerprint
            report = self._with_template_fingerprint(source, ticket_kind, routes, report)
            if own_fingerprint and report.fingerprint != own_fingerprint:
                member = sha256(own_fingerprint.encode("utf-8", "replace"))
            if not report.fingerprint:
                report = replace(report, fingerprint=str(ticket_id))
        return Incoming(
            report_id=report_id,
            source_id=source.id,
            key_hash=key_hash,
            body=body,
            body_sha256=digest,
            headers=headers,
            ticket_kind=ticket_kind,
            report=report,
            error=error,
            destination_ids=choice.destinations,
            matched_routes=choice.routes or choice.pending,
            candidate_routes=routes if choice.pending else (),
            new_ticket_id=ticket_id,
            source_slug=source.slug,
            ticket_rate_limit=ticket_rate_limit(source, ticket_kind),
            member=member,
            key_basis=key_basis_of(source, report, key=key),
            settle_seconds=settle_seconds(source),
        )

    def fingerprint_of(self, source: LiveSource, report: Report) -> str:
        """Return the fingerprint of a report's ticket; empty if each report opens one of its own."""
        kind = ticket_kind_of(source)
        routes = self._candidate_routes(source, kind, report)
        return self._with_template_fingerprint(source, kind, routes, report).fingerprint

    def _candidate_routes(self, source: LiveSource, kind: TicketKind, report: Report) -> tuple[Route, ...]:
        """Return the routes that may match a report.

        Cached by the facts that routes reference, unless these are titles or tags, which differ too much.
        """
        snapshot = self._config.current
        if snapshot is not self._snapshot:
            self._snapshot, self._routes, self._failed_templates = snapshot, {}, set()
            self._referenced = referenced_fields(snapshot.routes)
        facts = Facts(
            source.slug,
            kind.name.lower(),
            report.environment if "environment" in self._referenced else "",
            report.level if "level" in self._referenced else "",
            report.release if "release" in self._referenced else "",
        )
        if not self._referenced.isdisjoint(("title", "tags")):
            return prefilter(snapshot.routes, replace(facts, title=report.title, tags=report.facts))
        routes = self._routes.get(facts)
        if routes is None:
            if len(self._routes) >= CACHE_LIMIT:
                self._routes.clear()
            routes = self._routes[facts] = prefilter(snapshot.routes, facts)
        return routes

    def _with_template_fingerprint(
        self, source: LiveSource, kind: TicketKind, routes: Sequence[Route], report: Report
    ) -> Report:
        """Return the report with the fingerprint of a route's template. Support tickets are never grouped by one."""
        if source.owns_tickets or kind is not TicketKind.ALERT:
            return report
        result = compute_fingerprint(routes, source.slug, kind.name.lower(), report)
        if result.problem and result.position not in self._failed_templates:
            self._failed_templates.add(result.position)
            log.warning(
                "fingerprint template failed: the source's fingerprint is used",
                route=result.position,
                name=result.name,
                source=source.slug,
                error=scrub(result.problem),
            )
        if result.fingerprint == report.fingerprint:
            return report
        return replace(report, fingerprint=result.fingerprint)


def ticket_kind_of(source: LiveSource) -> TicketKind:
    """Return the kind of tickets that a source opens."""
    return _TICKET_KINDS[source.plugin.ticket_kind if source.plugin else "alert"]


def ticket_rate_limit(source: LiveSource, kind: TicketKind) -> int:
    """Return how many tickets a source may open in a minute; 0: no limit. Support tickets are never throttled."""
    if kind is not TicketKind.ALERT:
        return 0
    limit = source.new_tickets_per_minute
    return NEW_TICKETS_PER_MINUTE if limit is None else limit


def choose(routes: Sequence[Route], kind: TicketKind) -> Choice:
    """Evaluate candidate routes without a history. For support tickets every threshold counts as met."""
    choice = evaluate_history(routes)
    if choice.pending and kind is TicketKind.SUPPORT:
        return evaluate_history(routes, met=True)
    return choice


def key_hash_of(
    source: LiveSource,
    report: Report | None,
    report_id: uuid.UUID,
    body_sha256: bytes,
    *,
    key: str | None,
    part: int,
) -> bytes:
    """Return the hash by which a repeated report is recognised.

    The sender's key counts first, then the key that the source read in the report, then the body.
    """
    own_key = report.dedupe if report is not None else None
    if key is not None:
        key_hash = sha256(b"key\n" + key.encode("utf-8", "surrogateescape"))
    elif own_key:
        key_hash = sha256(b"dedupe\n" + own_key.encode("utf-8", "replace"))
    elif report is not None and _is_never_repeated(source, report):
        key_hash = sha256(b"unique\n" + report_id.bytes)
    else:
        key_hash = sha256(b"body\n" + body_sha256)
    if part and (key is not None or own_key is None):
        # the reports of one request share its key or body
        return sha256(b"part %d\n" % part + key_hash)
    return key_hash


def key_basis_of(source: LiveSource, report: Report | None, *, key: str | None) -> KeyBasis:
    """Return what the key of a report identifies."""
    if key is not None or report is None or _is_never_repeated(source, report):
        return KeyBasis.REQUEST
    return KeyBasis.BODY if report.dedupe is None else KeyBasis(report.dedupe_by)


def settle_seconds(source: LiveSource) -> float:
    """Return how long after a change of state the same words of a source are a late copy."""
    configured = source.limits.settle_seconds
    return SETTLE_SECONDS if configured is None else configured


def _is_never_repeated(source: LiveSource, report: Report) -> bool:
    return source.owns_tickets or report.action == "test" or report.dedupe == ""
