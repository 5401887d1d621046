"""Read any JSON: the settings map its fields to those of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from msgspec.structs import replace

from pointsman.plugin_api import ApiClient, Report, Source
from pointsman.sources.jmespath_mapping import FieldMapper, MappingSettings


class GenericSettings(MappingSettings, frozen=True, kw_only=True):
    """Settings of a generic source; ``title`` is required."""

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        super().__post_init__()
        if not self.title:
            raise ValueError(
                "title is missing: a JMESPath expression that picks the title, such as event.title"
            )


class Generic(Source[GenericSettings]):
    """Source kind for any sender of JSON."""

    kind: ClassVar[str] = "generic"
    title: ClassVar[str] = "Any JSON"
    api_version: ClassVar[int] = 1
    Settings = GenericSettings
    ticket_kind: ClassVar[Literal["alert", "support"]] = "alert"
    kept_headers: ClassVar[tuple[str, ...]] = ("webhook-id", "svix-id")

    def __init__(self, settings: GenericSettings, client: ApiClient | None = None) -> None:
        super().__init__(settings, client)
        self._picker = FieldMapper(settings)

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Return whether the body has the signature that the settings demand."""
        fits: bool = self.settings.verify(headers, body)
        return fits

    def read_report(self, headers: Mapping[str, str], body: bytes, decoded: Any) -> Sequence[Report]:
        """Return the reports that the expressions select.

        The message id of Standard Webhooks tells a repeated message from a new one with the same content.
        """
        del body
        reports = self._picker.read(decoded)
        message = ""
        if self.settings.signature == "standard-webhooks":
            message = headers.get("webhook-id") or headers.get("svix-id", "")
        if not message:
            return reports
        return [
            report
            if report.dedupe is not None
            else replace(report, dedupe=f"webhook\n{message}\n{number}", dedupe_by="request")
            for number, report in enumerate(reports)
        ]
