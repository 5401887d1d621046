"""What is sent: rendered once from the ticket and its event, kept with the delivery, the same in every repeat."""

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
from pointsman.delivery.enrichment import DETAILS, Enricher, with_more
from pointsman.domain.routing import Facts
from pointsman.domain.states import DeliveryKind, DestinationKind, TicketKind
from pointsman.domain.ticket_throttle import is_summary_event
from pointsman.logs import logger, scrub
from pointsman.plugin_host.snapshot import ConfigReloader
from pointsman.storage import tickets
from pointsman.storage.db import Database
from pointsman.storage.queue import NextDelivery, missing_comments
from pointsman.storage.ticket_throttle import ThrottledTickets, throttled_tickets_for

log = logger("drafts")

SAYING = frozenset({DeliveryKind.CREATE, DeliveryKind.UPDATE, DeliveryKind.COMMENT})
"""Deliveries that say something; the others only do."""
INLINE_CHARACTERS = 8_000
"""What is longer is masked and rendered in a thread: 64 kB take some 30 ms, in which nobody else would be served."""


class DraftRenderer:
    """Makes the draft of a delivery that has none yet."""

    def __init__(
        self,
        database: Database,
        reloader: ConfigReloader,
        base_url: str = "",
        enrich: Enricher | None = None,
        *,
        signals: Signals | None = None,
    ) -> None:
        self._database = database
        self._reloader = reloader
        self._base_url = base_url
        self._enrich = enrich
        self._signals = signals or Signals()

    async def render(self, one: Attempt) -> dict[str, Any]:
        """What is sent, with what can be learned before. A database that is away is no reason to send less."""
        head = one.delivery
        if head.draft is not None:
            kept: dict[str, Any] = json.loads(head.draft)
            return kept
        if one.kind not in SAYING:
            return {}
        listed = more = None
        rule = NO_RULE
        if is_summary_event(head.event_data):
            listed = await throttled_tickets_for(self._database, head.ticket_id, one.lane.destination_id)
        if one.destination.kind == DestinationKind.TRACKER:
            rule = await self._rule(head, one.lane.destination_id)
            if self._enrich is not None:
                more = await self._enrich.enrich(head, one.kind)
        gate = OutgoingFilter(
            self._reloader.current.mask_key, PROFILES[one.destination.redact], person=rule.options.requester
        )
        missing: tuple[int, dt.datetime | None] = (0, None)
        if one.kind is DeliveryKind.COMMENT and one.destination.kind == DestinationKind.TRACKER:
            missing = await missing_comments(self._database, one.lane.id, head.seq)
        make = partial(draft_of, one, self._base_url, gate, listed, more, rule, missing=missing)
        return await self._made(head, make, more)

    async def render_email(self, head: NextDelivery) -> dict[str, Any]:
        """What a ticket's owner is told. Their own name and address are theirs to see."""
        if head.draft is not None:
            kept: dict[str, Any] = json.loads(head.draft)
            return kept
        gate = OutgoingFilter(self._reloader.current.mask_key, Profile.NORMAL, person=True)
        rule = await self._rule(head, None)
        return await self._made(head, partial(mail_of, head, self._base_url, gate, rule))

    async def _rule(self, head: NextDelivery, destination_id: int | None) -> Rule:
        """The rule that says how this ticket is told. As good as always there is none, and nothing is asked."""
        routes = self._reloader.current.routes
        if not any(map(has_templates, routes)):
            return NO_RULE
        opening = json.loads(head.event_data)
        if head.event_n != 1:
            opening = json.loads(await tickets.read_opening_event(self._database, head.ticket_id) or "{}")
        return rule_for(routes, facts_of(head, opening), destination_id)

    async def _made(
        self, head: NextDelivery, make: Callable[[], dict[str, Any]], more: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        size = len(head.event_data) + len(head.title) + (len(str(more)) if more else 0)
        draft = make() if size <= INLINE_CHARACTERS else await asyncio.to_thread(make)
        if masked := draft.get("masked"):
            self._signals.emit(TextRedacted(masked))
        if problem := draft.get("problem"):
            log.warning("the built-in words were used", ticket=str(head.ticket_id), problem=scrub(problem))
        return draft


def draft_of(
    one: Attempt,
    base_url: str,
    gate: OutgoingFilter,
    listed: ThrottledTickets | None = None,
    more: Mapping[str, Any] | None = None,
    rule: Rule = NO_RULE,
    *,
    missing: tuple[int, dt.datetime | None] = (0, None),
) -> dict[str, Any]:
    """A new draft: title, body and facts of an issue, the body of a comment; what was masked in it (``masked``), and what
    went wrong with a template (``problem``).

    ``listed``: what a storm holds now. ``more``: what the ticket's source says beyond its report. ``missing``: how many
    comments before this one were given up, and since when.
    """
    head = one.delivery
    data = with_more(json.loads(head.event_data), more)
    if listed is not None:
        data["throttle"].update(msgspec.to_builtins(listed))
    data = gate.event(render.data_for_destination(data, one.lane.destination_id))
    if one.destination.kind == DestinationKind.SOURCE:
        return _with_notes({"body": comment_text(data)}, gate, [])
    ticket = gate.ticket(ticket_text(head, base_url))
    if listed is not None or head.event_kind == DETAILS:
        # what these tell, no template could: the list of a storm, and what is still missing in an issue
        rule = NO_RULE
    wording = TemplateSelector(rule, partial(_given, head, ticket, data, gate, rule))
    if one.kind is DeliveryKind.COMMENT:
        coalesced_count, since = head.coalesced_count, head.created_at
        built_in = partial(
            render.comment_body, ticket, head.event_kind, data, coalesced_count=coalesced_count, since=since
        )
        said = wording.render("comment", built_in)
        if notice := render.missing_comments_notice(ticket, *missing):
            said = f"{notice}\n\n{said}"
        return _with_notes({"body": said}, gate, wording.problems)
    told = {**data, "facts": [*_requester(head, rule), *data.get("facts", ())]}
    draft = {
        "title": wording.render("title", partial(render.issue_title, ticket)),
        "body": wording.render("body", partial(render.issue_body, ticket, told)),
        "facts": {
            "ticket": ticket.id,
            "kind": ticket.kind.name.lower(),
            "source": ticket.source,
            "title": ticket.title,
            **_named(head, data, gate),
        },
    }
    return _with_notes(draft, gate, wording.problems)


def mail_of(head: NextDelivery, base_url: str, gate: OutgoingFilter, rule: Rule = NO_RULE) -> dict[str, Any]:
    """The mail of one transition."""
    ticket = gate.ticket(ticket_text(head, base_url))
    wording = TemplateSelector(
        rule, lambda: _given(head, ticket, gate.event(json.loads(head.event_data)), gate, rule)
    )
    built_in = render.mail(ticket, head.event_kind)
    draft = {
        "subject": wording.render("mail_subject", lambda: built_in.subject),
        "body": wording.render("mail_body", lambda: built_in.body),
    }
    return _with_notes(draft, gate, wording.problems)


def comment_text(data: Mapping[str, Any]) -> str:
    """Return the comment that tells a source about a new issue, as plain text."""
    where = one_line(f"{data.get('destination', '')} {data.get('key', '')}", 200).strip()
    return f"Tracked as {where}: {one_line(str(data.get('url') or '(no address)'), 1000)}"


def facts_of(delivery: NextDelivery, opening: Mapping[str, Any]) -> Facts:
    """Return what routes ask of a ticket, as its first report said it."""
    return Facts(
        source=delivery.source,
        kind=TicketKind(delivery.ticket_kind).name.lower(),
        environment=delivery.environment or opening.get("environment", ""),
        level=delivery.level or opening.get("level", ""),
        release=delivery.release or opening.get("release", ""),
        title=delivery.title,
        tags=tuple((str(name), str(value)) for name, value in opening.get("facts", ())),
    )


def _with_notes(draft: dict[str, Any], gate: OutgoingFilter, problems: list[str]) -> dict[str, Any]:
    if gate.masked:
        draft["masked"] = gate.masked
    if problems:
        draft["problem"] = "; ".join(problems)
    return draft


def _named(head: NextDelivery, data: Mapping[str, Any], gate: OutgoingFilter) -> dict[str, str]:
    """What a ticket is known by; where it does not say so itself, its report does."""
    named = {
        name: gate.fact(name, getattr(head, name)) or data.get(name, "")
        for name in ("level", "environment", "release")
    }
    return {**named, "url": gate.text(head.ticket_url)}


def _given(
    head: NextDelivery, ticket: render.TicketText, data: Mapping[str, Any], gate: OutgoingFilter, rule: Rule
) -> TemplateContext:
    """What a template is given."""
    asked = rule.options.requester and ticket.kind is TicketKind.SUPPORT
    named = _named(head, data, gate)
    return TemplateContext(
        ticket=ticket,
        event_kind=head.event_kind,
        at=head.event_at,
        data=data,
        level=named["level"],
        environment=named["environment"],
        release=named["release"],
        url=data.get("url") or named["url"],
        occurrences=head.occurrences,
        earlier=head.coalesced_count,
        requester_name=head.reporter_name if asked else "",
        requester_address=head.reporter_email if asked else "",
    )


def _requester(head: NextDelivery, rule: Rule) -> list[tuple[str, str]]:
    """Who asked for help, where the rule lets that out."""
    if not rule.options.requester or head.ticket_kind != TicketKind.SUPPORT or not head.reporter_email:
        return []
    name, address = head.reporter_name, head.reporter_email
    return [("Requester", f"{name} <{address}>" if name else address)]
