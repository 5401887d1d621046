"""The tracker kind ``forgejo``: one repository on a Forgejo or Gitea server."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, ClassVar

from pointsman.plugin_api import (
    Actor,
    ApiClient,
    CloseReason,
    CommentRef,
    Connection,
    Draft,
    Finding,
    IssueRef,
    IssueRemoved,
    IssueState,
    Marker,
    Misconfigured,
    NotFound,
    Quota,
    Response,
    Secret,
    State,
    Tracker,
    TrackerCapabilities,
    Unavailable,
    UnknownOutcome,
    WebhookEvent,
)
from pointsman.plugin_api.helpers import (
    find_markers,
    format_time,
    number_in_path,
    parse_time,
    unexpected_response,
)
from pointsman_forgejo import checks, webhook_events, wire
from pointsman_forgejo.doctor import Doctor
from pointsman_forgejo.errors import message_of, problem
from pointsman_forgejo.labels import Labels
from pointsman_forgejo.pages import each_object
from pointsman_forgejo.settings import ForgejoSettings
from pointsman_forgejo.webhook_registration import Webhooks

__all__ = ["ForgejoSettings", "ForgejoTracker"]

_MOST_PAGES = 1000


class ForgejoTracker(Tracker[ForgejoSettings]):
    """Issues of one repository, by API version 1: https://forgejo.org/docs/latest/user/api-usage/."""

    kind: ClassVar[str] = "forgejo"
    title: ClassVar[str] = "Forgejo"
    api_version: ClassVar[int] = 1
    Settings = ForgejoSettings
    capabilities = TrackerCapabilities(
        webhooks=True,
        find=True,
        read_issue=True,
        own_account=True,
        update_issue=True,
        delete_comment=True,
        check=True,
        ensure_webhook=True,
        list_changes=True,
        close_reasons=False,
        settle_seconds=(30.0,),
        # Forgejo has no limit of its own and Codeberg publishes none: an initial value, lowered after a 429
        quotas=(Quota("all", 300, 60.0),),
    )

    def __init__(self, settings: ForgejoSettings, client: ApiClient) -> None:
        super().__init__(settings, client)
        self._repo = f"/repos/{settings.repository}"
        self._labels = Labels(client, settings.repository, create=settings.create_labels)
        self._hooks = Webhooks(client, settings.repository)
        self._account: tuple[int, str] | None = None

    @classmethod
    def connection(cls, settings: ForgejoSettings) -> Connection:
        """Return the server's API. Old versions accept ``token`` in lower case only. Some refusals come in the
        requested language, and this plugin reads them in English.
        """
        base = settings.url.rstrip("/").removesuffix("/api/v1").rstrip("/")
        return Connection(
            base_url=f"{base}/api/v1",
            headers={
                "Authorization": Secret(f"token {settings.token.reveal().strip()}"),
                "Accept": Secret("application/json"),
                "Accept-Language": Secret("en-US"),
                "User-Agent": Secret("pointsman"),
            },
        )

    # -- writing ---------------------------------------------------------------------------------------------------

    async def create_issue(self, draft: Draft) -> IssueRef:
        """Create an issue, without what the server refuses: the notes of the result say what that was."""
        names = wire.label_names(self.settings.labels, draft.labels)
        labels = await self._labels.resolve(names)
        body = wire.issue_body(draft, list(labels.ids.values()), self.settings.assignees)
        response, refused = await self._post_issue(body)
        if not response.ok:
            raise problem(response, "create an issue", sent=body)
        raw = response.json()
        ref = wire.issue_ref(raw)
        if ref is None:
            raise UnknownOutcome(
                "the server took the issue and answered without its number",
                status=response.status,
                excerpt=response.text(),
                is_json=True,
            )
        notes = [*wire.notes_of_draft(draft), *labels.notes, *refused, *self._dropped(raw, body, labels.ids)]
        return IssueRef(ref.remote_id, ref.key, ref.url, notes=tuple(notes))

    async def _post_issue(self, body: dict[str, Any]) -> tuple[Response, list[str]]:
        """Create the issue; if assignees are refused (422: nothing was created), try once without them. Return what
        was left out.
        """
        path = f"{self._repo}/issues"
        response = await self.client.request("POST", path, json=body)
        refused: list[str] = []
        while response.status == 422 and body.get("assignees"):
            kept = [] if refused else await self._assignable(body["assignees"])
            if len(kept) == len(body["assignees"]):
                kept = []
            why = message_of(response) or "the server refused"
            refused += [f"not assigned to {login}: {why}" for login in body["assignees"] if login not in kept]
            body["assignees"] = kept
            response = await self.client.request("POST", path, json=body)
        return response, refused

    async def _assignable(self, logins: Sequence[str]) -> list[str]:
        """Return the logins that can be assigned, none if the server does not say."""
        known = checks.read_list(await self.client.request("GET", f"{self._repo}/assignees"))
        return [login for login in logins if login.casefold() in wire.logins(known or [])]

    def _dropped(self, raw: object, body: Mapping[str, Any], label_ids: Mapping[str, int]) -> list[str]:
        """Return notes about what the server silently left out: it answers 201 all the same."""
        notes = []
        if lost := wire.dropped_labels(raw, label_ids):
            self._labels.forget()
            notes.append(
                f"the server dropped the labels {', '.join(lost)}: the account may not write to "
                f"{self.settings.repository}, or they were deleted meanwhile"
            )
        if lost := wire.dropped_assignees(raw, body.get("assignees", ())):
            notes.append(
                f"the server dropped the assignees {', '.join(lost)}: the account may not write to "
                f"{self.settings.repository}"
            )
        if wire.title_differs(raw, body["title"]):
            notes.append("the server cut the title")
        return notes

    async def add_comment(self, issue: IssueRef, body: str, marker: Marker) -> CommentRef:
        """Add a comment."""
        path = f"{self._at(issue)}/comments"
        response = await self._about("POST", path, "comment", json=wire.comment_body(body, marker))
        ref = wire.comment_ref(response.json())
        if ref is None:
            raise unexpected_response(response, "comment")
        return ref

    async def delete_comment(self, issue: IssueRef, comment: CommentRef) -> None:
        """Delete a comment. The path does not contain its issue."""
        number = number_in_path(comment.remote_id, "comment")
        del issue
        await self._about("DELETE", f"{self._repo}/issues/comments/{number}", "delete the comment")

    async def set_state(self, issue: IssueRef, state: State, reason: CloseReason | None) -> IssueState:  # noqa: ARG002
        """Close or reopen. Forgejo stores no reasons; an issue that is already in that state is not changed."""
        doing = "close the issue" if state == "closed" else "reopen the issue"
        seen = await self._edit(issue, wire.state_body(state), doing)
        if seen.state != state:
            raise UnknownOutcome(f"could not {doing}: the server took it and says the issue is {seen.state}")
        return seen

    async def update_issue(self, issue: IssueRef, draft: Draft) -> None:
        """Replace title and body, the marker included."""
        await self._edit(issue, wire.edit_body(draft), "edit the issue")

    async def _edit(self, issue: IssueRef, body: Mapping[str, Any], doing: str) -> IssueState:
        """Change an issue and return its new state. An edit is answered with 201, unlike elsewhere."""
        response = await self._about("PATCH", self._at(issue), doing, json=body)
        seen = wire.issue_state(response.json())
        if seen is None or seen.ref.remote_id != issue.remote_id:
            raise unexpected_response(response, doing)
        return seen

    # -- reading ---------------------------------------------------------------------------------------------------

    async def read_issue(self, issue: IssueRef) -> IssueState:
        """Return the present state of the issue."""
        response = await self._about("GET", self._at(issue), "read the issue")
        raw = response.json()
        seen = wire.issue_state(raw)
        if seen is None and wire.issue_ref(raw) is not None:
            raise NotFound(f"{issue.key} is a pull request", status=response.status, excerpt=response.text())
        if seen is None or seen.ref.remote_id != issue.remote_id:
            raise unexpected_response(response, "read the issue")
        return seen

    async def find_issue(self, marker: Marker, since: dt.datetime) -> Sequence[IssueRef]:
        """Return our own account's issues that contain the marker, oldest first.

        The list without a keyword (``q``) is read from the database; with a keyword it would come from a search index
        that lags behind. ``since`` means the last change there, which is never before the creation. The list is read
        newest first, so that reading can stop at the first issue created before ``since``, unless the server orders
        it otherwise.
        """
        account, login = await self._me()
        first = since.astimezone(dt.UTC).replace(microsecond=0)
        params: dict[str, str | int] = {"created_by": login, "since": format_time(since), "sort": "latest"}
        refs: dict[IssueRef, None] = {}
        newest_first = wire.DescendingNumbers()
        try:
            async with contextlib.aclosing(self._issues(params, "look for the issue")) as listed:
                async for raw in listed:
                    ref = wire.issue_ref(raw)
                    created_at = parse_time(raw.get("created_at"))
                    if newest_first.holds_with(ref) and created_at is not None and created_at < first:
                        break
                    by_us = wire.author_id(raw) == account
                    if ref is not None and by_us and marker.text in find_markers(raw.get("body")):
                        refs[ref] = None
        except Misconfigured as error:
            if error.status == 404:
                self._account = None  # the account's login may have changed
            raise
        return sorted(refs, key=lambda ref: int(ref.remote_id))

    async def find_comment(self, issue: IssueRef, marker: Marker, since: dt.datetime) -> Sequence[CommentRef]:
        """Return our own account's comments on the issue that contain the marker, oldest first. This list has no
        pages.
        """
        account, _ = await self._me()
        params = {"since": format_time(since)}
        path = f"{self._at(issue)}/comments"
        response = await self._about("GET", path, "look for the comment", params=params)
        comments = response.json()
        if not isinstance(comments, list) or not all(isinstance(raw, dict) for raw in comments):
            raise UnknownOutcome(
                "could not look for the comment: the answer is no list of objects", status=response.status
            )
        refs = [
            ref
            for raw in comments
            if wire.author_id(raw) == account
            and marker.text in find_markers(raw.get("body"))
            and (ref := wire.comment_ref(raw)) is not None
        ]
        return sorted(refs, key=lambda ref: int(ref.remote_id))

    async def list_changes(self, since: dt.datetime) -> Sequence[IssueState | IssueRemoved]:
        """Return the present states of issues changed since then. Deleted issues leave no trace in the list.

        The list is ordered by time of creation, newest first: an issue that changes while the pages are read appears
        twice at worst and is never skipped.
        """
        params: dict[str, str | int] = {"since": format_time(since)}
        latest: dict[str, IssueState] = {}
        async for raw in self._issues(params, "list changed issues"):
            if (seen := wire.issue_state(raw)) is not None:
                latest[seen.ref.remote_id] = seen
        return sorted(latest.values(), key=lambda seen: (seen.version or since, int(seen.ref.remote_id)))

    async def _issues(self, params: dict[str, str | int], doing: str) -> AsyncGenerator[dict[str, Any], None]:
        """Yield issues in any state. Without ``state`` the list would contain only open issues, without ``type`` pull
        requests too.
        """
        every: dict[str, str | int] = {"state": "all", "type": "issues", **params}
        pages = each_object(self.client, f"{self._repo}/issues", every, doing=doing, max_pages=_MOST_PAGES)
        async with contextlib.aclosing(pages) as listed:
            async for raw in listed:
                if raw.get("pull_request") is None:
                    yield raw

    async def _me(self) -> tuple[int, str]:
        """Return id and login of the token's account, requested once."""
        if self._account is None:
            response = await self.client.request("GET", "/user")
            if not response.ok:
                raise problem(response, "read our own account")
            raw = response.json()
            number = wire.author_id({"user": raw})
            login = raw.get("login") if isinstance(raw, dict) else None
            if number is None or not isinstance(login, str) or not login:
                raise Misconfigured("the server does not say who we are: check `url`", status=response.status)
            self._account = number, login
        return self._account

    async def own_account(self) -> Actor:
        """Return the account of the token."""
        number, login = await self._me()
        return Actor(str(number), login)

    async def _about(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
    ) -> Response:
        """Send one request about an existing issue.

        A 404 needs a second look: the server sends it for a deleted issue, but also when the repository is hidden or
        its issues are switched off, and then the issue comes back.
        """
        response = await self.client.request(method, path, params=params, json=json)
        if response.status == 404:
            raise problem(response, doing, issue=await self._shows_issues(doing))
        if not response.ok:
            raise problem(response, doing, issue=True)
        return response

    async def _shows_issues(self, doing: str) -> bool:
        """Return whether the repository and its issues are visible to us."""
        try:
            response = await self.client.request("GET", self._repo)
        except UnknownOutcome as error:
            raise Unavailable(f"could not {doing}: {error.message}", status=error.status) from error
        if response.status == 429 or response.status >= 500:
            raise Unavailable(
                f"could not {doing}: 404, and the repository answers {response.status}", status=404
            )
        raw = checks.read_object(response)
        return response.status != 404 and not (raw is not None and raw.get("has_issues") is False)

    def _at(self, issue: IssueRef) -> str:
        """Return the issue's path. An id that is no number was never an issue here."""
        return f"{self._repo}/issues/{number_in_path(issue.remote_id, 'issue')}"

    # -- looking after it --------------------------------------------------------------------------------------------

    async def check(self, webhook_url: str = "") -> Sequence[Finding]:
        """Check server, credential, repository, rights, labels, assignees and webhook; change nothing."""
        doctor = Doctor(self.settings, self.client, self._labels, self._hooks, webhook_url)
        return await doctor.findings()

    async def ensure_webhook(self, url: str, secret: Secret) -> Finding:
        """Create or repair the one webhook of the repository that calls ``url``."""
        return await self._hooks.ensure(url, secret)

    # -- webhooks --------------------------------------------------------------------------------------------------

    @classmethod
    def verify_webhook(cls, headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
        """Return whether one of the secrets signed the body; a call with content type ``form`` is refused."""
        return webhook_events.signature_fits(headers, body, secrets)

    @classmethod
    def webhook_id(cls, headers: Mapping[str, str], body: bytes) -> str | None:  # noqa: ARG003
        """Return the id of the call, from its header."""
        return webhook_events.delivery_id(headers)

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Return what the call reports about an issue of this repository."""
        return webhook_events.read(headers, body, self.settings.repository)
