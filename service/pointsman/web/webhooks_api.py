"""The webhook endpoint. The signature is checked over the raw bytes before anything is decoded."""

from __future__ import annotations

import secrets

import msgspec
from aiohttp import web

from pointsman.bus.signals import WorkAvailable
from pointsman.content.sanitize import clean_stored
from pointsman.crypto import DiscardedBody, hmac_sha256_matches
from pointsman.logs import logger
from pointsman.plugin_api import IgnoredWebhook, IssueRemoved, IssueState, Tracker, WebhookEvent
from pointsman.plugin_host.validate import validated
from pointsman.web import body
from pointsman.web.middleware import add_log_fields
from pointsman.web.problems import unauthorized
from pointsman.web.responses import json_response
from pointsman.web.services import Services, services_of

log = logger("webhooks")

UNKNOWN_KEPT_BYTES = 4096
"""Bytes of a body that are kept in memory if the destination does not exist or has no secret."""
_RANDOM_SECRET = secrets.token_bytes(32)
"""Secret of destinations that do not exist or have none; nobody knows it."""


class WebhookBody(msgspec.Struct):
    """The effect of a webhook, for the log of the tracker."""

    result: str


async def post(request: web.Request) -> web.Response:
    """Accept a webhook: 401 if it can't be verified, 200 once it is committed."""
    services = services_of(request)
    tracker_kind, slug = request.match_info["tracker"], request.match_info["slug"]
    destination = services.config.current.destination(slug)
    if destination is not None and destination.tracker_kind != tracker_kind:
        destination = None
    known_secrets = destination.webhook_secrets if destination is not None else ()
    raw = await _read_body(request, services, keep=bool(known_secrets))
    headers = {name.lower(): value for name, value in request.headers.items()}
    plugin = services.registry.trackers.get(tracker_kind)
    verified = _is_signature_valid(plugin, headers, raw, known_secrets or (_RANDOM_SECRET,))
    if destination is None:
        raise unauthorized("unknown destination")
    add_log_fields(request, destination=slug)
    if not (verified and known_secrets):
        raise unauthorized("wrong signature" if known_secrets else "no secret")
    if destination.tracker is None:
        raise unauthorized("the destination has a problem")
    delivery_id = _delivery_id(destination.tracker, headers, raw)
    event = _read(destination.tracker, headers, raw)
    async with services.admission.webhook_writes.slot():
        result = await services.webhook_receiver.receive(destination, headers, raw, delivery_id, event)
    services.metrics.webhooks.labels(slug, "changed" if result.changed else "nothing").inc()
    add_log_fields(
        request,
        note=result.note,
        webhook=delivery_id,
        ticket=str(result.ticket_id) if result.ticket_id is not None else None,
    )
    if result.changed:
        services.signals.emit(WorkAvailable())
    return json_response(200, WebhookBody(result.note))


async def _read_body(request: web.Request, services: Services, *, keep: bool) -> bytes:
    """Return the body; only its start if nothing can sign it, which takes the same time."""
    limit = services.settings.webhook_max_bytes
    if keep:
        return await body.read(request, limit, services.admission.webhook_memory, services.timeouts)
    discarded = DiscardedBody(UNKNOWN_KEPT_BYTES)
    await body.receive(request, limit, services.timeouts, discarded.accept)
    return bytes(discarded.start)


def _delivery_id(tracker: Tracker, headers: dict[str, str], raw: bytes) -> str | None:
    """Return the tracker's id of a webhook, by which a repetition is recognised."""
    try:
        delivery_id = tracker.webhook_id(headers, raw)
    except Exception:
        log.exception("tracker plugin failed to read a webhook's id", tracker=tracker.kind)
        return None
    return clean_stored(delivery_id)[:200] if isinstance(delivery_id, str) else None


def _is_signature_valid(
    plugin: type[Tracker] | None, headers: dict[str, str], raw: bytes, known_secrets: tuple[bytes, ...]
) -> bool:
    """Return what the tracker's plugin says of the signature. An unknown tracker costs the same time."""
    if plugin is None:
        hmac_sha256_matches(raw, None, ())
        return False
    try:
        return plugin.verify_webhook(headers, raw, [secret for secret in known_secrets if secret]) is True
    except Exception:
        log.exception("tracker plugin failed to verify a webhook", tracker=plugin.kind)
        return False


def _read(tracker: Tracker, headers: dict[str, str], raw: bytes) -> WebhookEvent | None:
    """Return what the plugin reads, or None when it fails: the webhook is stored, and polling finds the change."""
    try:
        event: WebhookEvent = validated(
            tracker.read_webhook(headers, raw), IssueState, IssueRemoved, IgnoredWebhook
        )
    except Exception:
        log.exception("tracker plugin failed to read a webhook", tracker=tracker.kind)
        return None
    return event
