"""Registration of the repository's webhook. https://forgejo.org/docs/latest/user/webhooks/.

The behaviour of the API was read in the server's source, ``routers/api/v1/utils/hook.go``: a webhook is inactive unless
``active`` is sent; no ``events`` mean ``push``, in an edit too; an edit without ``branch_filter`` or
``authorization_header`` empties them; and an edit silently keeps the old secret.
"""

from __future__ import annotations

import ipaddress
import urllib.parse
from dataclasses import dataclass
from typing import Any

from pointsman.plugin_api import ApiClient, Finding, PluginError, Secret, UnknownOutcome
from pointsman.plugin_api.helpers import WebhookRegistration, text_at
from pointsman_forgejo.errors import problem, scopes_lacking
from pointsman_forgejo.pages import read_all

EVENTS = ("issues_only", "issue_comment")
"""The events that our webhook requests: opened, closed, reopened and edited issues, and comments. The name ``issues`` would
include labels, assignees and milestones, which do not matter here."""
_REPORTED_EVENTS = ("issues", "issue_comment")
"""The names under which the server lists the same events."""
_PLAIN_TYPES = ("gitea", "forgejo", "gogs")
"""Types that send the payload unchanged; the others send chat messages."""
_NOT_PUBLIC = (".localhost", ".local", ".lan", ".internal", ".home.arpa", ".svc", ".test")
_IMPACT = "changes are noticed only with the next look at the list of issues"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook as the server describes it. The secret is never shown."""

    number: int
    url: str
    type: str
    active: bool
    content_type: str
    events: frozenset[str]
    branch_filter: str
    authorization: str

    def defects(self) -> list[str]:
        """Return what keeps its calls from arriving or from being understood."""
        defects = []
        if not self.active:
            defects.append("it is inactive")
        if self.content_type != "json":
            defects.append(f"its content type is {self.content_type or 'unknown'} and not json")
        missing = [event for event in _REPORTED_EVENTS if event not in self.events]
        if missing:
            defects.append(f"it does not send {' and '.join(missing)}")
        return defects


def read_webhook(raw: dict[str, Any]) -> Webhook | None:
    """Return a webhook from the server's JSON, None if it is none."""
    number = raw.get("id")
    if not isinstance(number, int) or isinstance(number, bool):
        return None
    events = raw.get("events")
    return Webhook(
        number=number,
        url=text_at(raw, "config", "url") or text_at(raw, "url"),
        type=text_at(raw, "type"),
        active=raw.get("active") is True,
        content_type=text_at(raw, "config", "content_type") or text_at(raw, "content_type"),
        events=frozenset(event for event in events if isinstance(event, str))
        if isinstance(events, list)
        else frozenset(),
        branch_filter=text_at(raw, "branch_filter"),
        authorization=text_at(raw, "authorization_header"),
    )


def create_body(url: str, secret: Secret) -> dict[str, Any]:
    """Return the body that creates a webhook. Gitea does not know the type ``forgejo``; both know ``gitea``."""
    return {
        "type": "gitea",
        "active": True,
        "branch_filter": "*",
        "events": list(EVENTS),
        "config": {"url": url, "content_type": "json", "secret": secret.reveal()},
    }


def repair_body(webhook: Webhook, url: str, secret: Secret) -> dict[str, Any]:
    """Return the body that repairs a webhook, with everything that an edit would otherwise empty."""
    return {
        "active": True,
        "branch_filter": webhook.branch_filter,
        "authorization_header": webhook.authorization,
        "events": list(EVENTS),
        "config": {"url": url, "content_type": "json", "secret": secret.reveal()},
    }


class Webhooks(WebhookRegistration[Webhook]):
    """The webhooks of one repository; those of its organization and of the whole server are not among them."""

    def __init__(self, client: ApiClient, repository: str) -> None:
        super().__init__(f"the settings of {repository} under Webhooks")
        self._client = client
        self._repository = repository
        self._path = f"/repos/{repository}/hooks"

    async def read_all(self) -> list[Webhook]:
        """Return all webhooks of the repository."""
        objects = await read_all(self._client, self._path, {}, doing="read the webhooks")
        return [webhook for raw in objects if (webhook := read_webhook(raw)) is not None]

    async def ensure(self, url: str, secret: Secret) -> Finding:
        """Create or repair the one webhook that calls ``url``."""
        if not secret:
            return Finding(
                level="error",
                message="no webhook secret is configured",
                impact="calls without a signature are answered with 401",
                remedy="configure a secret for this destination, then run this again",
            )
        return await super().ensure(url, secret)

    async def create(self, url: str, secret: Secret) -> Finding:
        """Create the webhook."""
        webhook = await self._send("POST", self._path, create_body(url, secret), "make the webhook")
        return self._result(webhook, f"webhook {webhook.number} is made", url)

    async def repair(self, webhook: Webhook, url: str, secret: Secret) -> Finding:
        """Edit the webhook if it has defects."""
        if webhook.type not in _PLAIN_TYPES:
            return Finding(
                level="warning",
                message=f"webhook {webhook.number} leads to Pointsman and sends messages for {webhook.type}",
                impact="its calls are not understood",
                remedy=f"delete it in {self._settings_page}, then run this again",
            )
        defects = webhook.defects()
        if not defects:
            return self._result(webhook, f"webhook {webhook.number} is there", url, secret_sent=False)
        path = f"{self._path}/{webhook.number}"
        repaired = await self._send("PATCH", path, repair_body(webhook, url, secret), "mend the webhook")
        message = f"webhook {webhook.number} is mended: {', '.join(defects)}"
        return self._result(repaired, message, url, secret_sent=False)

    async def _send(self, method: str, path: str, body: dict[str, Any], doing: str) -> Webhook:
        response = await self._client.request(method, path, json=body)
        if not response.ok:
            raise problem(response, doing)
        raw = response.json()
        webhook = read_webhook(raw) if isinstance(raw, dict) else None
        if webhook is None:
            raise UnknownOutcome(
                f"could not {doing}: the answer is no webhook",
                status=response.status,
                excerpt=response.text(),
            )
        return webhook

    def _result(self, webhook: Webhook, message: str, url: str, *, secret_sent: bool = True) -> Finding:
        if defects := webhook.defects():
            return Finding(
                level="warning",
                message=f"{message}, and still {', '.join(defects)}",
                impact=_IMPACT,
                remedy=f"set it right in {self._settings_page}",
            )
        secret_note = ""
        if not secret_sent:
            secret_note = (
                "the server neither tells nor changes a webhook's secret: if its calls are answered with 401, enter "
                f"the secret by hand, or delete webhook {webhook.number} and run this again"
            )
        obstacle = delivery_obstacle(url)
        return Finding(
            level="warning" if obstacle else "ok",
            message=message,
            impact="the server refuses to call private and loopback addresses, and tells nobody"
            if obstacle
            else "",
            remedy="; ".join(text for text in (obstacle, secret_note) if text),
        )

    def explain(self, error: PluginError, url: str) -> Finding | None:
        """Return what a person does where the account may not read or create webhooks."""
        if error.status not in (403, 404):
            return None
        if "disabled by administrator" in error.message:
            remedy = "the server's operator switches webhooks on (DISABLE_WEBHOOKS of [security] in app.ini)"
        elif scopes_lacking(error.message):
            remedy = f"give the token the scope write:repository; or {by_hand(self._repository, url)}"
        else:
            remedy = (
                f"make the account an administrator of {self._repository} and give the token the scope "
                f"write:repository; or {by_hand(self._repository, url)}"
            )
        return Finding(
            level="warning",
            message=error.message,
            impact=_IMPACT,
            remedy="; ".join(text for text in (remedy, delivery_obstacle(url)) if text),
        )


def delivery_obstacle(url: str) -> str:
    """Return what the server's operator has to do before the server calls this address, empty if nothing.

    A name that looks public and resolves to a private address can't be recognized here.
    """
    host = (urllib.parse.urlsplit(url).hostname or "").lower()
    try:
        public = ipaddress.ip_address(host).is_global
    except ValueError:
        public = "." in host and not host.endswith(_NOT_PUBLIC)
    if public:
        return ""
    return (
        f"the server's operator lets it call {host}: ALLOWED_HOST_LIST of [webhook] in app.ini, "
        "which is `external` unless set"
    )


def by_hand(repository: str, url: str = "") -> str:
    """Return how a person creates the webhook."""
    return (
        f"in the settings of {repository}, Webhooks, Add webhook, Forgejo (or Gitea): target URL "
        f"{url or 'as Pointsman shows it'}, POST, content type application/json, the destination's webhook secret, "
        "of the custom events the one for issues opened, closed, reopened or edited, active"
    )
