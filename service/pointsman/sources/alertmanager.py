"""Read webhooks of Prometheus Alertmanager, version 4; Grafana's alerting sends the same format.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from pointsman.plugin_api import MAX_REPORTS, PluginSettings, Report, Source, Unreadable
from pointsman.sources.json_access import fingerprint, nested, require_object, scalar_text, text, time

LABELS_SHOWN = 30
ALERTS_LISTED = 30


class AlertmanagerSettings(PluginSettings, frozen=True, kw_only=True):
    """Settings of an Alertmanager source."""

    close_on_resolved: Annotated[
        bool,
        Meta(description="Whether a ticket is closed when its alert is resolved; else it gets a comment"),
    ] = False
    ticket_per: Annotated[
        Literal["alert", "group"],
        Meta(description="Whether each alert has a ticket, or each group of alerts"),
    ] = "alert"


class Alertmanager(Source[AlertmanagerSettings]):
    """Source kind for one Alertmanager, or one cluster of them."""

    kind: ClassVar[str] = "alertmanager"
    title: ClassVar[str] = "Prometheus Alertmanager"
    api_version: ClassVar[int] = 1
    Settings = AlertmanagerSettings
    ticket_kind: ClassVar[Literal["alert", "support"]] = "alert"

    def read_report(self, headers: Mapping[str, str], body: bytes, decoded: Any) -> Sequence[Report]:
        """Return one report for each alert; alerts above the limit share one report of their group."""
        del headers, body
        whole = require_object(decoded, "a webhook of Alertmanager")
        alerts = whole.get("alerts")
        if not isinstance(alerts, list):
            raise Unreadable(
                "is missing: this is no body of Alertmanager's webhook_config, version 4", field="alerts"
            )
        for number, alert in enumerate(alerts):
            if not isinstance(alert, dict) or text(alert, "status") not in ("firing", "resolved"):
                raise Unreadable("is neither firing nor resolved", field=f"alerts[{number}].status")
            if not nested(alert, "labels") and not text(alert, "fingerprint"):
                raise Unreadable("is missing: labels tell alerts apart", field=f"alerts[{number}].labels")
        left_out = whole.get("truncatedAlerts")
        hidden = left_out if type(left_out) is int and left_out > 0 else 0
        if self.settings.ticket_per == "group":
            return self._group(whole, alerts, hidden) if alerts else []
        limit = MAX_REPORTS - 1 if hidden or len(alerts) > MAX_REPORTS else MAX_REPORTS
        reports = [self._alert(whole, alert) for alert in alerts[:limit]]
        if alerts[limit:] or hidden:
            reports += self._group(whole, alerts[limit:], hidden)
        return reports

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
            # a firing alert is sent repeatedly, by each Alertmanager of a cluster
            dedupe="\n".join(
                [named, alert["status"], text(alert, "startsAt"), text(alert, "endsAt") if over else ""]
            ),
            dedupe_by="state",
            problem_id=named,
            seen_at=time(alert, "endsAt" if over else "startsAt"),
            close_reason="completed" if over and self.settings.close_on_resolved else None,
        )

    def _group(
        self, whole: Mapping[str, Any], alerts: Sequence[Mapping[str, Any]], hidden: int
    ) -> Sequence[Report]:
        """Return one report for several alerts of a group, ``hidden`` of which are left out of the message.

        Nothing is known of hidden alerts: Alertmanager makes the status of the listed ones alone. So no report says that a
        group is over, or not, if all its listed alerts are and others are hidden.
        """
        count = len(alerts) + hidden
        labels, notes = nested(whole, "commonLabels"), nested(whole, "commonAnnotations")
        group = text(whole, "groupKey") or _digest(nested(whole, "groupLabels"))
        over = text(whole, "status") == "resolved"
        if over and hidden:
            return []
        states = sorted(
            f"{_alert_fingerprint(alert)} {alert['status']} {text(alert, 'startsAt')}" for alert in alerts
        )
        lines = [
            f"{alert['status']}: {_title(nested(alert, 'labels'), nested(alert, 'annotations'))}"
            for alert in alerts[:ALERTS_LISTED]
        ]
        if count > len(lines):
            lines.append(f"… and {count - len(lines)} more")
        amount = "1 alert" if count == 1 else f"{count} alerts"
        report = Report(
            action="resolved" if over else "opened",
            fingerprint=fingerprint("group", group),
            title=f"{_title(labels or nested(whole, 'groupLabels'), notes)} ({amount})",
            text=text(notes, "description", "message"),
            code="\n".join(lines),
            facts=tuple(_label_facts(labels or nested(whole, "groupLabels"))),
            url=text(whole, "externalURL"),
            level=text(labels, "severity", "level"),
            environment=text(labels, "environment", "env"),
            release=text(labels, "release", "version"),
            dedupe="\n".join(["group", group, text(whole, "status"), str(count), *states]),
            dedupe_by="state",
            problem_id=group,
            close_reason="completed" if over and self.settings.close_on_resolved else None,
        )
        return [report]


def _alert_fingerprint(alert: Mapping[str, Any]) -> str:
    """Return the alert's fingerprint, or a digest of its labels if the sender leaves it out."""
    return text(alert, "fingerprint") or _digest(nested(alert, "labels"))


def _digest(labels: Mapping[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(labels, order="sorted")).hexdigest()[:32]


def _title(labels: Mapping[str, Any], notes: Mapping[str, Any]) -> str:
    name, summary = text(labels, "alertname"), text(notes, "summary", "title")
    if name and summary and name not in summary:
        return f"{name}: {summary}"
    return summary or name or "(no title)"


def _label_facts(labels: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    facts = [(name, shown) for name, value in sorted(labels.items()) if (shown := scalar_text(value))]
    return facts[:LABELS_SHOWN]
