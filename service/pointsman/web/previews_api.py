"""Preview what a request to a source would send, for operators who write templates. Nothing is stored."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from pointsman.delivery.preview import PARTS, Part, Preview, PreviewTarget, previews
from pointsman.domain.states import DestinationKind
from pointsman.intake.request_parser import kept_headers, read_reports
from pointsman.plugin_api import Report
from pointsman.web.auth import authenticate
from pointsman.web.json_requests import convert_body, read_json
from pointsman.web.problems import Problem
from pointsman.web.responses import json_response
from pointsman.web.services import services_of


class PreviewBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request as its source would post it, in ``body``. ``part`` limits the preview to one part."""

    source: str
    body: Any
    part: Part | None = None


class PreviewsView(msgspec.Struct):
    """One preview for each report in the request and each destination."""

    previews: list[Preview]


async def create(request: web.Request) -> web.Response:
    """Return what would be sent with the configuration in use."""
    services = services_of(request)
    if not authenticate(request).is_operator:
        raise Problem("forbidden", "previews require the operators' token")
    _, decoded = await read_json(request)
    preview_body = convert_body(decoded, PreviewBody)
    snapshot = services.config.current
    source = snapshot.sources.get(preview_body.source)
    if source is None or source.plugin is None:
        raise Problem("invalid-fields", errors={"source": "does not exist, or can't read requests"})
    headers = kept_headers(source, {"content-type": "application/json"})
    raw = msgspec.json.encode(preview_body.body)
    reports, error = read_reports(source, headers, raw, preview_body.body)
    if error is not None:
        raise Problem("invalid-fields", errors={"body": f"would be stored, but can't be read: {error}"})
    kind = source.plugin.ticket_kind
    destinations = {
        destination.id: PreviewTarget(destination.slug, destination.redact)
        for destination in snapshot.destinations.values()
        if destination.kind == DestinationKind.TRACKER and not destination.retired
    }

    def render(report: Report) -> list[Preview]:
        return list(
            previews(
                source.slug,
                kind,
                report,
                snapshot.routes,
                destinations,
                snapshot.mask_key,
                base_url=services.base_url,
                parts=(preview_body.part,) if preview_body.part is not None else PARTS,
            )
        )

    rendered = [preview for report in reports for preview in await asyncio.to_thread(render, report)]
    return json_response(200, PreviewsView(rendered))
