"""Actions of people on the server, and the webhooks that it sends."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import urllib.parse
import uuid
from typing import Any

import aiohttp

from pointsman_forgejo.testing.state import (
    ForgejoComment,
    ForgejoHook,
    ForgejoIssue,
    ForgejoState,
    ForgejoWebhook,
)


class ForgejoPeople(ForgejoState):
    """Actions of people, and the webhooks that follow."""

    # -- what a person does ------------------------------------------------------------------------------------------

    async def open_issue(
        self, title: str, body: str = "", *, by: str = "dev", is_pull: bool = False, send: bool = True
    ) -> int:
        """Open an issue (or a pull request), as a person; return its number."""
        issue = self._add_issue(title, body, by, is_pull=is_pull)
        if not is_pull:
            await self._call(issue, "opened", by, send=send)
        return issue.number

    async def close_issue(
        self,
        number: int,
        reason: str | None = None,  # noqa: ARG002 - Forgejo has none; all fakes are used alike
        *,
        by: str = "dev",
        send: bool = True,
    ) -> int | None:
        """Close an issue, as a person; return the status of the webhook's response, None if there was none."""
        self._set_state(self.issues[number], "closed")
        return await self._call(self.issues[number], "closed", by, send=send)

    async def reopen_issue(self, number: int, *, by: str = "dev", send: bool = True) -> int | None:
        """Reopen an issue, as a person; return the status of the webhook's response."""
        self._set_state(self.issues[number], "open")
        return await self._call(self.issues[number], "reopened", by, send=send)

    async def comment(self, number: int, text: str, *, by: str = "dev", send: bool = True) -> int | None:
        """Comment, as a person; return the status of the webhook's response."""
        created = self._add_comment(self.issues[number], text, by)
        return await self._call(self.issues[number], "created", by, send=send, comment=created)

    async def edit_issue(
        self,
        number: int,
        *,
        title: str | None = None,
        body: str | None = None,
        by: str = "dev",
        send: bool = True,
    ) -> int | None:
        """Edit an issue, as a person; return the status of the webhook's response."""
        issue = self.issues[number]
        issue.title = issue.title if title is None else title
        issue.body = issue.body if body is None else body
        issue.updated_at = self.now()
        return await self._call(issue, "edited", by, send=send)

    def delete_issue(self, number: int) -> None:
        """Delete an issue, as a person. No webhook is sent; see ``delete_issue_aloud`` for newer Gitea."""
        del self.issues[number]

    async def delete_issue_aloud(self, number: int, *, by: str = "dev") -> int | None:
        """Delete an issue at a newer Gitea, which sends a webhook; return the status of its response."""
        return await self._call(self.issues.pop(number), "deleted", by)

    def rename_repository(self, repository: str) -> None:
        """Rename the repository; the old name is redirected with 307."""
        self._former_names.add(self.repository)
        self.repository = repository

    async def replay(self, webhook: ForgejoWebhook) -> int | None:
        """Replay a webhook call by hand: the same body with a new id."""
        return await self._send(webhook.event, webhook.action, webhook.number, webhook.body)

    async def press_test(self, hook: int) -> int | None:
        """Press the test button: a push is sent, whatever the webhook is subscribed to."""
        body = json.dumps({"ref": "refs/heads/main", "repository": self._repository()}).encode()
        return await self._post(self.hooks[hook], "push", "push", "", 0, body)

    async def webhooks_sent(self) -> None:
        """Wait for webhook calls in the background."""
        while self._sending:
            await asyncio.gather(*self._sending)

    async def __aexit__(self, *args: object) -> None:
        await self.webhooks_sent()
        await super().__aexit__(*args)

    # -- webhooks ----------------------------------------------------------------------------------------------------

    async def _call(
        self,
        issue: ForgejoIssue,
        action: str,
        by: str,
        *,
        send: bool = True,
        event_type: str = "",
        comment: ForgejoComment | None = None,
    ) -> int | None:
        """Make the webhook call for an action."""
        event, body = self._news(issue, action, by, comment)
        if not send:
            return None
        return await self._send(event, action, issue.number, body, event_type=event_type)

    def _news(
        self, issue: ForgejoIssue, action: str, by: str, comment: ForgejoComment | None = None
    ) -> tuple[str, bytes]:
        payload: dict[str, Any] = {
            "action": action,
            "number": issue.number,
            "issue": self._issue(issue),
            "repository": self._repository(),
            "sender": self._user(by),
            "commit_id": "",
        }
        if comment is None:
            return "issues", json.dumps(payload, indent=2).encode()
        del payload["number"], payload["commit_id"]
        payload |= {"comment": self._comment(issue, comment), "is_pull": issue.is_pull}
        return "issue_comment", json.dumps(payload, indent=2).encode()

    def _targets(self, event_type: str) -> list[ForgejoHook]:
        """Return the webhooks that are subscribed: the one a test set by ``webhook_url``, and those created by the
        API.
        """
        plain = [ForgejoHook(0, self.webhook_url, self.webhook_secret)] if self.webhook_url else []
        return plain + [hook for hook in self.hooks.values() if hook.active and event_type in hook.events]

    async def _send(
        self, event: str, action: str, number: int, body: bytes, *, event_type: str = ""
    ) -> int | None:
        """Send to all subscribed webhooks; return the last response's status."""
        status = None
        for hook in self._targets(event_type or event):
            status = await self._post(hook, event, event_type or event, action, number, body)
        return status

    async def _post(
        self, hook: ForgejoHook, event: str, event_type: str, action: str, number: int, payload: bytes
    ) -> int | None:
        """Sign and send. The signature covers the payload even where the body is a form around it."""
        secret = hook.secret.encode()
        sha256 = hmac.new(secret, payload, hashlib.sha256).hexdigest() if secret else ""
        sha1 = hmac.new(secret, payload, hashlib.sha1).hexdigest() if secret else ""
        headers = {"X-Hub-Signature": f"sha1={sha1}", "X-Hub-Signature-256": f"sha256={sha256}"}
        if hook.authorization:
            headers["Authorization"] = hook.authorization
        body = payload
        if hook.content_type == "form":
            body = urllib.parse.urlencode({"payload": payload.decode()}).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        delivery = str(uuid.uuid4())
        for brand in ("Forgejo", "Gitea", "Gogs", "GitHub"):
            if brand == "Forgejo" and self.brand != "forgejo":
                continue
            headers[f"X-{brand}-Delivery"] = delivery
            headers[f"X-{brand}-Event"] = event
            headers[f"X-{brand}-Event-Type"] = event_type
            if brand != "GitHub":
                headers[f"X-{brand}-Signature"] = sha256
        sent = ForgejoWebhook(event, action, number, headers, body)
        self.webhooks.append(sent)
        try:
            async with asyncio.timeout(self.webhook_seconds):
                sent.status = await self.post_webhook(hook.url, body, headers)
        except (aiohttp.ClientError, TimeoutError):
            return None
        return sent.status

    def _echo(
        self, issue: ForgejoIssue, *news: tuple[str, str], comment: ForgejoComment | None = None
    ) -> None:
        """Send the webhook calls that an API call causes, one after the other in the background."""
        if not self.echo:
            return
        calls = [(action, kind, *self._news(issue, action, self.bot, comment)) for action, kind in news]

        async def send() -> None:
            for action, kind, event, body in calls:
                await self._send(event, action, issue.number, body, event_type=kind)

        task = asyncio.create_task(send())
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
