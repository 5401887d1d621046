"""API calls for the administration of a repository: webhooks, assignees, GitHub Apps."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import secrets
from typing import Any

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from pointsman_github.testing.model import GitHubApp, GitHubHook, GitHubWebhook, stamp
from pointsman_github.testing.state import GitHubState


class GitHubAdministration(GitHubState):
    """Webhooks (https://docs.github.com/en/rest/repos/webhooks) and Apps (https://docs.github.com/en/rest/apps/apps)."""

    def install_app(self, public_key: bytes, **changed: Any) -> GitHubApp:
        """Install an App for the repository."""
        self.app = GitHubApp(public_key, **changed)
        return self.app

    def _may_hook(self, login: str) -> bool:
        if self.app is not None and login == self.app.login:
            return self.app.permissions.get("repository_hooks") == "write"
        return self.may_administer

    def _may_write(self, login: str) -> bool:
        if self.app is not None and login == self.app.login:
            return self.app.permissions.get("issues") == "write"
        return self.may_write_issues

    def _is_app_token(self, credential: str) -> bool:
        ends = self.app_tokens.get(credential)
        return ends is not None and ends > self.now()

    def _page(self, request: web.Request, items: list[dict[str, Any]]) -> web.Response:
        """Return one page of a list, with the header about the rest."""
        page = max(int(request.query.get("page", "1")), 1)
        limit = min(int(request.query.get("per_page", "30")) or 30, self.page_max)
        headers = {}
        if page * limit < len(items):
            following = request.url.update_query(page=page + 1, per_page=limit)
            headers["Link"] = f'<{following}>; rel="next"'
        return web.json_response(items[(page - 1) * limit : page * limit], headers=headers)

    # -- people ------------------------------------------------------------------------------------------------------

    async def _get_assignee(self, request: web.Request) -> web.Response:
        known = {login.lower() for login in self.assignable}
        if request.match_info["login"].lower() in known:
            return web.Response(status=204)
        return error(404, "Not Found")

    async def _get_account(self, request: web.Request) -> web.Response:
        login = request.match_info["login"]
        if login.endswith("[bot]") and (self.app is None or login != self.app.login):
            return error(404, "Not Found")
        return web.json_response(self._user(login))

    # -- webhooks ----------------------------------------------------------------------------------------------------

    async def _get_hooks(self, request: web.Request) -> web.Response:
        return self._page(request, [self._hook(hook) for hook in self.hooks.values()])

    async def _post_hook(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        config = (body or {}).get("config")
        if body is None or not isinstance(config, dict) or not config.get("url"):
            return invalid("url", "custom", resource="Hook", message="url cannot be blank")
        if any(hook.config["url"] == config["url"] for hook in self.hooks.values()):
            return invalid(
                "base", "custom", resource="Hook", message="Hook already exists on this repository"
            )
        self._ids += 1
        hook = GitHubHook(self._ids, {"content_type": "form", "insecure_ssl": "0", **config}, ["push"])
        self.hooks[hook.id] = hook
        self._change_hook(hook, body)
        return web.json_response(self._hook(hook), status=201)

    async def _patch_hook(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        number = request.match_info["id"]
        hook = self.hooks.get(int(number)) if number.isdigit() else None
        if hook is None or body is None:
            return error(404, "Not Found")
        if "config" in body:
            # a secret that is not given again is gone
            hook.config = {"content_type": "form", "insecure_ssl": "0", **body["config"]}
        self._change_hook(hook, body)
        return web.json_response(self._hook(hook))

    async def _get_deliveries(self, request: web.Request) -> web.Response:
        """Return the webhook's calls, newest first, behind a cursor."""
        if request.match_info["id"] not in map(str, self.hooks):
            return error(404, "Not Found")
        end = int(request.query.get("cursor", len(self.webhooks)))
        start = max(end - min(int(request.query.get("per_page", "30")), self.page_max), 0)
        headers = {}
        if start > 0:
            following = request.url.update_query(cursor=start)
            headers["Link"] = f'<{following}>; rel="next"'
        calls = [self._delivery(number) for number in range(start, end)]
        return web.json_response(calls[::-1], headers=headers)

    def _delivery(self, number: int) -> dict[str, Any]:
        call = self.webhooks[number]
        arrived = call.status is not None and call.status < 300
        return {
            "id": 12_000 + number,
            "guid": call.delivery,
            "delivered_at": call.at.astimezone(dt.UTC).isoformat().replace("+00:00", "Z"),
            "redelivery": any(call.delivery == item.delivery for item in self.webhooks[:number]),
            "duration": 0.03,
            "status": "OK" if arrived else f"Invalid HTTP Response: {call.status or 502}",
            "status_code": call.status or 502,
            "event": call.event,
            "action": call.action or None,
            "installation_id": None,
            "repository_id": 7,
        }

    async def _post_attempt(self, request: web.Request) -> web.Response:
        """Repeat the call, in the background."""
        number = int(request.match_info["call"]) - 12_000
        if request.match_info["id"] not in map(str, self.hooks) or not 0 <= number < len(self.webhooks):
            return error(404, "Not Found")
        task = asyncio.create_task(self._repeat(self.webhooks[number]))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return web.json_response({}, status=202)

    async def _repeat(self, call: GitHubWebhook) -> None:
        await self._send(call.event, call.action, call.number, call.body, call.delivery)

    def _change_hook(self, hook: GitHubHook, body: dict[str, Any]) -> None:
        hook.active = body.get("active", hook.active)
        hook.events = list(dict.fromkeys([*body.get("events", hook.events), *body.get("add_events", [])]))
        self.record_effect("hook", str(hook.id), detail=hook.config["url"])
        if hook.active:
            self.webhook_url, self.webhook_secret = hook.config["url"], hook.config.get("secret", "")

    def _hook(self, hook: GitHubHook) -> dict[str, Any]:
        api = f"{self.api}/repos/{self.repository}/hooks/{hook.id}"
        now = stamp(self.now())
        return {
            "type": "Repository",
            "id": hook.id,
            "name": "web",
            "active": hook.active,
            "events": hook.events,
            "config": {
                name: "********" if name == "secret" else value
                for name, value in hook.config.items()
                if name != "secret" or value
            },
            "updated_at": now,
            "created_at": now,
            "url": api,
            "test_url": f"{api}/test",
            "ping_url": f"{api}/pings",
            "deliveries_url": f"{api}/deliveries",
            "last_response": hook.last_response,
        }

    # -- Apps --------------------------------------------------------------------------------------------------------

    async def _get_app(self, _: web.Request) -> web.Response:
        assert self.app is not None
        payload = {
            "id": 1234,
            "slug": self.app.slug,
            "name": "Pointsman",
            "permissions": self.app.permissions,
        }
        return web.json_response(payload)

    async def _post_app_token(self, request: web.Request) -> web.Response:
        assert self.app is not None
        if request.match_info["id"] != self.app.installation_id:
            return error(404, "Not Found")
        if self.app.suspended:
            return error(403, "This installation has been suspended")
        created = f"ghs_{self.app.app_id}_" + secrets.token_urlsafe(self.app.token_characters)
        created = created[: self.app.token_characters]
        self.app_tokens[created] = self.now() + dt.timedelta(seconds=self.app.token_seconds)
        answer = {
            "token": created,
            "expires_at": stamp(self.app_tokens[created]),
            "permissions": self.app.permissions,
            "repository_selection": "selected",
        }
        return web.json_response(answer, status=201)

    def _refused_jwt(self, credential: str) -> web.Response | None:
        """Return why a JWT is refused, None if it is valid.

        https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app
        """
        if self.app is None:
            return error(401, "A JSON web token could not be decoded")
        try:
            signed, _, signature = credential.rpartition(".")
            head, claims = (json.loads(_unpacked(part)) for part in signed.split("."))
            key = serialization.load_pem_public_key(self.app.public_key)
            assert isinstance(key, rsa.RSAPublicKey)
            key.verify(_unpacked(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
            now = self.now().timestamp()
            if head["alg"] != "RS256" or str(claims["iss"]) != self.app.app_id:
                return error(401, "Integration not found")
            if claims["iat"] > now:
                return error(401, "'Issued at' claim ('iat') must be an Integer in the past")
            if not now < claims["exp"] <= now + 600:
                return error(401, "'Expiration time' claim ('exp') is too far in the future")
        except (ValueError, KeyError, TypeError, InvalidSignature):
            return error(401, "A JSON web token could not be decoded")
        return None


def _unpacked(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


# -- answers -----------------------------------------------------------------------------------------------------------


def error(status: int, message: str) -> web.Response:
    """Return an error in the API's format."""
    payload = {"message": message, "documentation_url": "https://docs.github.com/rest", "status": str(status)}
    return web.json_response(payload, status=status)


def invalid(field: str, code: str, **more: str) -> web.Response:
    """Return the 422 of one field: https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api."""
    payload = {
        "message": "Validation Failed",
        "errors": [{"resource": "Issue", "field": field, "code": code, **more}],
        "documentation_url": "https://docs.github.com/rest",
        "status": "422",
    }
    return web.json_response(payload, status=422)


async def json_object(request: web.Request) -> dict[str, Any] | None:
    """Return the request's JSON object, None for anything else."""
    try:
        raw = json.loads(await request.read())
    except ValueError:
        return None
    return raw if isinstance(raw, dict) else None
