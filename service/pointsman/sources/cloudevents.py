"""Read CloudEvents 1.0 over HTTP as JSON: structured, binary and batched.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal
from urllib.parse import unquote

import msgspec
from msgspec.structs import replace

from pointsman.plugin_api import ApiClient, Report, Source, Unreadable
from pointsman.sources.jmespath_mapping import FieldMapper, MappingSettings
from pointsman.sources.json_access import text, time

DEFAULTS: Mapping[str, str] = {
    "title": "data.title || data.summary || data.message || subject || type",
    "text": "data.description || data.text",
    "fingerprint": "[type, source, subject]",
    "url": "data.url",
    "level": "data.level || data.severity",
    "environment": "data.environment",
    "release": "data.release || data.version",
}


class CloudEventsSettings(MappingSettings, frozen=True, kw_only=True):
    """Settings of a CloudEvents source. Expressions apply to the whole event: its attributes and ``data``."""

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        super().__post_init__()
        if self.reports:
            raise ValueError(
                "reports is not for this kind: an event is one report, and a batch is a list of them"
            )


class CloudEvents(Source[CloudEventsSettings]):
    """Source kind for CloudEvents."""

    kind: ClassVar[str] = "cloudevents"
    title: ClassVar[str] = "CloudEvents"
    api_version: ClassVar[int] = 1
    Settings = CloudEventsSettings
    ticket_kind: ClassVar[Literal["alert", "support"]] = "alert"
    kept_headers: ClassVar[tuple[str, ...]] = ("ce-*",)
    takes_empty_body: ClassVar[bool] = True
    """An event in binary mode may have no data."""

    def __init__(self, settings: CloudEventsSettings, client: ApiClient | None = None) -> None:
        super().__init__(settings, client)
        self._picker = FieldMapper(settings, DEFAULTS)

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Return whether the body has the signature that the settings demand."""
        fits: bool = self.settings.verify(headers, body)
        return fits

    def read_report(self, headers: Mapping[str, str], body: bytes, decoded: Any) -> Sequence[Report]:
        """Return one report for each event."""
        del body
        binary = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
        if binary:
            kind = headers.get("content-type", "")
            return self._read({**binary, "data": decoded, "datacontenttype": kind}, "")
        if isinstance(decoded, list):
            return [
                report for number, event in enumerate(decoded) for report in self._read(event, f"[{number}].")
            ]
        return self._read(decoded, "")

    def _read(self, event: Any, path_prefix: str) -> Sequence[Report]:
        if not isinstance(event, dict):
            raise Unreadable("an event is a JSON object, or has headers that begin with ce-")
        for name in ("specversion", "id", "source", "type"):
            if not isinstance(event.get(name), str) or not event[name]:
                raise Unreadable("is missing: each CloudEvent has it", field=f"{path_prefix}{name}")
        if not event["specversion"].startswith("1."):
            raise Unreadable("is not 1.0", field=f"{path_prefix}specversion")
        if "data_base64" in event:
            event = {**event, "data": _decoded(event, path_prefix)}
        identity = "\n".join([event["source"], event["id"]])
        return [
            replace(
                report,
                # source and id together are unique for each event
                dedupe=identity if report.dedupe is None else report.dedupe,
                dedupe_by="request" if report.dedupe is None else report.dedupe_by,
                facts=(
                    *report.facts,
                    ("Type", event["type"]),
                    ("Source", event["source"]),
                    ("Subject", text(event, "subject")),
                    ("Event", event["id"]),
                ),
                event_id=event["id"],
                seen_at=time(event, "time"),
            )
            for report in self._picker.read(event)
        ]


def _decoded(event: Mapping[str, Any], path_prefix: str) -> Any:
    """Decode ``data_base64`` as JSON if possible, else as text."""
    try:
        raw = base64.b64decode(text(event, "data_base64"), validate=True)
    except (binascii.Error, ValueError):
        raise Unreadable("is not base64", field=f"{path_prefix}data_base64") from None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return raw.decode("utf-8", "replace").replace("\0", "\ufffd")
