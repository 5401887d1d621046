"""Webhooks of trackers: raw bytes verified first, then read, then applied and committed, then answered."""

from __future__ import annotations

from aiohttp import web

from pointsman.content.sanitize import clean_stored
from pointsman.crypto import hmac_sha256_matches
from pointsman.logs import logger
from pointsman.plugin_api import Ignored, IssueGone, IssueSeen, Tracker, WebhookNews
from pointsman.plugin_host.validate import checked
from pointsman.web import body
from pointsman.web.intake_api import answer
from pointsman.web.middleware import say
from pointsman.web.problems import unauthorized
from pointsman.web.services import context

log = logger("webhooks")


async def post(request: web.Request) -> web.Response:
    """Take one call. 401 for whatever can't be verified, 200 for whatever can, once it is committed."""
    ctx = context(request)
    tracker_kind, slug = request.match_info["tracker"], request.match_info["slug"]
    raw = await body.read(request, ctx.settings.webhook_max_bytes, ctx.doors.webhook_room, ctx.patience)
    headers = {name.lower(): value for name, value in request.headers.items()}
    destination = ctx.catalog.current.destination(slug)
    if destination is not None and destination.tracker_kind != tracker_kind:
        destination = None
    secrets = destination.webhook_secrets if destination is not None else ()
    kind = ctx.registry.trackers.get(tracker_kind)
    if not _verified(kind, headers, raw, secrets) or destination is None or destination.tracker is None:
        why = (
            "unknown destination"
            if destination is None
            else "no secret"
            if not secrets
            else "wrong signature"
        )
        raise unauthorized(why)
    say(request, destination=slug)
    delivery_id = _delivery_id(destination.tracker, headers, raw)
    news = _read(destination.tracker, headers, raw)
    async with ctx.doors.webhook_writes.through():
        heard = await ctx.inbound.webhook(destination, headers, raw, delivery_id, news)
    ctx.metrics.webhooks.labels(slug, "changed" if heard.changed else "nothing").inc()
    say(
        request,
        note=heard.note,
        webhook=delivery_id,
        ticket=str(heard.ticket_id) if heard.ticket_id is not None else None,
    )
    if heard.changed:
        ctx.wake()
    return answer(200, {"result": heard.note})


def _delivery_id(tracker: Tracker, headers: dict[str, str], raw: bytes) -> str | None:
    try:
        found = tracker.webhook_id(headers, raw)
    except Exception:
        log.exception("a plugin failed to name a webhook", tracker=tracker.kind)
        return None
    return clean_stored(found)[:200] if isinstance(found, str) else None


def _verified(
    kind: type[Tracker] | None, headers: dict[str, str], raw: bytes, secrets: tuple[bytes, ...]
) -> bool:
    """Whether the plugin vouches for the bytes; unknown names cost the same work."""
    if kind is None:
        hmac_sha256_matches(raw, None, ())
        return False
    try:
        return kind.verify_webhook(headers, raw, [secret for secret in secrets if secret]) is True
    except Exception:
        log.exception("a plugin failed to verify", tracker=kind.kind)
        return False


def _read(tracker: Tracker, headers: dict[str, str], raw: bytes) -> WebhookNews | None:
    """What the plugin reads; None for a fault of the plugin: the webhook is kept, and a poll finds what it said."""
    try:
        news: WebhookNews = checked(tracker.read_webhook(headers, raw), IssueSeen, IssueGone, Ignored)
    except Exception:
        log.exception("a plugin failed to read a webhook", tracker=tracker.kind)
        return None
    return news
