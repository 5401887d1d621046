"""Read JSON request bodies of the API into typed values."""

from __future__ import annotations

from typing import Any, TypeVar

from aiohttp import web

from pointsman.intake.json_body import decode
from pointsman.plugin_api import Unreadable
from pointsman.sources.tickets import convert_body as convert_ticket_body
from pointsman.web import body
from pointsman.web.problems import Problem, overloaded
from pointsman.web.request_headers import require_json
from pointsman.web.services import services_of

_T = TypeVar("_T")


async def read_json(request: web.Request) -> tuple[bytes, Any]:
    """Return the body, raw and decoded. Raises Problem, at once if the intake queue is full."""
    services = services_of(request)
    if services.intake.full:
        raise overloaded()
    require_json(request)
    raw = await body.read(request, body.API_LIMIT, services.admission.report_memory, services.timeouts)
    return raw, decode(raw)


def convert_body(decoded: Any, body_type: type[_T]) -> _T:
    """Return a decoded body as ``body_type``. Raises Problem that names the wrong field."""
    try:
        converted: _T = convert_ticket_body(decoded, body_type)
    except Unreadable as error:
        errors = {error.field: str(error)} if error.field else None
        raise Problem("invalid-fields", "" if errors else str(error), errors=errors) from None
    return converted
