"""Previews: what would be sent of a request to a source, for operators who write templates. Nothing is kept."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from pointsman.delivery.preview import PARTS, Part, Place, Preview, previews
from pointsman.intake.json_body import decode
from pointsman.intake.request_parser import kept_headers, read_reports
from pointsman.plugin_api import Report, Unreadable
from pointsman.plugin_host.instances import TRACKER
from pointsman.sources.tickets import convert
from pointsman.web import body
from pointsman.web.auth import principal
from pointsman.web.intake_api import answer
from pointsman.web.problems import Problem, unavailable
from pointsman.web.services import context


class PreviewBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request as its source would post it, in ``body``; ``what``: this part alone."""

    source: str
    body: Any
    what: Part | None = None


class PreviewsView(msgspec.Struct):
    """What each destination would get of each report in the request, and who reported it."""

    previews: list[Preview]


async def create(request: web.Request) -> web.Response:
    """Show what would be sent, with the configuration in force."""
    ctx = context(request)
    if not principal(request).admin:
        raise Problem("forbidden", "previews are for operators")
    if ctx.acceptance.full:
        raise unavailable("too much waits already")
    body.need_json(request)
    raw = await body.read(request, body.INTAKE_LIMIT, ctx.doors.report_room, ctx.patience)
    try:
        asked: PreviewBody = convert(decode(raw), PreviewBody)
    except Unreadable as error:
        raise Problem(
            "invalid-fields", str(error), errors={error.field: str(error)} if error.field else None
        ) from None
    catalog = ctx.catalog.current
    source = catalog.sources.get(asked.source)
    if source is None or source.reader is None:
        raise Problem("invalid-fields", "", errors={"source": "there is no such source, or it can't read"})
    given = kept_headers(source, {"content-type": "application/json"})
    reports, why = read_reports(source, given, msgspec.json.encode(asked.body), asked.body)
    if why is not None:
        raise Problem("invalid-fields", "", errors={"body": f"it would be kept, but not be read: {why}"})
    kind = source.reader.ticket_kind
    places = {
        one.id: Place(one.slug, one.redact)
        for one in catalog.destinations.values()
        if one.kind == TRACKER and not one.retired
    }

    def make(report: Report) -> list[Preview]:
        return list(
            previews(
                source.slug,
                kind,
                report,
                catalog.routes,
                places,
                catalog.mask_key,
                base_url=ctx.base_url,
                parts=(asked.what,) if asked.what is not None else PARTS,
            )
        )

    made = [await asyncio.to_thread(make, report) for report in reports]
    return answer(200, PreviewsView([one for some in made for one in some]))
