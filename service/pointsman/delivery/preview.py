"""What would be sent of a report, before it is: the same drafts, of a ticket that does not exist. Nothing is kept or sent."""

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
from pointsman.storage.queue import Lane, NextDelivery

Part = Literal["title", "body", "comment", "mail"]
PARTS: tuple[Part, ...] = ("title", "body", "comment", "mail")
NIL = uuid.UUID(int=0)


class PreviewTarget(msgspec.Struct, frozen=True):
    """A destination, and what is masked there."""

    slug: str
    redact: str = "normal"


class Preview(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What one destination would get of a report, and its reporter. ``route``: whose templates were asked; ``problem``: which
    of them failed, with line and cause, so that the built-in words stand here; ``masked``: how many secrets, by kind.
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
    places: Mapping[int, PreviewTarget],
    key: bytes,
    *,
    base_url: str = "",
    parts: Sequence[Part] = PARTS,
    route: Route | None = None,
) -> Iterator[Preview]:
    """What each destination that the rules name would get; with ``route``, what that rule makes of it, fit or not."""
    facts = facts_of(source, kind, report)
    fit = [route] if route is not None else prefilter(routes, facts)
    wanted: list[int | None] = list(
        dict.fromkeys(number for one in fit for number in one.destinations if number in places)
    )
    mail_rule = _named(route) if route is not None else rule_for(routes, facts, None)
    for number in wanted or [None]:
        if route is not None:
            rule = _named(route)
        else:
            rule = rule_for(routes, facts, number) if number is not None else NO_RULE
        place = places[number] if number is not None else PreviewTarget("")
        shown, notes = _shown(
            report, _opening(source, kind, report), place, key, base_url, parts, rule, mail_rule
        )
        yield Preview(
            destination=place.slug,
            route=rule.name,
            masked=_most(note.get("masked", {}) for note in notes),
            problem="; ".join(note["problem"] for note in notes if "problem" in note),
            **shown,
        )


def _most(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """What is masked in the one draft that has most of it: the same secret stands in several."""
    most: dict[str, int] = {}
    for one in counts:
        most |= {kind: max(number, most.get(kind, 0)) for kind, number in one.items()}
    return most


def _named(route: Route) -> Rule:
    return Rule(route.options.name or f"number {route.position}", route.options)


def _shown(
    report: Report,
    delivery: NextDelivery,
    place: PreviewTarget,
    key: bytes,
    base_url: str,
    parts: Sequence[Part],
    rule: Rule,
    mail_rule: Rule,
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The parts, and the drafts they are from."""
    shown: dict[str, str] = {}
    drafts: list[dict[str, Any]] = []
    profile = PROFILES[place.redact]

    def draft(kind: DeliveryKind, row: NextDelivery) -> dict[str, Any]:
        gate = OutgoingFilter(key, profile, person=rule.options.requester)
        drafts.append(draft_of(_attempt(row, kind, place), base_url, gate, rule=rule))
        return drafts[-1]

    if "title" in parts or "body" in parts:
        made = draft(DeliveryKind.CREATE, delivery)
        shown |= {name: made[name] for name in ("title", "body") if name in parts}
    if "comment" in parts:
        shown["comment"] = draft(DeliveryKind.COMMENT, _recurrence(delivery, report))["body"]
    if "mail" in parts:
        closed = delivery._replace(event_kind="closed", event_data="{}", close_reason="completed")
        drafts.append(
            email_draft_of(closed, base_url, OutgoingFilter(key, Profile.NORMAL, person=True), mail_rule)
        )
        shown |= {"mail_subject": drafts[-1]["subject"], "mail_body": drafts[-1]["body"]}
    return shown, drafts


def _attempt(delivery: NextDelivery, kind: DeliveryKind, place: PreviewTarget) -> Attempt:
    return Attempt(
        lane=Lane(0, 0, NIL, NIL, 0, 0.0),
        delivery=delivery,
        kind=kind,
        destination=LiveDestination(0, place.slug, DestinationKind.TRACKER, "", redact=place.redact),
        started_at=delivery.event_at,
        started_monotonic=0.0,
        outcome_unknown=False,
    )


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
