"""The messaging service inside Bugsink: its form, and the tasks that send.

Tasks get only ids: snappea writes their arguments into its log.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import time
import uuid
from typing import Any

from alerts.models import MessagingServiceConfig
from alerts.service_backends.base import BaseWebhookBackend
from alerts.service_backends.webhook_security import validate_webhook_url
from bugsink.app_settings import get_settings
from bugsink.transaction import immediate_atomic
from django import forms
from django.utils import timezone
from events.models import Event
from issues.models import Issue, TurningPoint, TurningPointKind
from issues.serializers import IssueSerializer
from snappea.decorators import shared_task

from pointsman_bugsink_messaging import LOGGER, body, sending, signing

log = logging.getLogger(LOGGER)

_HISTORY = {
    "NEW": TurningPointKind.FIRST_SEEN,
    "REGRESSED": TurningPointKind.REGRESSED,
    "UNMUTED": TurningPointKind.UNMUTED,
}
_FAILURE = ("timestamp", "status_code", "response_text", "is_json", "error_type", "error_message")


class PointsmanForm(forms.Form):
    """The target URL, and the secret that signs."""

    webhook_url = forms.CharField(
        label="Intake URL",
        max_length=2048,
        help_text="https://pointsman.example.com/intake/SLUG/TOKEN",
    )
    signing_secret = forms.CharField(
        label="Signing secret",
        max_length=200,
        help_text="The source in Pointsman may be given the same one. A new one is proposed here.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        config = kwargs.pop("config", None) or {}
        super().__init__(*args, **kwargs)
        self.fields["webhook_url"].initial = config.get("webhook_url", "")
        self.fields["signing_secret"].initial = config.get("signing_secret") or signing.new_secret()

    def clean_webhook_url(self) -> str:
        """Check the URL by Bugsink's rules for outgoing requests."""
        url: str = self.cleaned_data["webhook_url"]
        try:
            validate_webhook_url(url)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error
        return url

    def clean_signing_secret(self) -> str:
        """Check the signing secret."""
        secret: str = self.cleaned_data["signing_secret"]
        try:
            signing.key_of(secret)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error
        return secret

    def get_config(self) -> dict[str, str]:
        """Return the configuration that Bugsink stores."""
        return {name: self.cleaned_data[name] for name in ("webhook_url", "signing_secret")}


class PointsmanBackend(BaseWebhookBackend):
    """One messaging service of the kind Pointsman."""

    def __init__(self, service_config: MessagingServiceConfig) -> None:
        self.service_config = service_config

    @classmethod
    def get_form_class(cls) -> type[forms.Form]:
        """Return the form of the service's settings."""
        return PointsmanForm

    def send_test_message(self) -> None:
        """Send the message of the Test button."""
        send_test.delay(self.service_config.id, _new_id(), body.stamp(timezone.now()))

    def send_alert(
        self, issue_id: Any, state_description: str, alert_article: str, alert_reason: str, **kwargs: Any
    ) -> None:
        """Send an alert. The id is made here, once, so that all attempts have the same id."""
        del state_description, alert_article
        unmute_reason = kwargs.get("unmute_reason")
        send_alert.delay(
            self.service_config.id,
            _new_id(),
            body.stamp(timezone.now()),
            str(issue_id),
            alert_reason,
            None if unmute_reason is None else str(unmute_reason),
        )


@shared_task
def send_test(service_id: int, webhook_id: str, alerted_at: str) -> None:
    """Post a test."""
    service = MessagingServiceConfig.objects.select_related("project").filter(id=service_id).first()
    if service is None:
        return
    url = f"{get_settings().BASE_URL}/projects/{service.project_id}/alerts/"
    created = body.body_of_test(
        project=service.project_id,
        project_name=service.project.name,
        url=url,
        ours=_ours(webhook_id, alerted_at, None),
    )
    _send(service, webhook_id, created)


@shared_task
def send_alert(
    service_id: int,
    webhook_id: str,
    alerted_at: str,
    issue_id: str,
    alert_reason: str,
    unmute_reason: str | None,
) -> None:
    """Post an alert about an issue as it is now."""
    service = MessagingServiceConfig.objects.filter(id=service_id).first()
    issue = Issue.objects.select_related("project").filter(id=issue_id).first()
    if service is None or issue is None:
        log.info("Alert %s is not sent: its messaging service or issue was deleted", webhook_id)
        return
    canonical = {
        **IssueSerializer(issue).data,
        "title": issue.title(),
        "project_name": issue.project.name,
        "url": get_settings().BASE_URL + issue.get_absolute_url(),
        "alert_reason": alert_reason,
    }
    if unmute_reason is not None:
        canonical["unmute_reason"] = unmute_reason
    history = event = None
    try:
        history, matching = _trigger(issue, alert_reason)
        event = None if matching is None else _event(matching)
    except Exception:
        # an alert without its event is worth more than none
        log.exception("Alert %s of issue %s is sent without its event", webhook_id, issue_id)
    _send(service, webhook_id, body.alert_body(canonical, _ours(webhook_id, alerted_at, history), event))


def _ours(webhook_id: str, alerted_at: str, history_id: int | None) -> dict[str, Any]:
    return {
        "id": webhook_id,
        "alerted_at": alerted_at,
        "app": importlib.metadata.version("pointsman-bugsink-messaging"),
        "bugsink": importlib.metadata.version("bugsink"),
        "history_id": history_id,
    }


def _trigger(issue: Issue, alert_reason: str) -> tuple[int | None, Event | None]:
    """Return the entry of the issue's history behind the alert, and its event; the newest event if that was deleted."""
    kind = _HISTORY.get(alert_reason)
    entries = TurningPoint.objects.filter(issue=issue, kind=kind).select_related("triggering_event")
    entry = entries.order_by("-timestamp", "-id").first() if kind is not None else None
    event = None if entry is None else entry.triggering_event
    if event is None:
        event = Event.objects.filter(issue=issue).order_by("-digest_order").first()
    return (None if entry is None else entry.id), event


def _event(event: Event) -> dict[str, Any]:
    names = ("level", "environment", "release", "server_name", "transaction", "platform")
    return body.event_part(
        event.get_parsed_data(),
        ids={
            "id": str(event.id),
            "event_id": event.event_id.hex,
            "timestamp": body.stamp(event.timestamp),
            "url": get_settings().BASE_URL + event.get_absolute_url(),
        },
        columns={name: getattr(event, name) for name in names},
        tags=event.tags.values_list("value__key__key", "value__value"),
    )


def _send(service: MessagingServiceConfig, webhook_id: str, content: bytes) -> None:
    """Post, with no transaction open, and record the result as Bugsink's own kinds do."""
    try:
        config = json.loads(service.config)
        url, key = str(config["webhook_url"]), signing.key_of(str(config["signing_secret"]))
    except (ValueError, LookupError, TypeError) as error:
        _note(
            service.id, sending.Failure(error_type=type(error).__name__, error_message=f"settings: {error}")
        )
        return

    def post() -> sending.Answer:
        headers = signing.headers(key, webhook_id, int(time.time()), content)
        answer: sending.Answer = PointsmanBackend.safe_post(url, data=content, headers=headers)
        return answer

    failure = sending.deliver(post, url, clock=time.monotonic, sleep=time.sleep)
    if failure is not None:
        log.warning("Alert %s was not taken: %s", webhook_id, failure.error_message)
    _note(service.id, failure)


def _note(service_id: int, failure: sending.Failure | None) -> None:
    """Write Bugsink's columns about the last failure, or clear them; a service that was deleted meanwhile has none."""
    services = MessagingServiceConfig.objects.filter(id=service_id)
    if failure is None:
        if not services.filter(last_failure_timestamp__isnull=False).exists():
            return
        noted = dict.fromkeys(_FAILURE)
    else:
        noted = {
            "timestamp": timezone.now(),
            "status_code": failure.status_code,
            "response_text": failure.response_text,
            "is_json": failure.is_json,
            "error_type": failure.error_type[:100],
            "error_message": failure.error_message,
        }
    with immediate_atomic(only_if_needed=True):
        services.update(**{f"last_failure_{name}": value for name, value in noted.items()})


def _new_id() -> str:
    return f"msg_{uuid.uuid4().hex}"
