"""The intake endpoint: reports that sources post. They are answered with 202 once they are committed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from aiohttp import web

from pointsman.intake.batch import ReportResult
from pointsman.intake.incoming import Incoming
from pointsman.intake.request_parser import PART_HEADER, decode_body, kept_headers, read_reports
from pointsman.logs import logger
from pointsman.plugin_api import Report
from pointsman.plugin_host.instances import LiveSource
from pointsman.web import auth, body
from pointsman.web.middleware import add_log_fields
from pointsman.web.problems import Problem, overloaded, unauthorized
from pointsman.web.request_headers import idempotency_key, require_json
from pointsman.web.responses import json_response
from pointsman.web.services import Services, services_of

log = logger("intake")


class AcceptedReport(msgspec.Struct):
    """The result for one of several reports."""

    report: str
    ticket: str | None
    state: str = "accepted"


class AcceptedBody(msgspec.Struct, omit_defaults=True):
    """The result for the first report of a request, and for all of them in ``reports`` if there are several.

    ``report`` is null if the request contained no report.
    """

    report: str | None
    ticket: str | None
    state: str
    reports: list[AcceptedReport] = []


async def post(request: web.Request) -> web.Response:
    """Accept the reports of one request: all of them or none."""
    services = services_of(request)
    source = auth.source_for_intake(request)
    add_log_fields(request, source=source.slug)
    if services.intake.full:
        raise overloaded()
    require_json(request, or_text=True)
    raw = await body.read(
        request,
        services.settings.intake_max_bytes,
        services.admission.report_memory,
        services.timeouts,
        setting=body.INTAKE_SETTING,
    )
    if not _is_signature_valid(source, request, raw):
        raise unauthorized("wrong signature")
    headers = kept_headers(source, request.headers)
    reports, error = read_reports(source, headers, raw, decode_body(source, raw))
    key = idempotency_key(request, "intake")
    if error is None and not reports:
        services.metrics.reports.labels(source.slug, "ignored").inc()
        add_log_fields(request, result="ignored")
        return json_response(202, AcceptedBody(None, None, "ignored"))
    results = await services.intake.submit_all(_prepare(services, source, reports, error, raw, headers, key))
    if key is not None and any(result.repeated and not result.same_body for result in results):
        raise Problem("key-reused", "send the same body again, or another key")
    submitted: Sequence[Report | None] = reports if error is None else [None]
    accepted = [_accepted_report(result, report) for result, report in zip(results, submitted, strict=True)]
    for report in accepted:
        services.metrics.reports.labels(source.slug, report.state).inc()
    first, several = accepted[0], len(accepted) > 1
    add_log_fields(request, report=first.report, ticket=first.ticket, result=first.state)
    if several:
        add_log_fields(request, reports=len(accepted))
    return json_response(
        202, AcceptedBody(first.report, first.ticket, first.state, accepted if several else [])
    )


async def handshake(request: web.Request) -> web.Response:
    """Allow a sender of CloudEvents with a valid token to deliver.

    https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md#4-abuse-protection
    """
    source = auth.source_for_intake(request)
    add_log_fields(request, source=source.slug)
    headers = {"Allow": "POST, OPTIONS"}
    if "WebHook-Request-Origin" in request.headers:
        headers |= {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "*"}
    return web.Response(status=200, headers=headers)


def _prepare(
    services: Services,
    source: LiveSource,
    reports: Sequence[Report],
    error: str | None,
    raw: bytes,
    headers: dict[str, str],
    key: str | None,
) -> list[Incoming]:
    """Return the reports ready to be submitted; for a body that could not be read, one without a report."""
    if error is not None:
        return [services.preparer.prepare(source, None, raw, headers, key=key, error=error)]
    if len(reports) > 1:
        headers = {**headers, PART_HEADER: "0"}
    return [
        services.preparer.prepare(source, report, raw, headers, key=key, part=part)
        for part, report in enumerate(reports)
    ]


def _accepted_report(result: ReportResult, report: Report | None) -> AcceptedReport:
    state = "parked" if result.parked else "accepted"
    if report is not None and report.action == "test":
        state = "test"
    elif result.repeated:
        state = "repeated"
    ticket = str(result.ticket_id) if result.ticket_id is not None else None
    return AcceptedReport(str(result.report_id), ticket, state)


def _is_signature_valid(source: LiveSource, request: web.Request, raw: bytes) -> bool:
    """Return what the source's plugin says of the signature, if its kind signs requests."""
    if source.plugin is None:
        return True
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        return source.plugin.verify(headers, raw) is True
    except Exception:
        log.exception("source plugin failed to verify a request", source=source.slug)
        return False
