"""The interface as an OpenAPI 3.1 document, made from the types that the handlers answer with.

Written down by ``python -m pointsman.web.openapi > docs/openapi.json``; the form is described at
https://spec.openapis.org/oas/v3.1.1.html.
"""

from __future__ import annotations

import functools
import json
import sys
from typing import Any

import msgspec
from aiohttp import web

from pointsman import __version__
from pointsman.sources.tickets import TEXT_LIMIT, TITLE_LIMIT, CommentBody, TicketBody
from pointsman.web.intake_api import AcceptedBody
from pointsman.web.previews_api import PreviewBody, PreviewsView
from pointsman.web.problems import TITLES, TYPE_BASE
from pointsman.web.tickets_api import (
    PAGE_LIMIT,
    CloseBody,
    CommentedBody,
    CreatedBody,
    TicketPage,
    TicketView,
)

REF = "#/components/schemas/{name}"


class ProblemBody(msgspec.Struct, omit_defaults=True):
    """An error (RFC 9457). ``type`` never changes its meaning; ``errors`` names fields."""

    type: str
    title: str
    status: int
    detail: str = ""
    errors: dict[str, str] = {}


class HeardBody(msgspec.Struct):
    """What became of a webhook call, for whoever reads the tracker's own log."""

    result: str


class LiveBody(msgspec.Struct):
    """The process answers."""

    status: str


class ReadyBody(msgspec.Struct, omit_defaults=True):
    """Whether requests should come here, and if not, why."""

    status: str
    bus: str = ""
    why: str = ""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one address."""

    route: str
    name: str
    says: str
    needs: tuple[str, ...] = ()
    """Schemes of which one must be used; none: no credential, or one in the address."""
    query: tuple[str, ...] = ()
    keyed: bool = False
    """Whether an Idempotency-Key is honoured."""
    body: type | None = None
    body_says: str = ""
    body_needed: bool = True
    answer: type | None = None
    status: int = 200
    problems: tuple[str, ...] = ()


_OURS = ("internal", "unavailable")
_READING = ("bad-request", "timeout", "too-large", "unsupported-type")
_WRITING = (*_READING, "invalid-json", "invalid-fields", "key-reused", *_OURS)
_INTAKE_SAYS = (
    "JSON as the source's kind has it: an alert of Bugsink's kind `custom` for kind `bugsink`, a TicketBody for kind"
    " `tickets`, or what another kind takes. It may hold several reports, 100 at most: all are taken, or none."
)

OPERATIONS = (
    Operation(
        route="POST /intake/{source}",
        name="takeReport",
        says="Take one report. Answered once it is committed.",
        needs=("bearer", "basic"),
        keyed=True,
        body_says=_INTAKE_SAYS,
        answer=AcceptedBody,
        status=202,
        problems=("unauthorized", *_WRITING),
    ),
    Operation(
        route="POST /intake/{source}/{token}",
        name="takeReportByAddress",
        says="The same for senders that can't send a header: the source's token stands in the address.",
        keyed=True,
        body_says=_INTAKE_SAYS,
        answer=AcceptedBody,
        status=202,
        problems=("unauthorized", *_WRITING),
    ),
    Operation(
        route="POST /api/v1/tickets",
        name="createTicket",
        says="Take a support request. The operators' token says for which source, if there are several.",
        needs=("bearer",),
        query=("source",),
        keyed=True,
        body=TicketBody,
        answer=CreatedBody,
        status=201,
        problems=("unauthorized", "forbidden", *_WRITING),
    ),
    Operation(
        route="GET /api/v1/tickets",
        name="listTickets",
        says="Tickets, newest first: those of the token's source, or all of them for the operators' token.",
        needs=("bearer",),
        query=("limit", "status", "cursor", "source"),
        answer=TicketPage,
        problems=("unauthorized", "forbidden", "invalid-fields", *_OURS),
    ),
    Operation(
        route="GET /api/v1/tickets/{ticket}",
        name="getTicket",
        says="One ticket with its links and events.",
        needs=("bearer",),
        answer=TicketView,
        problems=("unauthorized", "forbidden", "not-found", *_OURS),
    ),
    Operation(
        route="POST /api/v1/tickets/{ticket}/comments",
        name="commentTicket",
        says="Take a comment. It follows its issue, in the order of the answers.",
        needs=("bearer",),
        keyed=True,
        body=CommentBody,
        answer=CommentedBody,
        status=201,
        problems=("unauthorized", "forbidden", "not-found", "conflict", *_WRITING),
    ),
    Operation(
        route="POST /api/v1/tickets/{ticket}/close",
        name="closeTicket",
        says="Close a ticket; its issues follow, its owner is told. A closed one stays as it is.",
        needs=("bearer",),
        body=CloseBody,
        body_needed=False,
        answer=TicketView,
        problems=(
            *("unauthorized", "forbidden", "not-found", "invalid-json", "invalid-fields"),
            *_READING,
            *_OURS,
        ),
    ),
    Operation(
        route="POST /api/v1/tickets/{ticket}/reopen",
        name="reopenTicket",
        says="Reopen a ticket; its issues follow, its owner is told. An open one stays as it is.",
        needs=("bearer",),
        answer=TicketView,
        problems=("unauthorized", "forbidden", "not-found", *_OURS),
    ),
    Operation(
        route="POST /api/v1/previews",
        name="previewReport",
        says="What would be sent of a request to a source, in whose templates, and how much of it is masked. Nothing is kept"
        " or sent. With the operators' token.",
        needs=("bearer",),
        body=PreviewBody,
        answer=PreviewsView,
        problems=("unauthorized", "forbidden", "invalid-json", "invalid-fields", *_READING, *_OURS),
    ),
    Operation(
        route="POST /webhooks/{tracker}/{slug}",
        name="takeWebhook",
        says="Take a call of a tracker. It must carry the tracker's own signature, made with one of the destination's"
        " webhook secrets. 200 whether or not it concerns us.",
        body_says="The bytes as the tracker sends them.",
        answer=HeardBody,
        problems=("unauthorized", *_READING, *_OURS),
    ),
    Operation(
        route="GET /api/v1/openapi.json", name="getInterface", says="This document.", problems=("internal",)
    ),
    Operation(route="GET /health/live", name="getLive", says="Whether the process works.", answer=LiveBody),
    Operation(
        route="GET /health/ready",
        name="getReady",
        says="Whether requests should come here. 503, with the cause, while the database is away or at shutdown.",
        answer=ReadyBody,
    ),
    Operation(route="GET /metrics", name="getMetrics", says="Metrics for Prometheus."),
)

_OPEN = {"enum": ["open", "closed"]}
_PARAMETERS = {
    "source": ("The source's slug.", {"type": "string"}),
    "token": ("The source's token.", {"type": "string"}),
    "ticket": ("The ticket's id.", {"type": "string", "format": "uuid"}),
    "tracker": ("The tracker's kind, such as `forgejo`.", {"type": "string"}),
    "slug": ("The destination's slug.", {"type": "string"}),
    "limit": (
        "How many at most.",
        {"type": "integer", "minimum": 1, "maximum": PAGE_LIMIT, "default": 50},
    ),
    "status": ("Only tickets that stand so.", {"type": "string", **_OPEN}),
    "cursor": ("`next` of the page before.", {"type": "string", "format": "uuid"}),
    "Idempotency-Key": (
        "The sender's own name for this request. A repeat with the same body within a week gives the first answer's ids.",
        {"type": "string", "minLength": 1, "maxLength": 255},
    ),
}


_TIME = {"format": "date-time"}
_REPORT_STATES = ["accepted", "repeated", "parked", "test"]
_MORE: dict[str, dict[str, Any]] = {
    "AcceptedBody.state": {"enum": [*_REPORT_STATES, "ignored"]},
    "OneBody.state": {"enum": _REPORT_STATES},
    "CommentBody.body": {"minLength": 1, "maxLength": TEXT_LIMIT},
    "EventBody.at": _TIME,
    "LinkBody.state": {"enum": ["pending", "active", "orphaned"]},
    "PersonBody.email": {"maxLength": 254},
    "PersonBody.name": {"maxLength": 200},
    "ProblemBody.type": {"enum": [TYPE_BASE + name for name in TITLES]},
    "TicketBody.description": {"maxLength": TEXT_LIMIT},
    "TicketBody.title": {"minLength": 1, "maxLength": TITLE_LIMIT},
    "TicketView.kind": {"enum": ["alert", "support"]},
    "TicketView.last_seen_at": _TIME,
    "TicketView.opened_at": _TIME,
    "TicketView.status": _OPEN,
}
"""What the types check when they are made, or hold as plain text."""


def document() -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        method, path = one.route.split(" ")
        paths.setdefault(path, {})[method.lower()] = _operation(one, path)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Pointsman",
            "version": __version__,
            "summary": "Reports and tickets in, webhooks of trackers in, tickets out.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "responses": _problems(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A source's or the operators' token."},
                "basic": {"type": "http", "scheme": "basic", "description": "Any name; the password is the token."},
            },
        },
    }  # fmt: skip


def _schemas() -> dict[str, Any]:
    kinds = {kind for one in OPERATIONS for kind in (one.body, one.answer) if kind is not None}
    _, schemas = msgspec.json.schema_components(
        sorted(kinds | {ProblemBody}, key=lambda kind: kind.__name__), ref_template=REF
    )
    for place, more in _MORE.items():
        name, _, field = place.partition(".")
        schemas[name]["properties"][field] |= more
    for schema in schemas.values():
        schema["description"] = schema["description"].replace("``", "`")
    return dict(sorted(schemas.items()))


def _operation(one: Operation, path: str) -> dict[str, Any]:
    given = [("path", name) for name in _PARAMETERS if f"{{{name}}}" in path]
    given += [("query", name) for name in one.query]
    given += [("header", "Idempotency-Key")] if one.keyed else []
    made: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.says,
        "security": [{scheme: []} for scheme in one.needs],
        "parameters": [_parameter(where, name) for where, name in given],
        "responses": _responses(one),
    }
    if one.body is not None or one.body_says:
        schema = {"$ref": REF.format(name=one.body.__name__)} if one.body is not None else {}
        made["requestBody"] = {"content": _json(schema), "required": one.body_needed}
        if one.body_says:
            made["requestBody"]["description"] = one.body_says
    return made


def _parameter(where: str, name: str) -> dict[str, Any]:
    says, schema = _PARAMETERS[name]
    return {"name": name, "in": where, "required": where == "path", "description": says, "schema": schema}


def _responses(one: Operation) -> dict[str, Any]:
    if one.answer is not None:
        content = _json({"$ref": REF.format(name=one.answer.__name__)})
    else:
        content = _json({"type": "object"}) if one.route.endswith("json") else {"text/plain": {}}
    found: dict[str, Any] = {str(one.status): {"description": "Done.", "content": content}}
    if one.answer is ReadyBody:
        found["503"] = {"description": "Not now.", "content": content}
    for status in sorted({TITLES[name][0] for name in one.problems}):
        found[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
    return found


def _problems() -> dict[str, Any]:
    """One answer for each status, with the types of problems that have it."""
    made: dict[str, Any] = {}
    for name, (status, title) in TITLES.items():
        one = made.setdefault(
            f"Problem{status}",
            {"description": "", "content": _json({"$ref": REF.format(name="ProblemBody")}, "problem+json")},
        )
        one["description"] = f"{one['description']} `{name}`: {title}.".strip()
        if status == 503:
            one["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return made


def _json(schema: dict[str, Any], kind: str = "json") -> dict[str, Any]:
    return {f"application/{kind}": {"schema": schema}}


@functools.cache
def _bytes() -> bytes:
    return (json.dumps(document(), indent=2, ensure_ascii=False) + "\n").encode()


async def get(_: web.Request) -> web.Response:
    """The document, as everybody may read it."""
    return web.Response(body=_bytes(), content_type="application/json")


if __name__ == "__main__":
    sys.stdout.buffer.write(_bytes())
