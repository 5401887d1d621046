"""Render drafts: what a delivery sends. A draft is rendered once, stored with its delivery, and the same in every retry."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from pointsman.bus.signals import Signals, TextRedacted
from pointsman.content import render
from pointsman.content.redaction.outgoing_filter import PROFILES, OutgoingFilter
from pointsman.content.redaction.redact import Profile
from pointsman.content.sanitize import one_line
from pointsman.content.template_selection import (
    NO_RULE,
    Rule,
    TemplateSelector,
    has_templates,
    rule_for,
)
from pointsman.content.templates import TemplateContext
from pointsman.delivery.attempt import Attempt, ticket_text
from pointsman.delivery.enrichment import DETAILS, Enricher, merge_details
from pointsman.domain.routing import Facts
from pointsman.domain.states import DeliveryKind, DestinationKind, TicketKind
from pointsman.domain.ticket_throttle import is_summary_event
from pointsman.logs import logger, scrub
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.storage import tickets
from pointsman.storage.db import Database
from pointsman.storage.queue import missing_comments
from pointsman.storage.queue_values import NextDelivery
from pointsman.storage.ticket_throttle import ThrottledTickets, throttled_tickets_for

log = logger("drafts")

TEXT_KINDS = frozenset({DeliveryKind.CREATE, DeliveryKind.COMMENT})
"""Deliveries that send a text; the others only change a state."""
MAX_INLINE_CHARACTERS = 8_000
"""Longer texts are masked and rendered in a thread: 64 kB take some 30 ms, for which the event loop would stop."""


class DraftRenderer:
    """Renders the draft of a delivery that has none yet."""

    def __init__(
        self,
        database: Database,
        reloader: ConfigReloader,
        base_url: str = "",
        enricher: Enricher | None = None,
        *,
        signals: Signals | None = None,
    ) -> None:
        self._database = database
        self._reloader = reloader
        self._base_url = base_url
        self._enricher = enricher
        self._signals = signals or Signals()

    async def render(self, attempt: Attempt) -> dict[str, Any]:
        """Return the draft of a delivery to a tracker or a source."""
        delivery = attempt.delivery
        if delivery.draft is not None:
            stored: dict[str, Any] = json.loads(delivery.draft)
            return stored
        if attempt.kind not in TEXT_KINDS:
            return {}
        throttled = details = None
        rule = NO_RULE
        if is_summary_event(delivery.event_data):
            throttled = await throttled_tickets_for(
                self._database, delivery.ticket_id, attempt.lane.destination_id
            )
        if attempt.destination.kind == DestinationKind.TRACKER:
            rule = await self._rule(delivery, attempt.lane.destination_id)
            if self._enricher is not None:
                details = await self._enricher.enrich(delivery, attempt.kind)
        outgoing_filter = OutgoingFilter(
            self._reloader.current.mask_key,
            PROFILES[attempt.destination.redact],
            person=rule.options.requester,
        )
        missing: tuple[int, dt.datetime | None] = (0, None)
        if attempt.kind is DeliveryKind.COMMENT and attempt.destination.kind == DestinationKind.TRACKER:
            missing = await missing_comments(self._database, attempt.lane.id, delivery.seq)
        render_draft = partial(
            draft_of, attempt, self._base_url, outgoing_filter, throttled, details, rule, missing=missing
        )
        return await self._render(delivery, render_draft, details)

    async def render_email(self, delivery: NextDelivery) -> dict[str, Any]:
        """Return the draft of an e-mail to a ticket's reporter, which may contain their own name and address."""
        if delivery.draft is not None:
            stored: dict[str, Any] = json.loads(delivery.draft)
            return stored
        outgoing_filter = OutgoingFilter(self._reloader.current.mask_key, Profile.NORMAL, person=True)
        rule = await self._rule(delivery, None)
        return await self._render(
            delivery, partial(email_draft_of, delivery, self._base_url, outgoing_filter, rule)
        )

    async def _rule(self, delivery: NextDelivery, destination_id: int | None) -> Rule:
        """Return the route whose templates apply. No route has templates in most installations; then nothing is read."""
        routes = self._reloader.current.routes
        if not any(map(has_templates, routes)):
            return NO_RULE
        opening = json.loads(delivery.event_data)
        if delivery.event_n != 1:
            opening = json.loads(await tickets.read_opening_event(self._database, delivery.ticket_id) or "{}")
        return rule_for(routes, facts_of(delivery, opening), destination_id)

    async def _render(
        self,
        delivery: NextDelivery,
        render_draft: Callable[[], dict[str, Any]],
        details: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        size = len(delivery.event_data) + len(delivery.title) + (len(str(details)) if details else 0)
        draft = render_draft() if size <= MAX_INLINE_CHARACTERS else await asyncio.to_thread(render_draft)
        if masked := draft.get("masked"):
            self._signals.emit(TextRedacted(masked))
        if problem := draft.get("problem"):
            log.warning(
                "template failed: built-in texts used", ticket=str(delivery.ticket_id), problem=scrub(problem)
            )
        return draft


def draft_of(
    attempt: Attempt,
    base_url: str,
    outgoing_filter: OutgoingFilter,
    throttled: ThrottledTickets | None = None,
    details: Mapping[str, Any] | None = None,
    rule: Rule = NO_RULE,
    *,
    missing: tuple[int, dt.datetime | None] = (0, None),
) -> dict[str, Any]:
    """Return a new draft: title, body and facts of an issue, or the body of a comment.

    ``masked`` counts what was masked in it; ``problem`` says what went wrong with a template. ``throttled`` are the tickets
    that a summary ticket lists, ``details`` is what the source adds to its report, and ``missing`` is the number of comments
    before this one that were given up, with the time of the first.
    """
    delivery = attempt.delivery
    data = merge_details(json.loads(delivery.event_data), details)
    if throttled is not None:
        data["throttle"].update(msgspec.to_builtins(throttled))
    data = outgoing_filter.event(render.data_for_destination(data, attempt.lane.destination_id))
    if attempt.destination.kind == DestinationKind.SOURCE:
        return _with_notes({"body": comment_text(data)}, outgoing_filter, [])
    ticket = outgoing_filter.ticket(ticket_text(delivery, base_url))
    if throttled is not None or delivery.event_kind == DETAILS:
        # no template knows these: the list of a summary ticket, and details that an issue lacks
        rule = NO_RULE
    templates = TemplateSelector(
        rule, partial(_template_context, delivery, ticket, data, outgoing_filter, rule)
    )
    if attempt.kind is DeliveryKind.COMMENT:
        built_in = partial(
            render.comment_body,
            ticket,
            delivery.event_kind,
            data,
            coalesced_count=delivery.coalesced_count,
            since=delivery.created_at,
        )
        body = templates.render("comment", built_in)
        if notice := render.missing_comments_notice(ticket, *missing):
            body = f"{notice}\n\n{body}"
        return _with_notes({"body": body}, outgoing_filter, templates.problems)
    issue_data = {**data, "facts": [*_requester_fact(delivery, rule), *data.get("facts", ())]}
    draft = {
        "title": templates.render("title", partial(render.issue_title, ticket)),
        "body": templates.render("body", partial(render.issue_body, ticket, issue_data)),
        "facts": {
            "ticket": ticket.id,
            "kind": ticket.kind.name.lower(),
            "source": ticket.source,
            "title": ticket.title,
            **_named_facts(delivery, data, outgoing_filter),
        },
    }
    return _with_notes(draft, outgoing_filter, templates.problems)


def email_draft_of(
    delivery: NextDelivery, base_url: str, outgoing_filter: OutgoingFilter, rule: Rule = NO_RULE
) -> dict[str, Any]:
    """Return the draft of an e-mail about one transition: ``subject`` and ``body`` in Markdown."""
    ticket = outgoing_filter.ticket(ticket_text(delivery, base_url))

    def context() -> TemplateContext:
        data = outgoing_filter.event(json.loads(delivery.event_data))
        return _template_context(delivery, ticket, data, outgoing_filter, rule)

    templates = TemplateSelector(rule, context)
    built_in = render.mail(ticket, delivery.event_kind)
    draft = {
        "subject": templates.render("mail_subject", lambda: built_in.subject),
        "body": templates.render("mail_body", lambda: built_in.body),
    }
    return _with_notes(draft, outgoing_filter, templates.problems)


def comment_text(data: Mapping[str, Any]) -> str:
    """Return the comment that tells a source about a new issue, as plain text."""
    issue = one_line(f"{data.get('destination', '')} {data.get('key', '')}", 200).strip()
    return f"Tracked as {issue}: {one_line(str(data.get('url') or '(no address)'), 1000)}"


def facts_of(delivery: NextDelivery, opening: Mapping[str, Any]) -> Facts:
    """Return what routes match: the facts of a ticket as its first report had them."""
    return Facts(
        source=delivery.source,
        kind=TicketKind(delivery.ticket_kind).name.lower(),
        environment=delivery.environment or opening.get("environment", ""),
        level=delivery.level or opening.get("level", ""),
        release=delivery.release or opening.get("release", ""),
        title=delivery.title,
        tags=tuple((str(name), str(value)) for name, value in opening.get("facts", ())),
    )


def _with_notes(
    draft: dict[str, Any], outgoing_filter: OutgoingFilter, problems: list[str]
) -> dict[str, Any]:
    if outgoing_filter.masked:
        draft["masked"] = outgoing_filter.masked
    if problems:
        draft["problem"] = "; ".join(problems)
    return draft


def _named_facts(
    delivery: NextDelivery, data: Mapping[str, Any], outgoing_filter: OutgoingFilter
) -> dict[str, str]:
    """Return level, environment, release and address of a ticket; what the ticket lacks is taken from the event."""
    named = {
        name: outgoing_filter.fact(name, getattr(delivery, name)) or data.get(name, "")
        for name in ("level", "environment", "release")
    }
    return {**named, "url": outgoing_filter.text(delivery.ticket_url)}


def _template_context(
    delivery: NextDelivery,
    ticket: render.TicketText,
    data: Mapping[str, Any],
    outgoing_filter: OutgoingFilter,
    rule: Rule,
) -> TemplateContext:
    show_requester = rule.options.requester and ticket.kind is TicketKind.SUPPORT
    named = _named_facts(delivery, data, outgoing_filter)
    return TemplateContext(
        ticket=ticket,
        event_kind=delivery.event_kind,
        at=delivery.event_at,
        data=data,
        level=named["level"],
        environment=named["environment"],
        release=named["release"],
        url=data.get("url") or named["url"],
        occurrences=delivery.occurrences,
        earlier=delivery.coalesced_count,
        requester_name=delivery.reporter_name if show_requester else "",
        requester_address=delivery.reporter_email if show_requester else "",
    )


def _requester_fact(delivery: NextDelivery, rule: Rule) -> list[tuple[str, str]]:
    """Return the requester as a fact where the route allows it."""
    if (
        not rule.options.requester
        or delivery.ticket_kind != TicketKind.SUPPORT
        or not delivery.reporter_email
    ):
        return []
    name, address = delivery.reporter_name, delivery.reporter_email
    return [("Requester", f"{name} <{address}>" if name else address)]
