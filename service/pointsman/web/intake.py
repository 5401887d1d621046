"""The intake: alerts and whatever else sources post. 202 once it is committed."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from pointsman.acceptance import fault
from pointsman.catalog import LiveSource
from pointsman.plugin_api import Report, Unreadable
from pointsman.web import auth, body
from pointsman.web.context import context
from pointsman.web.middleware import say
from pointsman.web.problems import Problem, unavailable

KEPT_HEADERS = ("content-type", "user-agent")


class AcceptedBody(msgspec.Struct):
    """What the sender is told."""

    report: str
    ticket: str | None
    state: str = "accepted"


async def post(request: web.Request) -> web.Response:
    """Take one report."""
    ctx = context(request)
    source = auth.source_for_intake(request)
    say(request, source=source.slug)
    if ctx.acceptance.full:
        raise unavailable("too much waits already")
    body.need_json(request)
    raw = await body.read(request, body.INTAKE_LIMIT)
    decoded = body.decode(raw)
    headers = {name: request.headers[name] for name in KEPT_HEADERS if name in request.headers}
    report, error = read_report(source, headers, raw, decoded)
    key = idempotency_key(request, "intake")
    incoming = ctx.acceptance.incoming(source, report, raw, headers, key=key, error=error)
    accepted = await ctx.acceptance.submit(incoming)
    if accepted.repeated and not accepted.same_body and key is not None:
        raise Problem("key-reused", "send the same body again, or another key")
    state = "parked" if accepted.parked else "accepted"
    if report is not None and report.action == "test":
        state = "test"
    elif accepted.repeated:
        state = "repeated"
    ctx.metrics.reports.labels(source.slug, state).inc()
    ticket = str(accepted.ticket_id) if accepted.ticket_id is not None else None
    say(request, report=str(accepted.report_id), ticket=ticket, result=state)
    return answer(202, AcceptedBody(str(accepted.report_id), ticket, state))


def read_report(
    source: LiveSource, headers: dict[str, str], raw: bytes, decoded: Any
) -> tuple[Report | None, str | None]:
    """The report in a body, or why it is parked. Raises Problem for what the sender must mend."""
    if source.reader is None:
        return None, source.problem
    try:
        reports = source.reader.read_report(headers, raw, decoded)
    except Unreadable as unreadable:
        field = {unreadable.field: str(unreadable)} if unreadable.field else None
        raise Problem("invalid-fields", "" if field else str(unreadable), errors=field) from None
    except Exception as error:  # noqa: BLE001 - kept, and run again when the cause is mended
        return None, fault(error)
    if len(reports) != 1:
        return None, f"the source read {len(reports)} reports out of one body"
    return reports[0], None


def idempotency_key(request: web.Request, operation: str) -> str | None:
    """The sender's key for this operation, None if it sent none."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 1 <= len(key) <= 255:
        raise Problem("bad-request", "Idempotency-Key has 1 to 255 characters")
    return f"{operation}\n{key}"


def answer(status: int, value: object, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    return web.Response(
        status=status, body=msgspec.json.encode(value), content_type="application/json", headers=headers
    )
