"""The repository's webhook: looked for, made, repaired. https://forgejo.org/docs/latest/user/webhooks/.

How the server takes webhooks by API was read in its source, ``routers/api/v1/utils/hook.go``: ``active`` is off unless
asked for; no ``events`` mean ``push``, in an edit too; an edit without ``branch_filter`` or ``authorization_header``
empties them; and an edit leaves the secret as it was, without a word.
"""

from __future__ import annotations

import asyncio
import ipaddress
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pointsman.plugin_api import ApiClient, Finding, PluginError, Secret, UnknownOutcome
from pointsman_forgejo.errors import problem, scopes_lacking
from pointsman_forgejo.pages import read_all

EVENTS = ("issues_only", "issue_comment")
"""What a webhook of ours is asked to send: opened, closed, reopened and edited issues, and comments. The word ``issues``
would turn on labels, assignees and milestones as well, which say nothing to us."""
_TOLD_AS = {"issues_only": "issues", "issue_comment": "issue_comment"}
"""The server tells events back by other words than it takes."""
_PLAIN = ("gitea", "forgejo", "gogs")
"""Types that send the payload as it is; the others send chat messages."""
_NOT_PUBLIC = (".localhost", ".local", ".lan", ".internal", ".home.arpa", ".svc", ".test")


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook as the server tells it. The secret is never told."""

    number: int
    url: str
    type: str
    active: bool
    content_type: str
    events: frozenset[str]
    branch_filter: str
    authorization: str

    def faults(self) -> list[str]:
        """What keeps its calls from coming, or from being understood."""
        found = []
        if not self.active:
            found.append("it is inactive")
        if self.content_type != "json":
            found.append(f"its content type is {self.content_type or 'unknown'} and not json")
        lost = [told for told in _TOLD_AS.values() if told not in self.events]
        if lost:
            found.append(f"it does not send {' and '.join(lost)}")
        return found


def read_hook(raw: dict[str, Any]) -> Hook | None:
    """A webhook out of the server's JSON, None for what is none."""
    number = raw.get("id")
    if not isinstance(number, int) or isinstance(number, bool):
        return None
    config = raw.get("config") if isinstance(raw.get("config"), dict) else {}
    events = raw.get("events")
    return Hook(
        number=number,
        url=_text(config, "url") or _text(raw, "url"),
        type=_text(raw, "type"),
        active=raw.get("active") is True,
        content_type=_text(config, "content_type") or _text(raw, "content_type"),
        events=frozenset(one for one in events if isinstance(one, str))
        if isinstance(events, list)
        else frozenset(),
        branch_filter=_text(raw, "branch_filter"),
        authorization=_text(raw, "authorization_header"),
    )


def create_body(url: str, secret: Secret) -> dict[str, Any]:
    """What makes a webhook. Gitea does not know the type ``forgejo``; both know ``gitea``."""
    return {
        "type": "gitea",
        "active": True,
        "branch_filter": "*",
        "events": list(EVENTS),
        "config": {"url": url, "content_type": "json", "secret": secret.reveal()},
    }


def repair_body(hook: Hook, url: str, secret: Secret) -> dict[str, Any]:
    """What mends a webhook, with all that an edit would otherwise empty."""
    return {
        "active": True,
        "branch_filter": hook.branch_filter,
        "authorization_header": hook.authorization,
        "events": list(EVENTS),
        "config": {"url": url, "content_type": "json", "secret": secret.reveal()},
    }


class Hooks:
    """The webhooks of one repository."""

    def __init__(self, client: ApiClient, repository: str) -> None:
        self._client = client
        self._repository = repository
        self._path = f"/repos/{repository}/hooks"
        self._one_at_a_time = asyncio.Lock()

    async def listed(self) -> list[Hook]:
        """All webhooks of the repository; those of its organization and of the whole server are not among them."""
        found = await read_all(self._client, self._path, {}, doing="read the webhooks")
        return [hook for raw in found if (hook := read_hook(raw)) is not None]

    async def ensure(self, url: str, secret: Secret) -> Finding:
        """See to it that one webhook leads to ``url``, and is well."""
        if not secret:
            return Finding(
                level="error",
                message="no webhook secret is configured",
                impact="calls without a signature are answered with 401",
                remedy="configure a secret for this destination, then run this again",
            )
        async with self._one_at_a_time:
            try:
                ours = [hook for hook in await self.listed() if hook.url == url]
                return await self._ensure(ours, url, secret)
            except PluginError as error:
                if error.status in (403, 404):
                    return _no_right(error, self._repository, url)
                raise

    async def _ensure(self, ours: Sequence[Hook], url: str, secret: Secret) -> Finding:
        if not ours:
            made = await self._send("POST", self._path, create_body(url, secret), "make the webhook")
            return self._result(made, f"webhook {made.number} is made", url)
        hook = ours[0]
        if hook.type not in _PLAIN:
            return Finding(
                level="warning",
                message=f"webhook {hook.number} leads to Pointsman and sends messages for {hook.type}",
                impact="its calls are not understood",
                remedy=f"delete it in the settings of {self._repository} under Webhooks, then run this again",
            )
        if len(ours) > 1:
            numbers = ", ".join(str(one.number) for one in ours[1:])
            return Finding(
                level="warning",
                message=f"{len(ours)} webhooks lead to Pointsman: {hook.number}, {numbers}",
                impact="each change is told more than once",
                remedy=f"delete all but one in the settings of {self._repository} under Webhooks, then run this again",
            )
        faults = hook.faults()
        if not faults:
            return self._result(hook, f"webhook {hook.number} is there", url, secret_known=False)
        path = f"{self._path}/{hook.number}"
        mended = await self._send("PATCH", path, repair_body(hook, url, secret), "mend the webhook")
        said = f"webhook {hook.number} is mended: {', '.join(faults)}"
        return self._result(mended, said, url, secret_known=False)

    async def _send(self, method: str, path: str, body: dict[str, Any], doing: str) -> Hook:
        answer = await self._client.request(method, path, json=body)
        if not answer.ok:
            raise problem(answer, doing)
        raw = answer.json()
        hook = read_hook(raw) if isinstance(raw, dict) else None
        if hook is None:
            raise UnknownOutcome(
                f"could not {doing}: the answer is no webhook", status=answer.status, excerpt=answer.text()
            )
        return hook

    def _result(self, hook: Hook, said: str, url: str, *, secret_known: bool = True) -> Finding:
        if faults := hook.faults():
            return Finding(
                level="warning",
                message=f"{said}, and still {', '.join(faults)}",
                impact="changes are noticed only with the next look at the list of issues",
                remedy=f"set it right in the settings of {self._repository} under Webhooks",
            )
        secret = ""
        if not secret_known:
            secret = (
                "the server neither tells nor changes a webhook's secret: if its calls are answered with 401, enter "
                f"the secret by hand, or delete webhook {hook.number} and run this again"
            )
        trap = delivery_trap(url)
        return Finding(
            level="warning" if trap else "ok",
            message=said,
            impact="the server refuses to call private and loopback addresses, and tells nobody"
            if trap
            else "",
            remedy="; ".join(text for text in (trap, secret) if text),
        )


def delivery_trap(url: str) -> str:
    """What the server's operator has to do before the server calls this address, empty if nothing is in its way.

    A name that looks public and leads to a private address can't be told apart here.
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
    """How a person sets the webhook up."""
    return (
        f"in the settings of {repository}, Webhooks, Add webhook, Forgejo (or Gitea): target URL "
        f"{url or 'as Pointsman shows it'}, POST, content type application/json, the destination's webhook secret, "
        "of the custom events the one for issues opened, closed, reopened or edited, active"
    )


def _no_right(error: PluginError, repository: str, url: str) -> Finding:
    """The webhook can't be seen or made: what a person does instead."""
    if "disabled by administrator" in error.message:
        mend = "the server's operator switches webhooks on (DISABLE_WEBHOOKS of [security] in app.ini)"
    elif scopes_lacking(error.message):
        mend = f"give the token the scope write:repository; or {by_hand(repository, url)}"
    else:
        mend = (
            f"make the account an administrator of {repository} and give the token the scope write:repository; "
            f"or {by_hand(repository, url)}"
        )
    return Finding(
        level="warning",
        message=error.message,
        impact="changes are noticed only with the next look at the list of issues",
        remedy="; ".join(text for text in (mend, delivery_trap(url)) if text),
    )


def _text(raw: Any, key: str) -> str:
    found = raw.get(key) if isinstance(raw, dict) else None
    return found if isinstance(found, str) else ""
