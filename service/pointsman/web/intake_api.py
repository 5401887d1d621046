"""The intake: alerts and whatever else sources post. 202 once it is committed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import msgspec
from aiohttp import web

from pointsman.intake.json_body import decode
from pointsman.intake.request_parser import PART_HEADER, kept_headers, read_reports
from pointsman.intake.transaction import Accepted, Incoming
from pointsman.logs import logger
from pointsman.plugin_api import Report
from pointsman.plugin_host.snapshot import LiveSource
from pointsman.web import auth, body
from pointsman.web.middleware import say
from pointsman.web.problems import Problem, unauthorized, unavailable
from pointsman.web.services import Context, context

log = logger("intake")


class OneBody(msgspec.Struct):
    """What became of one of several reports."""

    report: str
    ticket: str | None
    state: str = "accepted"


class AcceptedBody(msgspec.Struct, omit_defaults=True):
    """What the sender is told: of the first report, and of all of them in ``reports`` if the request held several. ``report``
    is null if it held none.
    """

    report: str | None
    ticket: str | None
    state: str
    reports: list[OneBody] = []


async def post(request: web.Request) -> web.Response:
    """Take what one request reports, as a whole or not at all."""
    ctx = context(request)
    source = auth.source_for_intake(request)
    say(request, source=source.slug)
    if ctx.acceptance.full:
        raise unavailable("too much waits already")
    body.need_json(request)
    raw = await body.read(request, body.INTAKE_LIMIT, ctx.doors.report_room, ctx.patience)
    if not _signed(source, request, raw):
        raise unauthorized("wrong signature")
    decoded = decode(raw)
    headers = kept_headers(source, request.headers)
    reports, error = read_reports(source, headers, raw, decoded)
    key = idempotency_key(request, "intake")
    if error is None and not reports:
        ctx.metrics.report(source.slug, "ignored")
        say(request, result="ignored")
        return answer(202, AcceptedBody(None, None, "ignored"))
    incoming = _incoming(ctx, source, reports, error, raw, headers, key)
    accepted = await ctx.acceptance.submit_all(incoming)
    if key is not None and any(one.repeated and not one.same_body for one in accepted):
        raise Problem("key-reused", "send the same body again, or another key")
    read: Sequence[Report | None] = reports if error is None else [None]
    told = [_told(one, report) for one, report in zip(accepted, read, strict=True)]
    for one in told:
        ctx.metrics.report(source.slug, one.state)
    first = told[0]
    say(request, report=first.report, ticket=first.ticket, result=first.state)
    if len(told) > 1:
        say(request, reports=len(told))
    return answer(202, AcceptedBody(first.report, first.ticket, first.state, told if len(told) > 1 else []))


def _incoming(
    ctx: Context,
    source: LiveSource,
    reports: Sequence[Report],
    error: str | None,
    raw: bytes,
    headers: dict[str, str],
    key: str | None,
) -> list[Incoming]:
    """The reports made ready; one without a report for a body that could not be read."""
    if error is not None:
        return [ctx.acceptance.incoming(source, None, raw, headers, key=key, error=error)]
    if len(reports) > 1:
        headers = {**headers, PART_HEADER: "0"}
    return [
        ctx.acceptance.incoming(source, report, raw, headers, key=key, part=part)
        for part, report in enumerate(reports)
    ]


def _told(accepted: Accepted, report: Report | None) -> OneBody:
    state = "parked" if accepted.parked else "accepted"
    if report is not None and report.action == "test":
        state = "test"
    elif accepted.repeated:
        state = "repeated"
    ticket = str(accepted.ticket_id) if accepted.ticket_id is not None else None
    return OneBody(str(accepted.report_id), ticket, state)


class _Lowered(Mapping[str, str]):
    """Headers with names in lower case; made only once somebody looks, as most sources sign nothing."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given

    @cached_property
    def _all(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self._given.items()}

    def __getitem__(self, name: str) -> str:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)


def _signed(source: LiveSource, request: web.Request, raw: bytes) -> bool:
    """Whether the source's kind takes it for genuine, where it looks at more than the token."""
    if source.reader is None:
        return True
    try:
        return source.reader.verify(_Lowered(request.headers), raw) is True
    except Exception:
        log.exception("a source failed to verify", source=source.slug)
        return False


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
