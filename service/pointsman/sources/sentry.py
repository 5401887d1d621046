"""Read webhooks of Sentry's integration platform, and alerts of GlitchTip, which have Slack's format.

https://docs.sentry.io/organization/integrations/integration-platform/webhooks/
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from pointsman.plugin_api import (
    Action,
    CloseReason,
    Report,
    Source,
    Unreadable,
    hmac_sha256_matches,
)
from pointsman.sources.bugsink.payloads import tags_of
from pointsman.sources.bugsink.trace import stack_trace
from pointsman.sources.json_access import fingerprint, items, nested, require_object, text, time
from pointsman.sources.signature_settings import SignedSettings

_ISSUE_IN_URL = re.compile(r"/issues/(\d{1,20})(?:[/?#]|$)")
_UP_AGAIN = "The monitored site is back up."


class SentrySettings(SignedSettings, frozen=True, kw_only=True):
    """Settings of a Sentry source. ``signing_secret`` is the integration's *Client Secret*; GlitchTip signs nothing."""

    close_on_resolved: Annotated[
        bool, Meta(description="Whether a ticket is closed when its issue is resolved or archived there")
    ] = False


class Sentry(Source[SentrySettings]):
    """Source kind for Sentry and GlitchTip: each issue there is one ticket."""

    kind: ClassVar[str] = "sentry"
    title: ClassVar[str] = "Sentry, GlitchTip"
    api_version: ClassVar[int] = 1
    Settings = SentrySettings
    ticket_kind: ClassVar[Literal["alert", "support"]] = "alert"
    kept_headers: ClassVar[tuple[str, ...]] = ("sentry-hook-resource",)

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Return whether the client secret signed the body; always true without a secret."""
        secrets = self.settings.secrets()
        return not secrets or hmac_sha256_matches(body, headers.get("sentry-hook-signature"), secrets)

    def read_report(self, headers: Mapping[str, str], body: bytes, decoded: Any) -> Sequence[Report]:
        """Return reports for changes of issues, alert rules and metrics; none for other webhooks of Sentry."""
        del body
        decoded = require_object(decoded, "a webhook of Sentry")
        if "data" not in decoded and "attachments" in decoded:
            return self._glitchtip(decoded)
        data = nested(decoded, "data")
        resource = headers.get("sentry-hook-resource", "")
        action = text(decoded, "action")
        if not resource:
            known = {
                "issue": "issue",
                "event": "event_alert",
                "metric_alert": "metric_alert",
                "error": "error",
            }
            resource = next((known[key] for key in known if key in data), "")
            if not resource:
                raise Unreadable(
                    "is missing: set the URL as the webhook URL of an internal integration", field="data"
                )
        match resource:
            case "issue":
                return self._issue(action, _require(data, "issue"))
            case "activity_alert":
                return [_issue_report("opened", _require(data, "issue"), action)]
            case "event_alert":
                return [_event_report(_require(data, "event"), text(data, "triggered_rule"))]
            case "error":
                return [_event_report(_require(data, "error"), "")]
            case "metric_alert":
                return self._metric(action, data)
        return []

    def _reason(self, reason: CloseReason) -> CloseReason | None:
        return reason if self.settings.close_on_resolved else None

    def _issue(self, action: str, issue: Mapping[str, Any]) -> Sequence[Report]:
        match action:
            case "created":
                return [_issue_report("opened", issue, action)]
            case "unresolved":
                loud = text(issue, "substatus") == "escalating"
                return [_issue_report("unmuted" if loud else "regressed", issue, action)]
            case "resolved":
                return [_issue_report("resolved", issue, action, self._reason("completed"))]
            case "archived" | "ignored" if self.settings.close_on_resolved:
                return [_issue_report("resolved", issue, action, "not_planned")]
        return []

    def _metric(self, action: str, data: Mapping[str, Any]) -> Sequence[Report]:
        metric = _require(data, "metric_alert")
        rule = nested(metric, "alert_rule")
        named = text(rule, "id") or text(metric, "id", "identifier")
        if not named:
            raise Unreadable("is missing: it names the rule", field="data.metric_alert.alert_rule.id")
        over = action == "resolved"
        return [
            Report(
                action="resolved" if over else "opened",
                fingerprint=fingerprint("metric", named),
                title=text(rule, "name") or text(data, "description_title") or "(no title)",
                text=text(data, "description_text"),
                facts=(
                    ("State", action),
                    ("Measured", text(rule, "aggregate")),
                    ("Filter", text(rule, "query")),
                    ("Began", text(metric, "date_started")),
                ),
                url=text(data, "web_url"),
                level="" if over else action,
                environment=text(rule, "environment"),
                dedupe="\n".join(["metric", named, text(metric, "id", "identifier"), action]),
                close_reason=self._reason("completed") if over else None,
            )
        ]

    # -- GlitchTip -----------------------------------------------------------------------------------------------

    def _glitchtip(self, decoded: Mapping[str, Any]) -> Sequence[Report]:
        """Return a report for each attachment: an issue, or an uptime monitor.

        A repeated alert has the same bytes and counts as a new occurrence.
        """
        if "test" in text(decoded, "text").lower():
            return [Report(action="test", fingerprint="test", title=text(decoded, "text"))]
        reports = []
        for number, attachment in enumerate(items(decoded, "attachments")):
            title, link = text(attachment, "title"), text(attachment, "title_link")
            if not title and not link:
                raise Unreadable("has neither title nor title_link", field=f"attachments[{number}]")
            issue = _ISSUE_IN_URL.search(link)
            fields = {text(field, "title"): text(field, "value") for field in items(attachment, "fields")}
            over = issue is None and text(attachment, "text") == _UP_AGAIN
            reports.append(
                Report(
                    action="resolved" if over else "opened",
                    fingerprint=fingerprint("issue", issue[1])
                    if issue
                    else fingerprint("monitor", link or title),
                    title=title or link,
                    text="" if issue else text(attachment, "text"),
                    facts=(
                        *((("Where", text(attachment, "text")),) if issue else ()),
                        *tuple((label, value) for label, value in fields.items() if label and value)[:30],
                    ),
                    url=link,
                    environment=fields.get("Environment", ""),
                    release=fields.get("Release", ""),
                    dedupe="",
                    close_reason=self._reason("completed") if over else None,
                )
            )
        return reports


def _require(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = nested(data, name)
    if not value:
        raise Unreadable("is missing", field=f"data.{name}")
    return value


def _issue_report(
    action: Action, issue: Mapping[str, Any], change: str, reason: CloseReason | None = None
) -> Report:
    named = text(issue, "id")
    if not named:
        raise Unreadable("is missing: it names the issue", field="data.issue.id")
    return Report(
        action=action,
        fingerprint=fingerprint("issue", named),
        title=text(issue, "title") or "(no title)",
        facts=(
            ("Where", text(issue, "culprit")),
            ("Project", text(nested(issue, "project"), "name", "slug")),
            ("Sentry issue", text(issue, "shortId")),
            ("First seen", text(issue, "firstSeen")),
            ("Last seen", text(issue, "lastSeen")),
            ("Events", text(issue, "count")),
            ("Users", text(issue, "userCount")),
        ),
        url=text(issue, "web_url", "permalink"),
        level=text(issue, "level"),
        # an issue is new only once; other changes repeat, and their bodies differ
        dedupe=f"issue\n{named}\n{change}" if action == "opened" else None,
        problem_id=named,
        seen_at=time(issue, "lastSeen"),
        close_reason=reason,
    )


def _event_report(event: Mapping[str, Any], rule: str) -> Report:
    in_url = _ISSUE_IN_URL.search(text(event, "issue_url"))
    named = text(event, "issue_id", "groupID") or (in_url[1] if in_url else "")
    if not named:
        raise Unreadable("is missing: it names the issue", field="data.event.issue_id")
    tags = dict(tags_of(event.get("tags")))
    happening = text(event, "event_id", "id")
    sample = "sample_event" in tags
    return Report(
        action="test" if sample else "opened",
        fingerprint=fingerprint("issue", named),
        title=text(event, "title") or text(nested(event, "metadata"), "title", "type") or "(no title)",
        code=stack_trace(event),
        facts=(
            ("Where", text(event, "culprit", "transaction")),
            ("Alert rule", rule),
            ("Platform", text(event, "platform")),
            ("Event", happening),
            ("Tags", ", ".join(f"{name}={value}" for name, value in tags.items())),
        ),
        url=text(event, "web_url"),
        level=text(event, "level") or tags.get("level", ""),
        environment=text(event, "environment") or tags.get("environment", ""),
        release=text(event, "release") or tags.get("release", ""),
        dedupe=f"event\n{named}\n{happening}" if happening else None,
        problem_id=named,
        event_id=happening,
        seen_at=time(event, "datetime"),
    )
