"""Read the reports in a request, live or stored, with the source's plugin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from pointsman.content.sanitize import clean_stored
from pointsman.intake.errors import InvalidFields, describe_failure
from pointsman.intake.json_body import decode
from pointsman.plugin_api import MAX_REPORTS, Report, Unreadable
from pointsman.plugin_host.instances import LiveSource

KEPT_HEADERS = ("content-type", "user-agent")
HEADER_LIMIT = 1000
"""Most characters stored of one header; the rest is cut."""
PART_HEADER = "pointsman-part"
"""Header holding a stored report's index within its original request."""


def read_reports(
    source: LiveSource, headers: dict[str, str], raw: bytes, decoded: Any
) -> tuple[Sequence[Report], str | None]:
    """Return the reports in a body, or none and the reason why the body is to be parked.

    Raises InvalidFields for mistakes of the sender.
    """
    if source.plugin is None:
        return (), source.problem
    try:
        reports = list(source.plugin.read_report(headers, raw, decoded))
        if not all(type(report) is Report for report in reports):
            raise TypeError("the source returned something else than reports")  # noqa: TRY301
        if len(reports) > MAX_REPORTS:
            raise Unreadable(f"{len(reports)} reports in one request: send {MAX_REPORTS} at most")  # noqa: TRY301
    except Unreadable as unreadable:
        fields = {unreadable.field: str(unreadable)} if unreadable.field else None
        raise InvalidFields("" if fields else str(unreadable), fields) from None
    except Exception as error:  # noqa: BLE001 - stored, and processed again when the cause is corrected
        return (), describe_failure(error)
    return reports, None


def decode_body(source: LiveSource, raw: bytes) -> Any:
    """Return a body as JSON; None for an empty one where the source's kind takes it. Raises InvalidBody."""
    if not raw and source.plugin is not None and source.plugin.takes_empty_body:
        return None
    return decode(raw)


def read_stored_reports(
    source: LiveSource, headers: dict[str, str], raw: bytes
) -> tuple[Sequence[Report], str | None]:
    """Return the reports in a stored body: all of an unreadable request, or the report that this row is.

    Raises InvalidBody and InvalidFields.
    """
    part = headers.get(PART_HEADER)
    if part is not None and part != "0":
        return [msgspec.json.decode(raw, type=Report)], None
    reports, error = read_reports(source, headers, raw, decode_body(source, raw))
    return (reports if part is None else reports[:1]), error


def kept_headers(source: LiveSource, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that are stored with a report and shown to its source's plugin.

    ``headers`` must find names in any case.
    """
    names, prefixes = _names_and_prefixes(
        tuple(source.plugin.kept_headers) if source.plugin is not None else ()
    )
    kept = {name: clean_stored(headers[name])[:HEADER_LIMIT] for name in names if name in headers}
    if prefixes:
        for name, value in headers.items():
            lowered = name.lower()
            if lowered.startswith(prefixes) and lowered not in kept:
                kept[lowered] = clean_stored(value)[:HEADER_LIMIT]
    return kept


@lru_cache
def _names_and_prefixes(of_source: tuple[str, ...]) -> tuple[Sequence[str], tuple[str, ...]]:
    patterns = (*KEPT_HEADERS, *of_source)
    names = [pattern for pattern in patterns if not pattern.endswith("*")]
    return names, tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
