"""What is sent: rendered once from the ticket and its event, kept with the delivery, the same in every repeat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from pointsman.catalog import SOURCE
from pointsman.delivery.enrich import with_more
from pointsman.delivery.source_lanes import comment_text
from pointsman.delivery.underway import Attempt, ticket_text
from pointsman.storage import storm
from pointsman.storage.db import Database
from pointsman.tickets import render
from pointsman.tickets.storm import is_storm
from pointsman.tickets.ticket import Kind


async def listed_for(database: Database, one: Attempt) -> storm.Listed | None:
    """What a storm's issue or comment is to list, as it is now. None: the delivery is not a storm's, or has its draft."""
    if one.head["draft"] is not None or not is_storm(one.head["event_data"]):
        return None
    return await storm.listed(database, one.head["ticket_id"], one.lane.destination_id)


def draft_of(
    one: Attempt, base_url: str, listed: storm.Listed | None = None, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The draft kept with a delivery, or a new one: title, body and facts of an issue, the body of a comment.

    ``more``: what the ticket's source says beyond its report.
    """
    head = one.head
    if head["draft"] is not None:
        kept: dict[str, Any] = json.loads(head["draft"])
        return kept
    ticket = ticket_text(head, base_url)
    data = with_more(json.loads(head["event_data"]), more)
    if listed is not None:
        data["storm"].update(msgspec.to_builtins(listed))
    match one.kind:
        case Kind.CREATE | Kind.UPDATE:
            return {
                "title": render.issue_title(ticket),
                "body": render.issue_body(ticket, data),
                "facts": {
                    "ticket": ticket.id,
                    "kind": ticket.kind.name.lower(),
                    "source": ticket.source,
                    "title": ticket.title,
                    "level": head["level"] or data.get("level", ""),
                    "environment": head["environment"] or data.get("environment", ""),
                    "release": head["release"] or data.get("release", ""),
                    "url": head["ticket_url"],
                },
            }
        case Kind.COMMENT if one.destination.kind == SOURCE:
            return {"body": comment_text(data)}
        case Kind.COMMENT:
            return {
                "body": render.comment_body(
                    ticket, head["event_kind"], data, collapsed=head["collapsed"], since=head["created_at"]
                )
            }
        case _:
            return {}
