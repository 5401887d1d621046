"""The tracker kind ``github``: one repository on github.com or a GitHub Enterprise Server."""

from __future__ import annotations

import contextlib
import datetime as dt
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pointsman.plugin_api import (
    Answer,
    Capabilities,
    CloseReason,
    CommentRef,
    Connection,
    Draft,
    Finding,
    IssueGone,
    IssueRef,
    IssueSeen,
    Marker,
    Misconfigured,
    Moved,
    NotFound,
    PluginError,
    PluginSettings,
    Secret,
    State,
    Tracker,
    TrackerClient,
    Unavailable,
    UnknownOutcome,
    WebhookNews,
)
from pointsman_github import checks, wire
from pointsman_github.pages import read_page, read_pages
from pointsman_github.settings import GitHubSettings

_CHANGES_PAGES = 200
_REDIRECTS = (301, 302, 307, 308)


class GitHubTracker(Tracker):
    """Issues of one repository, by the REST API: https://docs.github.com/en/rest/issues."""

    kind: ClassVar[str] = "github"
    title: ClassVar[str] = "GitHub"
    api_version: ClassVar[int] = 1
    Settings: ClassVar[type[PluginSettings]] = GitHubSettings
    # GitHub gives up its own work after 10 seconds, and its lists lagged behind in an incident: look twice.
    capabilities: ClassVar[Capabilities] = Capabilities(
        webhooks=True, find=True, list_changes=True, close_reasons=True, settle_seconds=(20.0, 60.0)
    )

    def __init__(self, settings: GitHubSettings, client: TrackerClient) -> None:
        super().__init__(settings, client)
        self._repo = f"/repos/{settings.repository}"
        self._account: tuple[int, str] | None = None

    @classmethod
    def connection(cls, settings: GitHubSettings) -> Connection:
        """The API, in a version supported until March 2028 at least; without ``User-Agent`` GitHub refuses a call.

        https://docs.github.com/en/rest/about-the-rest-api/api-versions
        """
        return Connection(
            base_url=settings.url.rstrip("/"),
            headers={
                "Authorization": Secret(f"Bearer {settings.token.reveal().strip()}"),
                "Accept": Secret("application/vnd.github+json"),
                "X-GitHub-Api-Version": Secret("2022-11-28"),
                "User-Agent": Secret("pointsman"),
            },
        )

    # -- writing ---------------------------------------------------------------------------------------------------

    async def create_issue(self, draft: Draft) -> IssueRef:
        """Create an issue. Where assignees or labels are refused (422: nothing was created), it goes without them.

        https://docs.github.com/en/rest/issues/issues#create-an-issue
        """
        body = wire.issue_body(draft, self.settings.labels, self.settings.assignees)
        answer = await self._post_issue(body)
        unwanted = wire.refused_fields(answer) & {"assignees", "labels"} & body.keys()
        if unwanted:
            answer = await self._post_issue(
                {name: value for name, value in body.items() if name not in unwanted}
            )
        if answer.status in _REDIRECTS:
            raise _renamed(answer)
        if not answer.ok:
            raise wire.problem(answer, "create an issue")
        ref = wire.issue_ref(answer.json())
        if ref is None:
            raise UnknownOutcome(
                "GitHub took the issue and answered without its number",
                status=answer.status,
                excerpt=answer.text(),
                is_json=True,
            )
        return ref

    async def _post_issue(self, body: Mapping[str, Any]) -> Answer:
        return await self.client.request("POST", f"{self._repo}/issues", json=body)

    async def add_comment(self, issue: IssueRef, body: str, marker: Marker) -> CommentRef:
        """Add a comment, https://docs.github.com/en/rest/issues/comments#create-an-issue-comment."""
        path = f"{self._at(issue)}/comments"
        ref = wire.comment_ref(
            await self._at_issue("POST", path, "comment", json=wire.comment_body(body, marker))
        )
        if ref is None:
            raise UnknownOutcome("GitHub took the comment and answered without its id")
        return ref

    async def set_state(self, issue: IssueRef, state: State, reason: CloseReason | None) -> None:
        """Close or reopen, https://docs.github.com/en/rest/issues/issues#update-an-issue."""
        doing = "close the issue" if state == "closed" else "reopen the issue"
        await self._at_issue("PATCH", self._at(issue), doing, json=wire.state_body(state, reason))

    async def update_issue(self, issue: IssueRef, draft: Draft) -> None:
        """Replace title and body, with the marker in it again."""
        await self._at_issue("PATCH", self._at(issue), "edit the issue", json=wire.edit_body(draft))

    # -- reading ---------------------------------------------------------------------------------------------------

    async def read_issue(self, issue: IssueRef) -> IssueSeen:
        """How the issue stands now. A deleted one is 410, one transferred out of our sight 404."""
        seen = wire.issue_seen(await self._at_issue("GET", self._at(issue), "read the issue"))
        if seen is None:
            raise NotFound(f"{issue.key} is no issue")
        return seen

    async def find_issue(self, marker: Marker, since: dt.datetime) -> Sequence[IssueRef]:
        """Issues of our own account that carry the marker, oldest first.

        The list and not the search, whose index lags behind by minutes. Newest first, so that it ends with the first
        issue made before ``since``. https://docs.github.com/en/rest/issues/issues#list-repository-issues
        """
        account, login = await self._me()
        first = since.astimezone(dt.UTC).replace(microsecond=0)
        params: dict[str, str | int] = {
            "state": "all",
            "creator": login,
            "since": wire.timestamp(since),
            "sort": "created",
            "direction": "desc",
        }
        found: dict[IssueRef, None] = {}
        pages = read_pages(self.client, f"{self._repo}/issues", params, doing="look for the issue")
        async with contextlib.aclosing(pages) as listed:
            async for raw in listed:
                made = wire.moment(raw.get("created_at"))
                if made is not None and made < first:
                    break
                if raw.get("pull_request") is not None or wire.author_id(raw) != account:
                    continue
                ref = wire.issue_ref(raw)
                if ref is not None and marker.text in wire.markers_in(raw.get("body")):
                    found[ref] = None
        return sorted(found, key=lambda ref: int(ref.remote_id))

    async def find_comment(self, issue: IssueRef, marker: Marker, since: dt.datetime) -> Sequence[CommentRef]:
        """Comments of our own account on the issue that carry the marker, oldest first.

        https://docs.github.com/en/rest/issues/comments#list-issue-comments
        """
        account, _ = await self._me()
        path, params = f"{self._at(issue)}/comments", {"since": wire.timestamp(since)}
        found: dict[CommentRef, None] = {}
        async for raw in read_pages(self.client, path, params, doing="look for the comment"):
            ref = wire.comment_ref(raw)
            if (
                ref is not None
                and wire.author_id(raw) == account
                and marker.text in wire.markers_in(raw.get("body"))
            ):
                found[ref] = None
        return sorted(found, key=lambda ref: int(ref.remote_id))

    async def list_changes(self, since: dt.datetime) -> Sequence[IssueSeen | IssueGone]:
        """Issues changed since then, as they stand now, in the order of their changes.

        Each page begins at the last change of the page before and not at a page number: an issue that changes
        meanwhile moves to the end and would push another one over the edge of a page, unseen.
        """
        latest: dict[str, IssueSeen] = {}
        start, page = wire.timestamp(since), 1
        for _ in range(_CHANGES_PAGES):
            params: dict[str, str | int] = {
                "state": "all",
                "sort": "updated",
                "direction": "asc",
                "since": start,
                "page": page,
            }
            items, more = await read_page(
                self.client, f"{self._repo}/issues", params, doing="list changed issues"
            )
            for raw in items:
                seen = wire.issue_seen(raw)
                if seen is not None:
                    latest[seen.ref.remote_id] = seen
            if not more or not items:
                return sorted(
                    latest.values(), key=lambda seen: (seen.version or since, int(seen.ref.remote_id))
                )
            last = wire.moment(items[-1].get("updated_at"))
            if last is None or wire.timestamp(last) == start:
                page += 1
            else:
                start, page = wire.timestamp(last), 1
        raise UnknownOutcome(f"could not list changed issues: more than {_CHANGES_PAGES} pages")

    async def _me(self) -> tuple[int, str]:
        """Id and login of the account that the token belongs to, asked once."""
        if self._account is None:
            answer = await self.client.request("GET", "/user")
            if not answer.ok:
                raise wire.problem(answer, "read our own account")
            raw = answer.json()
            number = wire.author_id({"user": raw})
            login = raw.get("login") if isinstance(raw, dict) else None
            if number is None or not isinstance(login, str) or not login:
                raise Misconfigured("GitHub does not say who we are: check `url`", status=answer.status)
            self._account = number, login
        return self._account

    def _at(self, issue: IssueRef) -> str:
        """The issue's path. What is no number was never an issue here."""
        if not (issue.remote_id.isascii() and issue.remote_id.isdigit()):
            raise NotFound(f"{issue.remote_id!r} is no issue number")
        return f"{self._repo}/issues/{issue.remote_id}"

    async def _at_issue(
        self, method: str, path: str, doing: str, *, json: Mapping[str, Any] | None = None
    ) -> Any:
        """Read or change something of one issue; a redirect is looked into and never followed with a write."""
        answer = await self.client.request(method, path, json=json)
        if answer.status in _REDIRECTS:
            raise await self._where_to(answer)
        if not answer.ok:
            raise wire.problem(answer, doing)
        return answer.json()

    async def _where_to(self, answer: Answer) -> PluginError:
        """Whether a redirect means one transferred issue (Moved) or that the whole repository has a new name."""
        try:
            repository = await self.client.request("GET", self._repo)
            if repository.status in _REDIRECTS:
                return _renamed(repository)
            where = answer.headers.get("location", "").removesuffix("/comments")
            to = wire.word(where, 500)
            if _same_origin(where, self.settings.url):
                there = await self.client.request("GET", where)
                ref = wire.issue_ref(there.json()) if there.ok else None
                to = ref.url if ref is not None and ref.url else to
        except PluginError as error:
            return Unavailable(
                f"the issue was redirected, and asking where failed: {error.message}", status=answer.status
            )
        return Moved("the issue was transferred to another repository", to=to, status=answer.status)

    # -- looking after it --------------------------------------------------------------------------------------------

    async def check(self) -> Sequence[Finding]:
        """Credential, its scopes and end, repository, rights; read only."""
        findings: list[Finding] = []
        try:
            _, login = await self._me()
            findings.append(Finding(level="ok", what=f"signed in as {login}"))
            answer = await self.client.request("GET", self._repo)
            findings += checks.token(answer, dt.datetime.now(dt.UTC))
            findings += checks.repository(answer, self.settings)
            params: dict[str, str | int] = {"state": "all", "per_page": 1}
            findings.append(
                checks.issues(await self.client.request("GET", f"{self._repo}/issues", params=params))
            )
        except PluginError as error:
            findings.append(checks.failed(error))
        return findings

    # -- webhooks --------------------------------------------------------------------------------------------------

    @classmethod
    def verify_webhook(cls, headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
        """Whether one of the secrets signed the body."""
        return wire.signature_fits(headers, body, secrets)

    @classmethod
    def webhook_id(cls, headers: Mapping[str, str], body: bytes) -> str | None:  # noqa: ARG003
        """The id of the call, from its header."""
        return wire.delivery_id(headers)

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookNews:
        """What the call says about an issue of this repository."""
        return wire.read(headers, body, self.settings.repository)


def _renamed(answer: Answer) -> Misconfigured:
    """The repository has another name now."""
    where = wire.word(answer.headers.get("location", ""), 200)
    return Misconfigured(
        f"the repository has another name now ({where}): set `repository` to it",
        status=answer.status,
        excerpt=answer.text(),
    )


def _same_origin(one: str, other: str) -> bool:
    """Whether two addresses are of the same scheme, host and port."""
    try:
        first, second = urllib.parse.urlsplit(one), urllib.parse.urlsplit(other)
    except ValueError:
        return False
    return (first.scheme, first.netloc) == (second.scheme, second.netloc)
