"""Registration of the project's webhook. https://docs.gitlab.com/api/project_webhooks/."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pointsman.plugin_api import ApiClient, Finding, PluginError, Secret, UnknownOutcome
from pointsman.plugin_api.helpers import WebhookRegistration, positive_int, text_at
from pointsman_gitlab.errors import problem
from pointsman_gitlab.pages import read_all
from pointsman_gitlab.settings import GitLabSettings
from pointsman_gitlab.webhook_events import SIGNING, signing_key

EVENTS = ("issues_events", "confidential_issues_events")
_IMPACT = "changes are noticed only with the next look at the list of issues"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook as GitLab describes it. Its secrets are never shown; newer versions say whether there is one."""

    number: int
    url: str
    events: frozenset[str]
    verifies_tls: bool
    status: str
    template: bool
    is_signing: bool | None

    def defects(self) -> list[str]:
        """Return what keeps its calls from arriving or from being understood."""
        missing = [event for event in EVENTS if event not in self.events]
        defects = [f"it does not send {' and '.join(missing)}"] if missing else []
        if self.template:
            defects.append("it sends a text of its own (a custom webhook template)")
        if self.status not in ("", "executable"):
            defects.append(f"GitLab has stopped it after failures ({self.status})")
        return defects


def read_webhook(raw: object) -> Webhook | None:
    """Return a webhook from GitLab's JSON, None if it is none."""
    number = positive_int(raw, "id")
    if number is None or not isinstance(raw, dict):
        return None
    signing = raw.get("signing_token_present")
    return Webhook(
        number=number,
        url=text_at(raw, "url"),
        events=frozenset(key for key, value in raw.items() if value is True),
        verifies_tls=raw.get("enable_ssl_verification") is not False,
        status=text_at(raw, "alert_status"),
        template=bool(raw.get("custom_webhook_template")),
        is_signing=signing if isinstance(signing, bool) else None,
    )


def webhook_body(url: str, secret: Secret) -> dict[str, Any]:
    """Return the body that creates or repairs a webhook. Pushes are sent unless they are switched off."""
    token_field = "signing_token" if secret.reveal().startswith(SIGNING) else "token"
    events: dict[str, Any] = dict.fromkeys(EVENTS, True)
    return {
        **events,
        "url": url,
        "push_events": False,
        "enable_ssl_verification": True,
        token_field: secret.reveal(),
    }


class Webhooks(WebhookRegistration[Webhook]):
    """The webhooks of one project; those of its group are not among them."""

    def __init__(self, client: ApiClient, settings: GitLabSettings) -> None:
        super().__init__(f"{settings.project}, Settings, Webhooks")
        self._client = client
        self._project = settings.project
        self._path = f"{settings.project_path}/hooks"

    async def read_all(self) -> list[Webhook]:
        """Return all webhooks of the project."""
        objects = await read_all(self._client, self._path, {}, doing="read the webhooks")
        return [webhook for raw in objects if (webhook := read_webhook(raw)) is not None]

    async def ensure(self, url: str, secret: Secret) -> Finding:
        """Create or repair the one webhook that calls ``url``."""
        text = secret.reveal()
        if not text or (text.startswith(SIGNING) and signing_key(text.encode()) is None):
            return Finding(
                level="error",
                message=f"the webhook's secret is empty, or begins with {SIGNING} and is no signing token",
                impact="its calls can't be told from forged ones",
                remedy=f"set another one in webhook_secrets: any text, or {SIGNING} and 32 random bytes in base64",
            )
        return await super().ensure(url, secret)

    async def create(self, url: str, secret: Secret) -> Finding:
        """Create the webhook."""
        body = webhook_body(url, secret)
        webhook = await self._send("POST", self._path, body, "make the webhook")
        return self._result(webhook, f"webhook {webhook.number} is made", body)

    async def repair(self, webhook: Webhook, url: str, secret: Secret) -> Finding:
        """Write the webhook anew: whether it has another secret can't be seen."""
        body = webhook_body(url, secret)
        repaired = await self._send("PUT", f"{self._path}/{webhook.number}", body, "mend the webhook")
        return self._result(repaired, f"webhook {repaired.number} is there, with this secret", body)

    async def _send(self, method: str, path: str, body: dict[str, Any], doing: str) -> Webhook:
        response = await self._client.request(method, path, json=body)
        if not response.ok:
            raise problem(response, doing)
        webhook = read_webhook(response.json())
        if webhook is None:
            raise UnknownOutcome(f"could not {doing}: the answer is no webhook", status=response.status)
        return webhook

    def _result(self, webhook: Webhook, message: str, body: dict[str, Any]) -> Finding:
        defects = webhook.defects()
        if "signing_token" in body and webhook.is_signing is not True:
            defects.append("this GitLab does not sign yet: use a secret that does not begin with whsec_")
        if not defects:
            return Finding(level="ok", message=message)
        return Finding(
            level="warning",
            message=f"{message}, but {', '.join(defects)}",
            impact=_IMPACT,
            remedy=f"set it right in {self._settings_page}; a test from there starts a stopped one again",
        )

    def explain(self, error: PluginError, url: str) -> Finding | None:
        """Return what a person does where the account may not read or create webhooks."""
        if error.status not in (400, 403, 404, 422):
            return None
        remedy = f"make the account a Maintainer of {self._project}; or {by_hand(self._project, url)}"
        if error.status in (400, 422):
            remedy = (
                "an address on a private network: GitLab's administrator allows it under Admin, Settings, Network, "
                "Outbound requests"
            )
        return Finding(level="warning", message=error.message, impact=_IMPACT, remedy=remedy)


def by_hand(project: str, url: str = "") -> str:
    """Return how a person creates the webhook."""
    return (
        f"in {project}, Settings, Webhooks, Add new webhook: URL {url or 'as Pointsman shows it'}, the destination's webhook "
        "secret as secret token, triggers Issues events and Confidential issues events"
    )
