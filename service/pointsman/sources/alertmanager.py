"""Prometheus Alertmanager: its webhook, version 4; Grafana's alerting posts the same form.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from pointsman.plugin_api import MAX_REPORTS, PluginSettings, Report, Source, Unreadable
from pointsman.sources.json_access import fingerprint, require_object, nested, scalar_text, text, time

LABELS_SHOWN = 30
ALERTS_LISTED = 30


class AlertmanagerSettings(PluginSettings, frozen=True, kw_only=True):
    """What a ticket is, and what the end of an alert does."""

    close_on_resolved: Annotated[
        bool,
        Meta(description="Whether a ticket is closed when its alert is resolved; else it gets a comment"),
    ] = False
    ticket_per: Annotated[
        Literal["alert", "group"],
        Meta(description="Whether each alert has a ticket, or each group of alerts"),
    ] = "alert"


class Alertmanager(Source):
    """One Alertmanager, or several of one cluster."""

    kind: ClassVar[str] = "alertmanager"
    title: ClassVar[str] = "Prometheus Alertmanager"
    api_version: ClassVar[int] = 1
    Settings: ClassVar[type[PluginSettings]] = AlertmanagerSettings
    ticket_kind: ClassVar[Literal["alert", "support"]] = "alert"

    def read_report(self, headers: Mapping[str, str], body: bytes, decoded: Any) -> Sequence[Report]:
        """One report for each alert. Those that don't fit in are told of together, as one of their group."""
        del headers, body
        whole = require_object(decoded, "a webhook of Alertmanager")
        alerts = whole.get("alerts")
        if not isinstance(alerts, list):
            raise Unreadable(
                "is missing: this is no body of Alertmanager's webhook_config, version 4", field="alerts"
            )
        for number, one in enumerate(alerts):
            if not isinstance(one, dict) or text(one, "status") not in ("firing", "resolved"):
                raise Unreadable("is neither firing nor resolved", field=f"alerts[{number}].status")
            if not nested(one, "labels") and not text(one, "fingerprint"):
                raise Unreadable("is missing: labels tell alerts apart", field=f"alerts[{number}].labels")
        left_out = whole.get("truncatedAlerts")
        hidden = left_out if type(left_out) is int and left_out > 0 else 0
        if self.settings.ticket_per == "group":
            return [self._group(whole, alerts, len(alerts) + hidden)] if alerts else []
        room = MAX_REPORTS - 1 if hidden or len(alerts) > MAX_REPORTS else MAX_REPORTS
        found = [self._alert(whole, one) for one in alerts[:room]]
        if rest := len(alerts[room:]) + hidden:
            found.append(self._group(whole, alerts[room:], rest))
        return found

    def _alert(self, whole: Mapping[str, Any], alert: Mapping[str, Any]) -> Report:
        labels, notes = nested(alert, "labels"), nested(alert, "annotations")
        named, over = _alert_fingerprint(alert), alert["status"] == "resolved"
        if labels.get("alertname") == "TestAlert" and labels.get("instance") == "Grafana":
            return Report(action="test", fingerprint="test", title=_title(labels, notes))
        return Report(
            action="resolved" if over else "opened",
            fingerprint=fingerprint(named),
            title=_title(labels, notes),
            text=text(notes, "description", "message"),
            facts=(
                ("Began", text(alert, "startsAt")),
                *((("Ended", text(alert, "endsAt")),) if over else ()),
                ("Runbook", text(notes, "runbook_url", "runbook")),
                *_label_facts(labels),
            ),
            url=text(alert, "generatorURL") or text(whole, "externalURL"),
            level=text(labels, "severity", "level"),
            environment=text(labels, "environment", "env"),
            release=text(labels, "release", "version"),
            # one that goes on firing is sent again and again, by each Alertmanager of a cluster
            dedupe="\n".join(
                [named, alert["status"], text(alert, "startsAt"), text(alert, "endsAt") if over else ""]
            ),
            problem_id=named,
            seen_at=time(alert, "endsAt" if over else "startsAt"),
            close_reason="completed" if over and self.settings.close_on_resolved else None,
        )

    def _group(self, whole: Mapping[str, Any], alerts: Sequence[Mapping[str, Any]], count: int) -> Report:
        """Alerts of a group as one report."""
        labels, notes = nested(whole, "commonLabels"), nested(whole, "commonAnnotations")
        group = text(whole, "groupKey") or _digest(nested(whole, "groupLabels"))
        over = text(whole, "status") == "resolved"
        said = sorted(f"{_alert_fingerprint(one)} {one['status']} {text(one, 'startsAt')}" for one in alerts)
        lines = [
            f"{one['status']}: {_title(nested(one, 'labels'), nested(one, 'annotations'))}"
            for one in alerts[:ALERTS_LISTED]
        ]
        if count > len(lines):
            lines.append(f"… and {count - len(lines)} more")
        what = "1 alert" if count == 1 else f"{count} alerts"
        return Report(
            action="resolved" if over else "opened",
            fingerprint=fingerprint("group", group),
            title=f"{_title(labels or nested(whole, 'groupLabels'), notes)} ({what})",
            text=text(notes, "description", "message"),
            code="\n".join(lines),
            facts=tuple(_label_facts(labels or nested(whole, "groupLabels"))),
            url=text(whole, "externalURL"),
            level=text(labels, "severity", "level"),
            environment=text(labels, "environment", "env"),
            release=text(labels, "release", "version"),
            dedupe="\n".join(["group", group, text(whole, "status"), str(count), *said]),
            problem_id=group,
            close_reason="completed" if over and self.settings.close_on_resolved else None,
        )


def _alert_fingerprint(alert: Mapping[str, Any]) -> str:
    """The alert's own fingerprint; where a sender leaves it out, a digest of the labels, which is what it is made from."""
    return text(alert, "fingerprint") or _digest(nested(alert, "labels"))


def _digest(labels: Mapping[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(labels, order="sorted")).hexdigest()[:32]


def _title(labels: Mapping[str, Any], notes: Mapping[str, Any]) -> str:
    name, summary = text(labels, "alertname"), text(notes, "summary", "title")
    if name and summary and name not in summary:
        return f"{name}: {summary}"
    return summary or name or "(no title)"


def _label_facts(labels: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    found = [(name, said) for name, value in sorted(labels.items()) if (said := scalar_text(value))]
    return found[:LABELS_SHOWN]
