"""Registration of the repository's webhook: create it if it is missing, repair it if it has defects.

https://docs.github.com/en/rest/repos/webhooks
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pointsman.plugin_api import (
    ApiClient,
    Finding,
    Misconfigured,
    Refused,
    Response,
    Secret,
    UnknownOutcome,
)
from pointsman.plugin_api.helpers import parse_time, short_text, web_url
from pointsman_github import errors
from pointsman_github.pages import each_object

EVENTS = ("issues", "issue_comment")
_PATH = "/webhooks/github/"
_ELSE = "closing and reopening on GitHub is seen by asking, every 10 minutes, and a deletion not at all"
_CALL_PAGES = 10
_CURSOR = re.compile(r'[?&]cursor=([^&>]+)[^>]*>; rel="next"')
_TRIES = 3
_REPEATS = 50
_UNCOMPARED = (
    "its secret can't be read back: if calls are answered with 401, change anything of it and run this again"
)


def new_body(url: str, secret: Secret) -> dict[str, Any]:
    """Return the body that creates the webhook. Without ``content_type`` GitHub would send a form."""
    return {"name": "web", "active": True, "events": list(EVENTS), "config": _config(url, secret)}


def _config(url: str, secret: Secret, *, insecure_ssl: object = "0") -> dict[str, Any]:
    return {"url": url, "content_type": "json", "secret": secret.reveal(), "insecure_ssl": insecure_ssl}


def defects(hook: Mapping[str, Any]) -> list[str]:
    """Return the differences between a webhook and the one we need."""
    config = _config_of(hook)
    events = _events_of(hook)
    problems = []
    if hook.get("active") is not True:
        problems.append("it is switched off")
    missing = [event for event in EVENTS if not {event, "*"} & events]
    if missing:
        problems.append(f"it leaves out the events {', '.join(missing)}")
    if config.get("content_type") != "json":
        problems.append("its content type is not application/json")
    if not config.get("secret"):
        problems.append("it has no secret")
    return problems


def repair_body(hook: Mapping[str, Any], url: str, secret: Secret) -> dict[str, Any]:
    """Return the body that repairs the webhook and keeps what people added. A configuration without its secret would
    delete the secret.
    """
    config = _config(url, secret, insecure_ssl=_config_of(hook).get("insecure_ssl", "0"))
    body: dict[str, Any] = {"active": True, "config": config}
    events = _events_of(hook)
    if "*" not in events:
        body["events"] = sorted({*events, *EVENTS})
    return body


def _config_of(hook: Mapping[str, Any]) -> Mapping[str, Any]:
    config = hook.get("config")
    return config if isinstance(config, dict) else {}


def _events_of(hook: Mapping[str, Any]) -> set[str]:
    events = hook.get("events")
    return {event for event in events if isinstance(event, str)} if isinstance(events, list) else set()


def failed_calls(calls: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the numbers of the calls to repeat, oldest first; ``calls`` is newest first.

    A call is repeated if none of its attempts arrived and there were not enough of them to give up. Calls about
    events that we do not need are left out.
    """
    tries: dict[str, list[Mapping[str, Any]]] = {}
    for call in calls:
        if isinstance(call.get("guid"), str) and isinstance(call.get("id"), int):
            tries.setdefault(call["guid"], []).append(call)
    failed = [
        int(each[0]["id"])
        for each in tries.values()
        if each[0].get("event") in EVENTS and len(each) < _TRIES and not any(_arrived(call) for call in each)
    ]
    return failed[::-1][:_REPEATS]


def _arrived(call: Mapping[str, Any]) -> bool:
    code = call.get("status_code")
    return isinstance(code, int) and 200 <= code < 300


async def listed(client: ApiClient, repo: str) -> list[dict[str, Any]]:
    """Return the repository's webhooks. Raises Misconfigured with status 403 or 404 if the credential may not see
    them.
    """
    pages = each_object(client, f"{repo}/hooks", {}, doing="list the webhooks")
    return [hook async for hook in pages if isinstance(hook.get("id"), int)]


class Webhooks:
    """The webhooks of one repository; ``web`` is the URL of its page."""

    def __init__(self, client: ApiClient, repo: str, web: str) -> None:
        self._client = client
        self._repo = repo
        self._web = web

    async def ensure(self, url: str, secret: Secret) -> Finding:
        """Create or repair the webhook that calls ``url``. There is never a second one."""
        try:
            ours = await self._ours(url)
            if ours is None:
                response = await self._client.request(
                    "POST", f"{self._repo}/hooks", json=new_body(url, secret)
                )
                if response.ok:
                    return _fine(f"webhook {_id(response)} was made and calls {url}")
                if response.status == 422 and "already exists" in response.text().lower():
                    # another process created it first
                    ours = await self._ours(url)
                if ours is None:
                    raise errors.problem(response, "make the webhook")
            return await self._mended(ours, url, secret)
        except Misconfigured as error:
            if error.status not in (403, 404):
                raise
            return Finding(level="warning", message=error.message, impact=_ELSE, remedy=self._by_hand(url))
        except Refused as error:
            return Finding(
                level="error",
                message=error.message,
                impact=_ELSE,
                remedy="see that POINTSMAN_PUBLIC_URL is an address that GitHub can reach, not one of this machine alone",
            )

    async def redeliver_webhooks(self, url: str, since: dt.datetime) -> int:
        """Have GitHub repeat the calls to ``url`` that failed at ``since`` or later. Return how many it accepted.

        The list is newest first and continues at a cursor. A call keeps its id when it is repeated, so that it is
        known whether one of its attempts arrived. Return 0 if the credential may not see webhooks.

        https://docs.github.com/en/rest/repos/webhooks#list-deliveries-for-a-repository-webhook
        """
        asked = 0
        try:
            hook = await self._ours(url)
            if hook is None or hook.get("active") is not True:
                return 0
            path = f"{self._repo}/hooks/{hook['id']}/deliveries"
            for number in failed_calls(await self._calls(path, since)):
                response = await self._client.request("POST", f"{path}/{number}/attempts")
                if not response.ok:
                    raise errors.problem(response, "have a webhook call repeated")
                asked += 1
        except Misconfigured as error:
            if error.status not in (403, 404):
                raise
        return asked

    async def _calls(self, path: str, since: dt.datetime) -> list[dict[str, Any]]:
        """Return the webhook's calls since then, newest first."""
        calls: list[dict[str, Any]] = []
        params: dict[str, str | int] = {"per_page": 100}
        for _ in range(_CALL_PAGES):
            response = await self._client.request("GET", path, params=params)
            if not response.ok:
                raise errors.problem(response, "list the webhook's calls")
            page = response.json()
            for call in page if isinstance(page, list) else ():
                delivered_at = parse_time(call.get("delivered_at")) if isinstance(call, dict) else None
                if delivered_at is not None and delivered_at < since:
                    return calls
                if delivered_at is not None:
                    calls.append(call)
            cursor = _CURSOR.search(response.headers.get("link", ""))
            if cursor is None:
                return calls
            params = {"per_page": 100, "cursor": cursor[1]}
        return calls

    async def _ours(self, url: str) -> dict[str, Any] | None:
        matching = [
            hook for hook in await listed(self._client, self._repo) if _config_of(hook).get("url") == url
        ]
        return min(matching, key=lambda hook: (hook.get("active") is not True, int(hook["id"])), default=None)

    async def _mended(self, hook: dict[str, Any], url: str, secret: Secret) -> Finding:
        wrong = defects(hook)
        if not wrong:
            return _fine(f"webhook {hook['id']} calls {url}; {_UNCOMPARED}")
        body = repair_body(hook, url, secret)
        response = await self._client.request("PATCH", f"{self._repo}/hooks/{hook['id']}", json=body)
        if not response.ok:
            raise errors.problem(response, "mend the webhook")
        left = defects(_object(response))
        if left:
            raise UnknownOutcome(
                f"GitHub took the change of the webhook, and yet {left[0]}", status=response.status
            )
        return _fine(f"webhook {hook['id']} calls {url} again: {', '.join(wrong)}; its secret was set anew")

    def _by_hand(self, url: str) -> str:
        return (
            "give the token Webhooks: read and write (a classic one: admin:repo_hook, of an account with the role Admin)"
            f" and run this again; or let somebody with the role Admin open {self._web}/settings/hooks and make or"
            f" mend the one webhook with: Payload URL {url}; Content type application/json; Secret: the one in the"
            " destination's webhook_secrets; Enable SSL verification; Let me select individual events: Issues and"
            " Issue comments, no other; Active"
        )


def _id(response: Response) -> int:
    number = _object(response).get("id")
    if not isinstance(number, int):
        raise UnknownOutcome("GitHub took the webhook and answered without its id", status=response.status)
    return number


def _object(response: Response) -> dict[str, Any]:
    raw = response.json()
    return raw if isinstance(raw, dict) else {}


def _fine(message: str) -> Finding:
    return Finding(level="ok", message=message)


# -- looking at them -----------------------------------------------------------------------------------------------------


def findings(hooks: Sequence[Mapping[str, Any]], page: str, *, is_app: bool, url: str = "") -> list[Finding]:
    """Return the findings about the webhooks that lead to ``url``, or to any Pointsman if it is empty, and about
    their last call.
    """
    ours = [hook for hook in hooks if _is_ours(hook, url)]
    if not ours:
        beside = "; an App's own webhook is not among those that can be seen here" if is_app else ""
        return [
            Finding(
                level="ok" if is_app else "warning",
                message=f"no webhook of the repository leads to Pointsman{beside}",
                impact=_ELSE,
                remedy="let Pointsman make it with `pointsman doctor --ensure-webhook`, or follow the plugin's README",
            )
        ]
    return [_finding(hook, page) for hook in ours]


def _is_ours(hook: Mapping[str, Any], url: str) -> bool:
    return _config_of(hook).get("url") == url if url else _PATH in urlsplit(_url(hook)).path


def _finding(hook: Mapping[str, Any], page: str) -> Finding:
    name = f"webhook {hook.get('id')} to {urlsplit(_url(hook)).netloc}"
    wrong = defects(hook)
    remedy = f"run `pointsman doctor --ensure-webhook`, or mend it at {page}/{hook.get('id')}"
    last = hook.get("last_response")
    code = last.get("code") if isinstance(last, dict) else None
    if isinstance(last, dict) and isinstance(code, int) and not 200 <= code < 300:
        text = short_text(last.get("message"), 200)
        wrong.append(f"its last call was answered {code}" + (f" ({text})" if text else ""))
        if len(wrong) == 1:
            remedy = f"{_cure(code)}; then redeliver the call at {page}/{hook.get('id')}"
    if not wrong:
        called = "its last call arrived" if isinstance(code, int) else "it was not called yet"
        return Finding(level="ok", message=f"{name} is in order; {called}")
    return Finding(level="warning", message=f"{name}: {', '.join(wrong)}", impact=_ELSE, remedy=remedy)


def _cure(code: int) -> str:
    if code == 401:
        return "set the same secret there and in the destination's webhook_secrets"
    if code == 404:
        return "compare its address with the destination's, slug included"
    return "see that GitHub can reach Pointsman under that address, with a valid certificate"


def _url(hook: Mapping[str, Any]) -> str:
    return web_url(_config_of(hook).get("url"))
