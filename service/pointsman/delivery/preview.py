"""Preview what a report would send: the drafts of a ticket that does not exist. Nothing is stored or sent."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from pointsman.content.redaction.outgoing_filter import PROFILES, OutgoingFilter
from pointsman.content.redaction.redact import Profile
from pointsman.content.template_selection import NO_RULE, Rule, rule_for
from pointsman.delivery.attempt import Attempt
from pointsman.delivery.draft import draft_of, email_draft_of
from pointsman.domain.routing import Route, facts_of, prefilter
from pointsman.domain.states import DeliveryKind, DestinationKind, TicketKind
from pointsman.domain.ticket import opening_data
from pointsman.plugin_api import Report
from pointsman.plugin_host.instances import LiveDestination
from pointsman.storage.queue_values import Lane, NextDelivery

Part = Literal["title", "body", "comment", "mail"]
PARTS: tuple[Part, ...] = ("title", "body", "comment", "mail")
NIL = uuid.UUID(int=0)


class PreviewTarget(msgspec.Struct, frozen=True):
    """A destination with its redaction profile."""

    slug: str
    redact: str = "normal"


class Preview(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What one destination, and the reporter, would get of a report.

    ``route`` is the route whose templates were used; ``problem`` says which of them failed, with line and cause, so that the
    built-in texts are shown; ``masked`` counts redactions by kind.
    """

    destination: str
    route: str = ""
    title: str | None = None
    body: str | None = None
    comment: str | None = None
    mail_subject: str | None = None
    mail_body: str | None = None
    masked: dict[str, int] = {}
    problem: str = ""


def previews(
    source: str,
    kind: str,
    report: Report,
    routes: Sequence[Route],
    targets: Mapping[int, PreviewTarget],
    mask_key: bytes,
    *,
    base_url: str = "",
    parts: Sequence[Part] = PARTS,
    route: Route | None = None,
) -> Iterator[Preview]:
    """Yield a preview for each destination that matching routes name.

    With ``route``, that route's destinations and templates are used whether it matches or not. Without any destination, one
    preview with the built-in texts is yielded.
    """
    facts = facts_of(source, kind, report)
    matching = [route] if route is not None else prefilter(routes, facts)
    destination_ids: list[int | None] = list(
        dict.fromkeys(
            destination_id
            for candidate in matching
            for destination_id in candidate.destinations
            if destination_id in targets
        )
    )
    mail_rule = _rule_of(route) if route is not None else rule_for(routes, facts, None)
    for destination_id in destination_ids or [None]:
        if route is not None:
            rule = _rule_of(route)
        else:
            rule = rule_for(routes, facts, destination_id) if destination_id is not None else NO_RULE
        target = targets[destination_id] if destination_id is not None else PreviewTarget("")
        opening = _opening(source, kind, report)
        texts, drafts = _render(report, opening, target, mask_key, base_url, parts, rule, mail_rule)
        yield Preview(
            destination=target.slug,
            route=rule.name,
            masked=_largest_counts(draft.get("masked", {}) for draft in drafts),
            problem="; ".join(draft["problem"] for draft in drafts if "problem" in draft),
            **texts,
        )


def _largest_counts(counts_of_drafts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the largest count of each kind: the same secret can occur in several drafts."""
    largest: dict[str, int] = {}
    for counts in counts_of_drafts:
        largest |= {kind: max(count, largest.get(kind, 0)) for kind, count in counts.items()}
    return largest


def _rule_of(route: Route) -> Rule:
    return Rule(route.options.name or f"number {route.position}", route.options)


def _render(
    report: Report,
    opening: NextDelivery,
    target: PreviewTarget,
    mask_key: bytes,
    base_url: str,
    parts: Sequence[Part],
    rule: Rule,
    mail_rule: Rule,
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return the requested texts, and the drafts that they are from."""
    texts: dict[str, str] = {}
    drafts: list[dict[str, Any]] = []
    profile = PROFILES[target.redact]

    def render_draft(kind: DeliveryKind, delivery: NextDelivery) -> dict[str, Any]:
        outgoing_filter = OutgoingFilter(mask_key, profile, person=rule.options.requester)
        attempt = Attempt.start(
            Lane(0, 0, NIL, NIL, 0, 0.0),
            delivery._replace(kind=kind),
            LiveDestination(0, target.slug, DestinationKind.TRACKER, "", redact=target.redact),
        )
        drafts.append(draft_of(attempt, base_url, outgoing_filter, rule=rule))
        return drafts[-1]

    if "title" in parts or "body" in parts:
        issue_draft = render_draft(DeliveryKind.CREATE, opening)
        texts |= {name: issue_draft[name] for name in ("title", "body") if name in parts}
    if "comment" in parts:
        texts["comment"] = render_draft(DeliveryKind.COMMENT, _recurrence(opening, report))["body"]
    if "mail" in parts:
        closed = opening._replace(event_kind="closed", event_data="{}", close_reason="completed")
        outgoing_filter = OutgoingFilter(mask_key, Profile.NORMAL, person=True)
        drafts.append(email_draft_of(closed, base_url, outgoing_filter, mail_rule))
        texts |= {"mail_subject": drafts[-1]["subject"], "mail_body": drafts[-1]["body"]}
    return texts, drafts


def _opening(source: str, kind: str, report: Report) -> NextDelivery:
    """Return the delivery that a report would lead to, of the ticket that it would open."""
    person, now = report.person, dt.datetime.now(dt.UTC)
    return NextDelivery(
        lane_id=0,
        lease_id=NIL,
        seq=1,
        event_n=1,
        kind=DeliveryKind.CREATE,
        marker=NIL,
        attempts=0,
        outcome_unknown=False,
        verify_attempts=0,
        draft=None,
        first_sent_at=None,
        coalesced_count=0,
        created_at=now,
        verify_after_seconds=0.0,
        expired=False,
        verify_writes=False,
        ticket_id=NIL,
        ticket_kind=TicketKind[kind.upper()],
        title=report.title,
        description="",
        ticket_url=report.url,
        level=report.level,
        environment=report.environment,
        release=report.release,
        reporter_email=person.email if person else "",
        reporter_name=person.name if person else "",
        close_reason=None,
        occurrences=1,
        source=source,
        event_kind="opened",
        event_data=json.dumps(opening_data(report)),
        event_at=now,
        remote_id=None,
        remote_key=None,
        issue_url=None,
        link_state=None,
    )


def _recurrence(delivery: NextDelivery, report: Report) -> NextDelivery:
    """Return the comment that a report would be: as the report says, or as if the problem recurred."""
    if report.action == "commented":
        author = {"name": report.person.name} if report.person else {}
        data = json.dumps({"body": report.text, "author": author})
        return delivery._replace(event_kind="commented", event_data=data)
    event_kind = report.action if report.action not in ("opened", "test") else "recurred"
    return delivery._replace(event_kind=event_kind)
