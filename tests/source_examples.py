"""Example requests of each built-in source kind, as in the senders' documentation, for its tests and the suite."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from pointsman.sources.alertmanager import Alertmanager
from pointsman.sources.bugsink.source import Bugsink
from pointsman.sources.cloudevents import CloudEvents
from pointsman.sources.generic import Generic
from pointsman.sources.sentry import Sentry
from pointsman.sources.tickets import Tickets
from pointsman.testing.conformance import SourceCase, SourceExample

SECRET, OTHER = "the-secret-of-the-tests", "another-secret-of-the-tests"
WHSEC = "whsec_" + base64.b64encode(b"a key of more than 24 bytes").decode()
WHSEC_OTHER = "whsec_" + base64.b64encode(b"some key of more than 24 bytes").decode()


def alert(reason: str = "NEW", **fields: Any) -> dict[str, Any]:
    """Return a Bugsink alert as its webhook of kind `custom` posts it."""
    body: dict[str, Any] = {
        "id": "6f0d2a51-3c5e-4a0e-9c55-0d6f6c2f6a01",
        "friendly_id": "SHOP-1",
        "project": 1,
        "digest_order": 1,
        "first_seen": "2026-11-20T10:00:00.000001Z",
        "last_seen": "2026-11-20T10:00:00.000001Z",
        "digested_event_count": 1,
        "stored_event_count": 1,
        "calculated_type": "KeyError",
        "calculated_value": "'basket'",
        "transaction": "/basket",
        "is_resolved": False,
        "is_resolved_unconditionally": False,
        "is_resolved_by_next_release": False,
        "is_muted": False,
        "title": "KeyError: 'basket'",
        "project_name": "Shop",
        "url": "https://bugsink.example.com/issues/issue/6f0d2a51-3c5e-4a0e-9c55-0d6f6c2f6a01/event/last/",
        "alert_reason": reason,
    }
    return {**body, **fields}


def hex_of(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, sha256).hexdigest()


def standard(secret: str, body: bytes) -> Mapping[str, str]:
    """Return the headers of a request signed by Standard Webhooks."""
    key, at = base64.b64decode(secret.removeprefix("whsec_")), str(int(time.time()))
    signature = hmac.new(key, b"msg_1." + at.encode() + b"." + body, sha256).digest()
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": at,
        "webhook-signature": "v1," + base64.b64encode(signature).decode(),
    }


# -- Sentry ----------------------------------------------------------------------------------------------------------

ISSUE: dict[str, Any] = {
    "id": "1170820242",
    "shortId": "SHOP-1",
    "title": "KeyError: 'basket'",
    "culprit": "shop.views in basket",
    "level": "error",
    "status": "unresolved",
    "substatus": "new",
    "statusDetails": {},
    "platform": "python",
    "project": {"id": "1", "name": "Shop", "slug": "shop", "platform": "python"},
    "type": "error",
    "metadata": {"type": "KeyError", "value": "'basket'", "filename": "shop/views.py"},
    "numComments": 0,
    "count": "1",
    "userCount": 1,
    "firstSeen": "2026-08-19T21:06:50.200000Z",
    "lastSeen": "2026-08-19T21:06:50.200000Z",
    "web_url": "https://acme.sentry.io/issues/1170820242/",
    "issue_url": "https://sentry.io/api/0/organizations/acme/issues/1170820242/",
    "project_url": "https://sentry.io/api/0/projects/acme/shop/",
}
EVENT: dict[str, Any] = {
    "event_id": "e4874d664c3540c1a32eab185f12c5ab",
    "title": "KeyError: 'basket'",
    "culprit": "shop.views in basket",
    "level": "error",
    "environment": "production",
    "release": "shop@1.4.2",
    "platform": "python",
    "project": 1,
    "datetime": "2026-08-19T21:06:50.000000Z",
    "issue_id": "1170820242",
    "issue_url": "https://sentry.io/api/0/organizations/acme/issues/1170820242/",
    "web_url": "https://acme.sentry.io/issues/1170820242/events/e4874d664c3540c1a32eab185f12c5ab/",
    "url": "https://sentry.io/api/0/projects/acme/shop/events/e4874d664c3540c1a32eab185f12c5ab/",
    "tags": [["level", "error"], ["server_name", "web-1"], ["user", "id:17"]],
    "user": {"email": "ada@customer.example"},
    "exception": {
        "values": [
            {
                "type": "KeyError",
                "value": "'basket'",
                "stacktrace": {
                    "frames": [
                        {
                            "filename": "shop/views.py",
                            "function": "basket",
                            "lineno": 12,
                            "in_app": True,
                            "context_line": "    return session['basket']",
                            "vars": {"card": "4111111111111111"},
                        }
                    ]
                },
            }
        ]
    },
}
METRIC: dict[str, Any] = {
    "id": "123",
    "identifier": "1",
    "status": 20,
    "date_started": "2026-08-19T21:00:00Z",
    "date_detected": "2026-08-19T21:06:50Z",
    "date_closed": None,
    "projects": ["shop"],
    "alert_rule": {
        "id": "7",
        "name": "Too many errors",
        "aggregate": "count()",
        "query": "level:error",
        "environment": "production",
        "triggers": [{"id": "9", "label": "critical", "alertThreshold": 1000}],
    },
}


def sentry(action: str, **data: Any) -> dict[str, Any]:
    """Return a webhook request of Sentry's integration platform."""
    return {
        "action": action,
        "installation": {"uuid": "24b6c6e3-0000-4000-8000-000000000000"},
        "data": data,
        "actor": {"type": "application", "id": "sentry", "name": "Sentry"},
    }


def resource(name: str) -> dict[str, str]:
    return {"sentry-hook-resource": name}


GLITCHTIP: dict[str, Any] = {
    "alias": "GlitchTip",
    "text": "GlitchTip Alert (2 issues)",
    "attachments": [
        {
            "title": "KeyError: 'basket'",
            "title_link": "https://glitchtip.example.com/acme/issues/41",
            "text": "shop.views in basket",
            "image_url": None,
            "color": "#e52b50",
            "fields": [
                {"title": "Project", "value": "shop", "short": True},
                {"title": "Environment", "value": "production", "short": True},
                {"title": "Release", "value": "1.4.2", "short": False},
            ],
            "mrkdown_in": ["text"],
        },
        {
            "title": "ValueError: no such card",
            "title_link": "https://glitchtip.example.com/acme/issues/42",
            "text": "shop.views in pay",
            "color": "#e52b50",
            "fields": [],
        },
    ],
    "sections": [{"activityTitle": "KeyError: 'basket'", "activitySubtitle": "[View](https://x.example)"}],
}


def uptime(text: str) -> dict[str, Any]:
    link = "https://glitchtip.example.com/acme/uptime-monitors/3"
    attachment = {"title": "Shop", "title_link": link, "text": text}
    return {"alias": "GlitchTip", "text": "GlitchTip Uptime Alert", "attachments": [attachment]}


SENTRY = SourceCase(
    source=Sentry,
    examples=[
        SourceExample(
            name="issue created",
            headers=resource("issue"),
            body=sentry("created", issue=ISSUE),
            later=sentry(
                "unresolved",
                issue={**ISSUE, "lastSeen": "2026-09-01T00:00:00Z", "count": "7", "substatus": "regressed"},
            ),
            needed=("data.issue", "data.issue.id"),
        ),
        SourceExample(
            name="issue resolved",
            headers=resource("issue"),
            body=sentry("resolved", issue={**ISSUE, "status": "resolved"}),
            actions=("resolved",),
        ),
        SourceExample(
            name="issue escalating",
            headers=resource("issue"),
            body=sentry("unresolved", issue={**ISSUE, "substatus": "escalating"}),
            actions=("unmuted",),
        ),
        SourceExample(
            name="issue assigned",
            headers=resource("issue"),
            body=sentry("assigned", issue=ISSUE),
            actions=(),
        ),
        SourceExample(
            name="comment",
            headers=resource("comment"),
            body=sentry("created", comment="I look into it", issue_id=1170820242),
            actions=(),
        ),
        SourceExample(
            name="issue alert",
            headers=resource("event_alert"),
            body=sentry("triggered", event=EVENT, triggered_rule="Loud"),
            later=sentry(
                "triggered",
                event={
                    **EVENT,
                    "event_id": "b" * 32,
                    "datetime": "2026-09-01T00:00:00Z",
                    "release": "shop@1.5",
                },
            ),
            needed=("data.event",),
        ),
        SourceExample(
            name="metric alert",
            headers=resource("metric_alert"),
            body=sentry(
                "critical",
                metric_alert=METRIC,
                description_text="1000 events in the last 10 minutes",
                description_title="Critical: Too many errors",
                web_url="https://acme.sentry.io/alerts/rules/details/7/",
            ),
            later=sentry(
                "critical", metric_alert={**METRIC, "id": "124", "date_started": "2026-09-01T00:00:00Z"}
            ),
            needed=("data.metric_alert",),
        ),
        SourceExample(
            name="metric alert resolved",
            headers=resource("metric_alert"),
            body=sentry("resolved", metric_alert=METRIC, description_title="Resolved: Too many errors"),
            actions=("resolved",),
        ),
        SourceExample(name="GlitchTip", body=GLITCHTIP, actions=("opened", "opened"), later=GLITCHTIP),
        SourceExample(name="GlitchTip down", body=uptime("The monitored site has gone down.")),
        SourceExample(
            name="GlitchTip up", body=uptime("The monitored site is back up."), actions=("resolved",)
        ),
    ],
    test=SourceExample(
        name="sample",
        headers=resource("event_alert"),
        body=sentry("triggered", event={**EVENT, "tags": [["sample_event", "yes"]]}),
        actions=("test",),
    ),
    secret=SECRET,
    other_secret=OTHER,
    signing={"signing_secret": SECRET},
    sign=lambda secret, body: {"sentry-hook-signature": hex_of(secret, body)},
)

# -- Alertmanager ----------------------------------------------------------------------------------------------------


def am_alert(number: int = 1, status: str = "firing", **more: Any) -> dict[str, Any]:
    """Return an alert of a group."""
    return {
        "status": status,
        "labels": {
            "alertname": "HighLatency",
            "instance": f"web-{number}:9100",
            "severity": "critical",
            "environment": "production",
        },
        "annotations": {"summary": f"web-{number} is slow", "description": "p99 over 2 s for 10 minutes."},
        "startsAt": "2026-11-20T10:00:00.000Z",
        "endsAt": "2026-11-20T11:00:00.000Z" if status == "resolved" else "0001-01-01T00:00:00Z",
        "generatorURL": "https://prometheus.example.com/graph?g0.expr=up",
        "fingerprint": f"{number:016x}",
        **more,
    }


def am_group(*alerts: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a webhook body of Alertmanager, version 4."""
    firing = any(alert["status"] == "firing" for alert in alerts)
    return {
        "version": "4",
        "groupKey": '{}/{team="shop"}:{alertname="HighLatency"}',
        "truncatedAlerts": 0,
        "status": "firing" if firing else "resolved",
        "receiver": "pointsman",
        "groupLabels": {"alertname": "HighLatency"},
        "commonLabels": {"alertname": "HighLatency", "severity": "critical"},
        "commonAnnotations": {},
        "externalURL": "https://alertmanager.example.com",
        "alerts": list(alerts),
        **more,
    }


ALERTMANAGER = SourceCase(
    source=Alertmanager,
    examples=[
        SourceExample(
            name="a group",
            body=am_group(am_alert(1), am_alert(2), am_alert(3, "resolved")),
            actions=("opened", "opened", "resolved"),
            later=am_group(
                am_alert(1, startsAt="2026-11-21T10:00:00Z", annotations={"summary": "slower"}),
                am_alert(2, "resolved"),
                am_alert(3, startsAt="2026-11-22T10:00:00Z"),
            ),
            needed=("alerts", "alerts.0.status"),
        ),
        SourceExample(
            name="a truncated group",
            body=am_group(am_alert(1), truncatedAlerts=3),
            actions=("opened", "opened"),
            later=am_group(am_alert(1, startsAt="2026-11-21T10:00:00Z"), truncatedAlerts=4),
        ),
    ],
    test=SourceExample(
        name="Grafana's test",
        body=am_group(am_alert(1, labels={"alertname": "TestAlert", "instance": "Grafana"}), version="1"),
        actions=("test",),
    ),
)
ALERTMANAGER_GROUPS = SourceCase(
    source=Alertmanager,
    settings={"ticket_per": "group", "close_on_resolved": True},
    examples=[
        SourceExample(
            name="a group",
            body=am_group(am_alert(1), am_alert(2)),
            later=am_group(am_alert(1), am_alert(2), am_alert(3)),
            needed=("alerts",),
        ),
        SourceExample(name="over", body=am_group(am_alert(1, "resolved")), actions=("resolved",)),
    ],
)

# -- any JSON --------------------------------------------------------------------------------------------------------

DEPLOYMENT: dict[str, Any] = {
    "event": {
        "type": "deploy.failed",
        "id": 17,
        "service": "shop",
        "message": "The deployment of shop failed",
        "log": ["pulling", "image not found"],
        "at": "2026-11-20T10:00:00Z",
        "links": [{"rel": "run", "href": "https://ci.example.com/17"}],
    },
    "target": {"env": "production", "version": "1.4.2"},
}
GENERIC_SETTINGS: dict[str, Any] = {
    "title": "event.message",
    "fingerprint": "['deploy', event.service, target.env]",
    "code": "join('\n', event.log)",
    "url": "event.links[?rel=='run'].href | [0]",
    "environment": "target.env",
    "release": "target.version",
    "action": "event.type",
    "actions": {"deploy.failed": "opened", "deploy.succeeded": "resolved", "*": "ignore"},
    "dedupe": "event.id",
    "facts": {"Service": "event.service"},
}


def deployment(**event: Any) -> dict[str, Any]:
    return {**DEPLOYMENT, "event": {**DEPLOYMENT["event"], **event}}


GENERIC = SourceCase(
    source=Generic,
    settings=GENERIC_SETTINGS,
    examples=[
        SourceExample(
            name="failed",
            body=DEPLOYMENT,
            later=deployment(id=18, at="2026-11-21T10:00:00Z", links=[], message="It failed again"),
            needed=("event.message", "event.log"),
        ),
        SourceExample(
            name="succeeded", body=deployment(type="deploy.succeeded", id=19), actions=("resolved",)
        ),
        SourceExample(name="began", body=deployment(type="deploy.began"), actions=()),
    ],
    secret=SECRET,
    other_secret=OTHER,
    signing={"signing_secret": SECRET, "signature_prefix": "sha256="},
    sign=lambda secret, body: {"x-signature-256": "sha256=" + hex_of(secret, body)},
)
GENERIC_STANDARD = SourceCase(
    source=Generic,
    settings={"reports": "findings", "title": "name", "level": "severity"},
    examples=[
        SourceExample(
            name="a scan",
            body={"findings": [{"name": "CVE-2026-1", "severity": "high"}, {"name": "CVE-2026-2"}]},
            actions=("opened", "opened"),
            later={"findings": [{"name": "CVE-2026-1", "severity": "low"}, {"name": "CVE-2026-2"}]},
            needed=("findings", "findings.0.name"),
        )
    ],
    secret=WHSEC,
    other_secret=WHSEC_OTHER,
    signing={"signing_secret": WHSEC, "signature": "standard-webhooks"},
    sign=standard,
)

# -- CloudEvents -----------------------------------------------------------------------------------------------------

CLOUD_EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "b3f1",
    "source": "/ci/shop",
    "type": "com.example.pipeline.failed",
    "subject": "main",
    "time": "2026-11-20T10:00:00Z",
    "datacontenttype": "application/json",
    "data": {"title": "The pipeline of main failed", "severity": "error", "url": "https://ci.example.com/17"},
}
BINARY = {
    **{f"ce-{name}": value for name, value in CLOUD_EVENT.items() if isinstance(value, str)},
    "content-type": "application/json",
}
CLOUDEVENTS = SourceCase(
    source=CloudEvents,
    settings={"action": "type", "actions": {"com.example.pipeline.fixed": "resolved", "*": "opened"}},
    examples=[
        SourceExample(
            name="structured",
            body=CLOUD_EVENT,
            later={**CLOUD_EVENT, "id": "b3f2", "time": "2026-11-21T10:00:00Z", "data": {"title": "Again"}},
            needed=("id", "source", "type", "specversion"),
        ),
        SourceExample(name="binary", headers=BINARY, body=CLOUD_EVENT["data"]),
        SourceExample(
            name="a batch",
            body=[CLOUD_EVENT, {**CLOUD_EVENT, "id": "b3f3", "type": "com.example.pipeline.fixed"}],
            actions=("opened", "resolved"),
            needed=("0.id",),
        ),
    ],
    secret=SECRET,
    other_secret=OTHER,
    signing={"signing_secret": SECRET, "signature_encoding": "base64", "signature_header": "X-Hub-Sig"},
    sign=lambda secret, body: {
        "x-hub-sig": base64.b64encode(bytes.fromhex(hex_of(secret, body))).decode(),
    },
)

# -- ours ------------------------------------------------------------------------------------------------------------

BUGSINK = SourceCase(
    source=Bugsink,
    examples=[
        SourceExample(
            name="new",
            body=alert(),
            later=alert("REGRESSED", last_seen="2026-11-21T10:00:00Z", digested_event_count=9),
            needed=("id", "alert_reason"),
        )
    ],
    test=SourceExample(name="test", body=alert("TEST"), actions=("test",)),
    secret=WHSEC,
    other_secret=WHSEC_OTHER,
    signing={"signing_secret": WHSEC},
    sign=standard,
)
TICKETS = SourceCase(
    source=Tickets,
    examples=[
        SourceExample(
            name="a request",
            body={
                "title": "My card is refused",
                "description": "Since this morning.",
                "reporter": {"name": "Ada"},
            },
            needed=("title",),
        )
    ],
    lenient=False,
)

CASES = {
    "sentry": SENTRY,
    "alertmanager": ALERTMANAGER,
    "alertmanager-groups": ALERTMANAGER_GROUPS,
    "generic": GENERIC,
    "generic-standard-webhooks": GENERIC_STANDARD,
    "cloudevents": CLOUDEVENTS,
    "bugsink": BUGSINK,
    "tickets": TICKETS,
}
