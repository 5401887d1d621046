"""The project's webhook: looked for, made, mended. https://docs.gitlab.com/api/project_webhooks/."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pointsman.plugin_api import ApiClient, Finding, PluginError, Secret, UnknownOutcome
from pointsman.plugin_api.helpers import positive_int
from pointsman_gitlab.errors import problem
from pointsman_gitlab.pages import read_all
from pointsman_gitlab.settings import GitLabSettings
from pointsman_gitlab.webhook_events import SIGNING, signing_key

EVENTS = ("issues_events", "confidential_issues_events")
_LATE = "changes are noticed only with the next look at the list of issues"


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook as GitLab tells it. Its secrets are never told, newer versions say whether there is one."""

    number: int
    url: str
    events: frozenset[str]
    verifies_tls: bool
    status: str
    template: bool
    is_signing: bool | None

    def faults(self) -> list[str]:
        """What keeps its calls from coming, or from being understood."""
        lost = [event for event in EVENTS if event not in self.events]
        found = [f"it does not send {' and '.join(lost)}"] if lost else []
        if self.template:
            found.append("it sends a text of its own (a custom webhook template)")
        if self.status not in ("", "executable"):
            found.append(f"GitLab has stopped it after failures ({self.status})")
        return found


def read_hook(raw: object) -> Hook | None:
    """A webhook out of JSON, None for what is none."""
    found = positive_int(raw, "id")
    if found is None or not isinstance(raw, dict):
        return None
    url, status = raw.get("url"), raw.get("alert_status")
    signing = raw.get("signing_token_present")
    return Hook(
        number=found,
        url=url if isinstance(url, str) else "",
        events=frozenset(key for key, on in raw.items() if on is True),
        verifies_tls=raw.get("enable_ssl_verification") is not False,
        status=status if isinstance(status, str) else "",
        template=bool(raw.get("custom_webhook_template")),
        is_signing=signing if isinstance(signing, bool) else None,
    )


def hook_body(url: str, secret: Secret) -> dict[str, Any]:
    """What makes or mends a webhook. Pushes are sent unless they are switched off; nobody mends a secret unseen."""
    kind = "signing_token" if secret.reveal().startswith(SIGNING) else "token"
    wanted: dict[str, Any] = dict.fromkeys(EVENTS, True)
    return {
        **wanted,
        "url": url,
        "push_events": False,
        "enable_ssl_verification": True,
        kind: secret.reveal(),
    }


class Hooks:
    """The webhooks of one project."""

    def __init__(self, client: ApiClient, settings: GitLabSettings) -> None:
        self._client = client
        self._project = settings.project
        self._path = f"{settings.project_path}/hooks"
        self._one_at_a_time = asyncio.Lock()

    async def listed(self) -> list[Hook]:
        """All webhooks of the project; those of its group are not among them."""
        found = await read_all(self._client, self._path, {}, doing="read the webhooks")
        return [hook for raw in found if (hook := read_hook(raw)) is not None]

    async def ensure(self, url: str, secret: Secret) -> Finding:
        """See to it that one webhook leads to ``url`` with this secret. It is written anew each time: a secret that is
        another one can't be seen.
        """
        words = secret.reveal()
        if not words or (words.startswith(SIGNING) and signing_key(words.encode()) is None):
            return Finding(
                level="error",
                message=f"the webhook's secret is empty, or begins with {SIGNING} and is no signing token",
                impact="its calls can't be told from forged ones",
                remedy=f"set another one in webhook_secrets: any text, or {SIGNING} and 32 random bytes in base64",
            )
        async with self._one_at_a_time:
            try:
                ours = sorted(
                    (one for one in await self.listed() if one.url == url), key=lambda one: one.number
                )
                return await self._ensure(ours, url, secret)
            except PluginError as error:
                if error.status in (400, 403, 404, 422):
                    return self._refused(error, url)
                raise

    async def _ensure(self, ours: Sequence[Hook], url: str, secret: Secret) -> Finding:
        body = hook_body(url, secret)
        if len(ours) > 1:
            numbers = ", ".join(str(one.number) for one in ours[1:])
            return Finding(
                level="warning",
                message=f"{len(ours)} webhooks lead to Pointsman: {ours[0].number}, {numbers}",
                impact="each change is told more than once",
                remedy=f"delete all but one in {self._project}, Settings, Webhooks, then run this again",
            )
        if ours:
            hook = await self._send("PUT", f"{self._path}/{ours[0].number}", body, "mend the webhook")
            return self._result(hook, f"webhook {hook.number} is there, with this secret", body)
        hook = await self._send("POST", self._path, body, "make the webhook")
        return self._result(hook, f"webhook {hook.number} is made", body)

    async def _send(self, method: str, path: str, body: dict[str, Any], doing: str) -> Hook:
        answer = await self._client.request(method, path, json=body)
        if not answer.ok:
            raise problem(answer, doing)
        hook = read_hook(answer.json())
        if hook is None:
            raise UnknownOutcome(f"could not {doing}: the answer is no webhook", status=answer.status)
        return hook

    def _result(self, hook: Hook, said: str, body: dict[str, Any]) -> Finding:
        faults = hook.faults()
        if "signing_token" in body and hook.is_signing is not True:
            faults.append("this GitLab does not sign yet: use a secret that does not begin with whsec_")
        if not faults:
            return Finding(level="ok", message=said)
        return Finding(
            level="warning",
            message=f"{said}, but {', '.join(faults)}",
            impact=_LATE,
            remedy=f"set it right in {self._project}, Settings, Webhooks; a test from there starts a stopped one again",
        )

    def _refused(self, error: PluginError, url: str) -> Finding:
        """The webhook can't be seen or made: what a person does instead."""
        mend = f"make the account a Maintainer of {self._project}; or {by_hand(self._project, url)}"
        if error.status in (400, 422):
            mend = (
                "an address on a private network: GitLab's administrator allows it under Admin, Settings, Network, "
                "Outbound requests"
            )
        return Finding(level="warning", message=error.message, impact=_LATE, remedy=mend)


def by_hand(project: str, url: str = "") -> str:
    """How a person sets the webhook up."""
    return (
        f"in {project}, Settings, Webhooks, Add new webhook: URL {url or 'as Pointsman shows it'}, the destination's webhook "
        "secret as secret token, triggers Issues events and Confidential issues events"
    )
