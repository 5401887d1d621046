"""The tracker kind ``github``: one repository on github.com or a GitHub Enterprise Server."""

from __future__ import annotations

import contextlib
import datetime as dt
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

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
    PluginError,
    Quota,
    Response,
    Secret,
    State,
    Tracker,
    TrackerCapabilities,
    UnknownOutcome,
    WebhookEvent,
)
from pointsman.plugin_api.helpers import find_markers, format_time, number_in_path, parse_time
from pointsman_github import checks, errors, webhook_events, webhook_registration, wire
from pointsman_github.app import AppClient
from pointsman_github.issue_calls import IssueCalls
from pointsman_github.pages import each_object, read_page
from pointsman_github.settings import GitHubSettings

_CHANGES_PAGES = 1000
_FIND_PAGES = 200
_CREATE_TRIES = 3


class GitHubTracker(Tracker[GitHubSettings]):
    """Issues of one repository, by the REST API: https://docs.github.com/en/rest/issues."""

    kind: ClassVar[str] = "github"
    title: ClassVar[str] = "GitHub"
    api_version: ClassVar[int] = 1
    Settings = GitHubSettings
    # GitHub aborts its own work after 10 seconds, and its lists lagged behind in an incident: search twice.
    capabilities = TrackerCapabilities(
        webhooks=True,
        find=True,
        read_issue=True,
        own_account=True,
        update_issue=True,
        delete_comment=True,
        check=True,
        ensure_webhook=True,
        redeliver_webhooks=True,
        list_changes=True,
        close_reasons=True,
        settle_seconds=(20.0, 60.0),
        # https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits
        quotas=(Quota("content", 80, 60.0), Quota("content-hour", 500, 3600.0)),
    )

    def __init__(self, settings: GitHubSettings, client: ApiClient) -> None:
        super().__init__(settings, client)
        self._app = AppClient(settings, client) if settings.is_app else None
        self._api: ApiClient = client if self._app is None else self._app
        self._repo = f"/repos/{settings.repository}"
        self._issues = IssueCalls(self._api, self._repo, settings)
        self._account: Actor | None = None

    @classmethod
    def connection(cls, settings: GitHubSettings) -> Connection:
        """Return the API, in a version supported until March 2028 at least and by every maintained Enterprise Server.

        Without ``User-Agent`` GitHub refuses a request. An App's token changes every hour and is added to each
        request.

        https://docs.github.com/en/rest/about-the-rest-api/api-versions
        """
        headers = {
            "Accept": Secret("application/vnd.github+json"),
            "X-GitHub-Api-Version": Secret("2022-11-28"),
            "User-Agent": Secret("pointsman"),
        }
        account = ""
        if settings.is_app:
            account = f"installation {settings.installation_id} of App {settings.app_id}"
        else:
            headers["Authorization"] = Secret(f"Bearer {settings.token.reveal().strip()}")
        return Connection(base_url=settings.url.rstrip("/"), headers=headers, account=account)

    # -- writing ---------------------------------------------------------------------------------------------------

    async def create_issue(self, draft: Draft) -> IssueRef:
        """Create an issue.

        Assignees and labels that are refused (422: nothing was created) are left out; the notes of the result name
        them, and those that GitHub drops silently.

        https://docs.github.com/en/rest/issues/issues#create-an-issue
        """
        body = wire.issue_body(draft, self.settings.labels, self.settings.assignees)
        asked = {name: tuple(body.get(name, ())) for name in ("assignees", "labels")}
        response = await self._post_issue(body)
        refusal = ""
        for attempt in range(1, _CREATE_TRIES):
            refused = errors.refused_fields(response)
            fewer = wire.without(body, refused, remove_all=attempt > 1)
            if fewer == body:
                break
            refusal, body = errors.error_messages(response)[0], fewer
            response = await self._post_issue(body)
        if response.status in errors.REDIRECTS:
            raise errors.renamed(response)
        if not response.ok:
            raise errors.problem(response, "create an issue")
        raw = response.json()
        ref = wire.issue_ref(raw)
        if ref is None:
            raise UnknownOutcome(
                "GitHub took the issue and answered without its number",
                status=response.status,
                excerpt=response.text(),
                is_json=True,
            )
        return msgspec.structs.replace(ref, notes=wire.notes(raw, asked, body, refusal))

    async def _post_issue(self, body: Mapping[str, Any]) -> Response:
        return await self._api.request("POST", f"{self._repo}/issues", json=body)

    async def add_comment(self, issue: IssueRef, body: str, marker: Marker) -> CommentRef:
        """Add a comment, https://docs.github.com/en/rest/issues/comments#create-an-issue-comment."""
        path = f"{self._issues.at(issue)}/comments"
        raw = await self._issues.request_json("POST", path, "comment", json=wire.comment_body(body, marker))
        ref = wire.comment_ref(raw)
        if ref is None:
            raise UnknownOutcome("GitHub took the comment and answered without its id")
        return ref

    async def delete_comment(self, issue: IssueRef, comment: CommentRef) -> None:
        """Delete a comment, https://docs.github.com/en/rest/issues/comments#delete-an-issue-comment."""
        del issue
        path = f"{self._repo}/issues/comments/{number_in_path(comment.remote_id, 'comment')}"
        await self._issues.call("DELETE", path, "delete the comment")

    async def set_state(self, issue: IssueRef, state: State, reason: CloseReason | None) -> IssueState:
        """Close or reopen, https://docs.github.com/en/rest/issues/issues#update-an-issue."""
        doing = "close the issue" if state == "closed" else "reopen the issue"
        raw = await self._issues.request_json(
            "PATCH", self._issues.at(issue), doing, json=wire.state_body(state, reason)
        )
        return _seen(raw, doing)

    async def update_issue(self, issue: IssueRef, draft: Draft) -> None:
        """Replace title and body, the marker included."""
        doing = "edit the issue"
        _seen(
            await self._issues.request_json(
                "PATCH", self._issues.at(issue), doing, json=wire.edit_body(draft)
            ),
            doing,
        )

    # -- reading ---------------------------------------------------------------------------------------------------

    async def read_issue(self, issue: IssueRef) -> IssueState:
        """Return the present state of the issue. A deleted issue is 410, one that was transferred out of our sight
        404.
        """
        raw = await self._issues.request_json("GET", self._issues.at(issue), "read the issue")
        if isinstance(raw, dict) and raw.get("pull_request") is not None:
            raise NotFound(f"{issue.key} is a pull request and no issue")
        return _seen(raw, "read the issue")

    async def find_issue(self, marker: Marker, since: dt.datetime) -> Sequence[IssueRef]:
        """Return our own account's issues that contain the marker, oldest first.

        The list is read and not the search, whose index lags behind by minutes. It is read newest first, so that
        reading stops at the first issue created before ``since``.
        https://docs.github.com/en/rest/issues/issues#list-repository-issues
        """
        me = await self.own_account()
        first = since.astimezone(dt.UTC).replace(microsecond=0)
        params: dict[str, str | int] = {
            "state": "all",
            "creator": me.name,
            "since": format_time(since),
            "sort": "created",
            "direction": "desc",
        }
        refs: dict[IssueRef, None] = {}
        pages = each_object(
            self._api, f"{self._repo}/issues", params, doing="look for the issue", max_pages=_FIND_PAGES
        )
        async with contextlib.aclosing(pages) as listed:
            async for raw in listed:
                created_at = parse_time(raw.get("created_at"))
                if created_at is not None and created_at < first:
                    break
                if raw.get("pull_request") is not None or not _is_by(raw, me):
                    continue
                ref = wire.issue_ref(raw)
                if ref is not None and marker.text in find_markers(raw.get("body")):
                    refs[ref] = None
        return sorted(refs, key=lambda ref: int(ref.remote_id))

    async def find_comment(self, issue: IssueRef, marker: Marker, since: dt.datetime) -> Sequence[CommentRef]:
        """Return our own account's comments on the issue that contain the marker, oldest first.

        https://docs.github.com/en/rest/issues/comments#list-issue-comments
        """
        me = await self.own_account()
        path, params = f"{self._issues.at(issue)}/comments", {"since": format_time(since)}
        refs: dict[CommentRef, None] = {}
        pages = each_object(self._api, path, params, doing="look for the comment", about_issue=True)
        try:
            async for raw in pages:
                ref = wire.comment_ref(raw)
                if ref is not None and _is_by(raw, me) and marker.text in find_markers(raw.get("body")):
                    refs[ref] = None
        except NotFound as error:
            raise await self._issues.error_of_missing(error) from None
        return sorted(refs, key=lambda ref: int(ref.remote_id))

    async def list_changes(self, since: dt.datetime) -> Sequence[IssueState | IssueRemoved]:
        """Return the present states of issues changed since then, in the order of their changes.

        Each page begins at the last change of the previous page and not at a page number: an issue that changes
        meanwhile moves to the end and would push another issue over the edge of a page, unseen.
        """
        latest: dict[str, IssueState] = {}
        start, page = format_time(since), 1
        for _ in range(_CHANGES_PAGES):
            params: dict[str, str | int] = {
                "state": "all",
                "sort": "updated",
                "direction": "asc",
                "since": start,
                "page": page,
            }
            items, more = await read_page(
                self._api, f"{self._repo}/issues", params, doing="list changed issues"
            )
            for raw in items:
                seen = wire.issue_state(raw)
                if seen is not None:
                    latest[seen.ref.remote_id] = seen
            if not more or not items:
                return sorted(
                    latest.values(), key=lambda seen: (seen.version or since, int(seen.ref.remote_id))
                )
            last = parse_time(items[-1].get("updated_at"))
            if last is None or format_time(last) == start:
                page += 1
            else:
                start, page = format_time(last), 1
        raise UnknownOutcome(f"could not list changed issues: more than {_CHANGES_PAGES} pages")

    async def own_account(self) -> Actor:
        """Return the account of the token, or the App's ``SLUG[bot]``; requested once.

        https://docs.github.com/en/rest/users/users
        """
        if self._account is None:
            self._account, _ = await self._request_account()
        return self._account

    async def _request_account(self) -> tuple[Actor, Response]:
        path = "/user"
        if self._app is not None:
            path = f"/users/{urllib.parse.quote(await self._app.login())}"
        response = await self._api.request("GET", path)
        if not response.ok:
            raise errors.problem(response, "read our own account")
        owner = wire.account(response.json())
        if owner is None or not owner.name or not owner.account_id.isdigit():
            raise Misconfigured("GitHub does not say who we are: check `url`", status=response.status)
        return owner, response

    # -- looking after it --------------------------------------------------------------------------------------------

    async def check(self, webhook_url: str = "") -> Sequence[Finding]:
        """Check credential, repository, rights, people, rate limit and webhooks; change nothing."""
        findings: list[Finding] = []
        try:
            self._account, response = await self._request_account()
            findings += checks.credential(response, self._account.name, self.settings)
            if self._app is not None:
                findings += checks.app(self._app.permissions)
            response = await self._api.request("GET", self._repo)
            findings += [*checks.scopes(response), *checks.repository(response, self.settings)]
            if response.ok:
                findings += await self._check_repository(webhook_url)
        except PluginError as error:
            findings.append(checks.failed(error, self.settings))
        return findings

    async def _check_repository(self, webhook_url: str) -> list[Finding]:
        params: dict[str, str | int] = {"state": "all", "per_page": 1}
        response = await self._api.request("GET", f"{self._repo}/issues", params=params)
        findings = [checks.issues(response)]
        for login in self.settings.assignees:
            path = f"{self._repo}/assignees/{urllib.parse.quote(login.strip(), safe='')}"
            response = await self._api.request("GET", path)
            findings.append(checks.assignee(response, login.strip()))
        findings += checks.limit(response)
        try:
            webhooks = await webhook_registration.listed(self._api, self._repo)
        except Misconfigured as error:
            if error.status in (403, 404):
                return findings  # the credential may not see webhooks, and need not
            raise
        page = f"{self._page}/settings/hooks"
        return findings + webhook_registration.findings(
            webhooks, page, is_app=self._app is not None, url=webhook_url
        )

    @property
    def _page(self) -> str:
        return f"{self.settings.web}/{self.settings.repository}"

    async def ensure_webhook(self, url: str, secret: Secret) -> Finding:
        """Create the repository's webhook, or repair it: https://docs.github.com/en/rest/repos/webhooks."""
        return await webhook_registration.Webhooks(self._api, self._repo, self._page).ensure(url, secret)

    async def redeliver_webhooks(self, url: str, since: dt.datetime) -> int:
        """Have GitHub repeat the failed calls of our webhook: it never does so by itself."""
        return await webhook_registration.Webhooks(self._api, self._repo, self._page).redeliver_webhooks(
            url, since
        )

    # -- webhooks --------------------------------------------------------------------------------------------------

    @classmethod
    def verify_webhook(cls, headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
        """Return whether one of the secrets signed the body."""
        return webhook_events.signature_fits(headers, body, secrets)

    @classmethod
    def webhook_id(cls, headers: Mapping[str, str], body: bytes) -> str | None:  # noqa: ARG003
        """Return the id of the call, from its header."""
        return webhook_events.delivery_id(headers)

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Return what the call reports about an issue of this repository."""
        return webhook_events.read(headers, body, self.settings.repository)


def _seen(raw: object, doing: str) -> IssueState:
    """Return the state of the issue in a response."""
    seen = wire.issue_state(raw)
    if seen is None:
        raise UnknownOutcome(f"could not {doing}: GitHub answered with something that is no issue")
    return seen


def _is_by(raw: object, me: Actor) -> bool:
    author = wire.author(raw)
    return author is not None and author.account_id == me.account_id
