"""Generate the OpenAPI 3.1 document from the table of endpoints and their types.

``python -m pointsman.web.openapi > docs/openapi.json`` writes it down. The format: https://spec.openapis.org/oas/v3.1.1.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web

from pointsman import __version__
from pointsman.sources.tickets import TEXT_LIMIT, TITLE_LIMIT
from pointsman.web.endpoint import Endpoint
from pointsman.web.health import ReadyBody
from pointsman.web.problems import TITLES, TYPE_BASE, ProblemBody
from pointsman.web.tickets_api import PAGE_LIMIT

REF = "#/components/schemas/{name}"
DOCUMENT: web.AppKey[bytes] = web.AppKey("openapi_document", bytes)

_STATUS = {"enum": ["open", "closed"]}
_TIME = {"format": "date-time"}
_REPORT_STATES = ["accepted", "repeated", "parked", "test"]

_PARAMETERS = {
    "source": ("The source's slug.", {"type": "string"}),
    "token": ("The source's token.", {"type": "string"}),
    "ticket": ("The ticket's id.", {"type": "string", "format": "uuid"}),
    "tracker": ("The tracker's kind, such as `forgejo`.", {"type": "string"}),
    "slug": ("The destination's slug.", {"type": "string"}),
    "limit": (
        "Maximum number of tickets.",
        {"type": "integer", "minimum": 1, "maximum": PAGE_LIMIT, "default": 50},
    ),
    "status": ("Only tickets with this status.", {"type": "string", **_STATUS}),
    "cursor": ("`next` of the previous page.", {"type": "string", "format": "uuid"}),
    "events_after": (
        "Only events with a larger `n`: `events_next` of the previous page.",
        {"type": "integer", "minimum": 0, "maximum": 999_999_999, "default": 0},
    ),
    "Idempotency-Key": (
        "The sender's own id of this request. A repetition with the same body within a week returns the same ids.",
        {"type": "string", "minLength": 1, "maxLength": 255},
    ),
}

_CONSTRAINTS: dict[str, dict[str, Any]] = {
    "AcceptedBody.state": {"enum": [*_REPORT_STATES, "ignored"]},
    "AcceptedReport.state": {"enum": _REPORT_STATES},
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
    "TicketView.status": _STATUS,
}
"""Constraints that the types check themselves or that their Python types can't express."""


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Return the whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Pointsman",
            "version": __version__,
            "summary": "Accepts reports and tickets, and webhooks of trackers.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": _schemas(endpoints),
            "responses": _problem_responses(),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A source's or the operators' token.",
                },
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "Any user name; the password is the token.",
                },
            },
        },
    }


def encode(value: dict[str, Any]) -> bytes:
    """Return a document as indented JSON."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


async def get(request: web.Request) -> web.Response:
    """Return the document. It needs no credential."""
    return web.Response(body=request.app[DOCUMENT], content_type="application/json")


def _schemas(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    types = {
        body_type
        for endpoint in endpoints
        for body_type in (endpoint.body_type, endpoint.response_type)
        if body_type is not None
    }
    _, schemas = msgspec.json.schema_components(
        sorted(types | {ProblemBody}, key=lambda body_type: body_type.__name__), ref_template=REF
    )
    for property_path, constraint in _CONSTRAINTS.items():
        name, _, field = property_path.partition(".")
        schemas[name]["properties"][field] |= constraint
    for schema in schemas.values():
        schema["description"] = " ".join(schema["description"].replace("``", "`").split())
    return dict(sorted(schemas.items()))


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    parameters = [("path", name) for name in _PARAMETERS if f"{{{name}}}" in endpoint.path]
    parameters += [("query", name) for name in endpoint.query]
    parameters += [("header", "Idempotency-Key")] if endpoint.idempotency_key else []
    operation: dict[str, Any] = {
        "operationId": endpoint.operation_id,
        "summary": endpoint.summary,
        "security": [{scheme: []} for scheme in endpoint.security],
        "parameters": [_parameter(location, name) for location, name in parameters],
        "responses": _responses(endpoint),
    }
    if endpoint.body_type is not None or endpoint.body_description:
        content = _content("application/json", endpoint.body_type)
        operation["requestBody"] = {"content": content, "required": endpoint.body_required}
        if endpoint.body_description:
            operation["requestBody"]["description"] = endpoint.body_description
    return operation


def _parameter(location: str, name: str) -> dict[str, Any]:
    description, schema = _PARAMETERS[name]
    return {
        "name": name,
        "in": location,
        "required": location == "path",
        "description": description,
        "schema": schema,
    }


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    content = _content(endpoint.response_media_type, endpoint.response_type)
    responses: dict[str, Any] = {str(endpoint.status): {"description": "Success.", "content": content}}
    if endpoint.response_type is ReadyBody:
        responses["503"] = {"description": "Not ready.", "content": content}
    for status in sorted({TITLES[name][0] for name in endpoint.problems}):
        responses[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
    return responses


def _problem_responses() -> dict[str, Any]:
    """Return one response for each status, described by the problems that have it."""
    responses: dict[str, Any] = {}
    for name, (status, title) in TITLES.items():
        response = responses.setdefault(
            f"Problem{status}",
            {"description": "", "content": _content("application/problem+json", ProblemBody)},
        )
        response["description"] = f"{response['description']} `{name}`: {title}.".strip()
        if status == 503:
            response["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return responses


def _content(media_type: str, body_type: type | None) -> dict[str, Any]:
    if body_type is None:
        return {media_type: {}}
    return {media_type: {"schema": {"$ref": REF.format(name=body_type.__name__)}}}
