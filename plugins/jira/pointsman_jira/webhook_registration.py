"""Registration of the webhook in Jira: create or repair it, or describe the steps for an administrator.

Of the webhooks available with an API token only admin webhooks are signed with a secret, and only administrators may
register them:
https://developer.atlassian.com/cloud/jira/platform/webhooks/#registering-a-webhook-using-the-jira-rest-api--other-integrations-
"""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import urlsplit

from pointsman.plugin_api import ApiClient, Finding, PluginError, Response, Secret, UnknownOutcome
from pointsman_jira import errors, wire
from pointsman_jira.settings import JiraSettings
from pointsman_jira.webhook_events import COMMENTS, GONE, SEEN

EVENTS = (*SEEN, GONE, *COMMENTS)
_PATH = "/rest/webhooks/1.0/webhook"
_FILTER = "issue-related-events-section"
_BREAKS = "changes in Jira are noticed only when Pointsman asks, every ten minutes"


async def ensure(settings: JiraSettings, client: ApiClient, url: str, secret: Secret) -> Finding:
    """Create or repair the one webhook that calls ``url`` with our events, our project and this secret."""
    if not secret:
        return _by_hand(
            settings, url, "the destination has no webhook secret, and calls without one are refused"
        )
    if not settings.is_cloud:
        why = "on Data Center it is made by hand, and only a version that signs its calls (it has a field Secret) will do"
        return _by_hand(settings, url, why)
    if urlsplit(url).scheme != "https":
        return _by_hand(settings, url, "Jira calls https addresses only, and this is none")
    try:
        return await _ensure(settings, client, url, secret)
    except PluginError as error:
        return _by_hand(settings, url, error.message)


async def _ensure(settings: JiraSettings, client: ApiClient, url: str, secret: Secret) -> Finding:
    response = await client.request("GET", _PATH)
    hooks = _must(response, "the webhooks could not be read").json()
    if not isinstance(hooks, list):
        raise UnknownOutcome("the webhooks could not be read: the answer is no list")
    ours = sorted((hook for hook in hooks if wire.text_at(hook, "url") == url), key=_number)
    wanted: dict[str, Any] = {
        "name": f"Pointsman {settings.project}",
        "url": url,
        "events": list(EVENTS),
        "filters": {_FILTER: f"project = {wire.quoted(settings.project)}"},
        "excludeBody": False,
        "enabled": True,
        "secret": secret.reveal(),
    }
    if not ours:
        _must(await client.request("POST", _PATH, json=wanted), "the webhook was not made")
        return Finding(level="ok", message=f"the webhook was made: Jira calls {url}")
    there, *duplicates = ours
    if wire.text_at(there, "name"):
        wanted["name"] = there["name"]
    if wire.text_at(there, "filters", _FILTER).strip() in {"", f"project = {settings.project}"}:
        wanted["filters"] = wire.at(there, "filters") or {}  # all issues, or the same in a person's words
    wrong = _wrong(there, wanted)
    # No response shows the secret, so it is always written again.
    _must(await client.request("PUT", f"{_PATH}/{_number(there)}", json=wanted), "the webhook was not mended")
    if duplicates:
        numbers = ", ".join(str(_number(hook)) for hook in duplicates)
        return Finding(
            level="warning",
            message=f"{len(ours)} webhooks call {url}",
            impact="Jira calls more often than needed, and with other secrets in vain",
            remedy=f"in Jira, System > WebHooks, delete all but number {_number(there)}: {numbers}",
        )
    return Finding(
        level="ok", message=f"the webhook was mended: {', '.join(wrong)}" if wrong else "the webhook is there"
    )


def _must(response: Response, message: str) -> Response:
    if response.ok:
        return response
    raise errors.problem(response, message, now=dt.datetime.now(dt.UTC))


def _number(hook: Any) -> int:
    """Return a webhook's number, the end of the URL that names it."""
    number = wire.text_at(hook, "self").rstrip("/").rpartition("/")[2]
    if not (number.isascii() and number.isdigit() and len(number) < 20):
        raise UnknownOutcome("the webhooks could not be read: one has no number")
    return int(number)


def _wrong(there: Any, wanted: dict[str, Any]) -> list[str]:
    wrong = []
    if not set(wanted["events"]) <= {str(event) for event in wire.items_at(there, "events")}:
        wrong.append("it lacked events")
    if wire.text_at(there, "filters", _FILTER) != wire.text_at(wanted, "filters", _FILTER):
        wrong.append("it had another filter")
    if wire.at(there, "excludeBody") is True:
        wrong.append("it sent no bodies")
    if wire.at(there, "enabled") is False:
        wrong.append("it was switched off")
    if wire.at(there, "isSigned") is False:
        wrong.append("it had no secret")
    return wrong


def _by_hand(settings: JiraSettings, url: str, why: str) -> Finding:
    """Return the finding with all steps for an administrator."""
    return Finding(
        level="warning",
        message=f"the webhook is not set: {why}",
        impact=_BREAKS,
        remedy=(
            "ask a Jira administrator to make it under System > WebHooks:"
            f" URL {url};"
            " Secret: the destination's webhook secret, the same on both sides;"
            f" Events: {', '.join(EVENTS)};"
            f" JQL filter: project = {settings.project}; Exclude body: no"
        ),
    )
