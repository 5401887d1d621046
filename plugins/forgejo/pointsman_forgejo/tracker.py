"""The tracker kind ``forgejo``: one repository on a Forgejo or Gitea server."""

from __future__ import annotations

import datetime as dt
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import msgspec

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
    NotFound,
    PluginError,
    PluginSettings,
    Secret,
    State,
    Tracker,
    TrackerClient,
    UnknownOutcome,
    WebhookNews,
)
from pointsman_forgejo import checks, wire
from pointsman_forgejo.labels import Labels
from pointsman_forgejo.pages import read_pages

_REPOSITORY = re.compile(r"(?!\.{1,2}/)[A-Za-z0-9._-]+/(?!\.{1,2}\Z)[A-Za-z0-9._-]+")
_CHANGES_PAGES = 200


class ForgejoSettings(PluginSettings, frozen=True, kw_only=True):
    """Where the issues of one destination go."""

    url: Annotated[str, msgspec.Meta(description="Address of the server, such as https://codeberg.org")]
    token: Annotated[
        Secret, msgspec.Meta(description="Access token with write:issue, read:user and read:repository")
    ]
    repository: Annotated[str, msgspec.Meta(description="owner/repo")]
    labels: Annotated[
        tuple[str, ...], msgspec.Meta(description="Labels of every issue, by name; made if missing")
    ] = ()
    assignees: Annotated[
        tuple[str, ...], msgspec.Meta(description="Logins that every issue is assigned to")
    ] = ()

    def __post_init__(self) -> None:
        """Refuse what can't work, saying what to write instead."""
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", self.url):
            raise ValueError(f"url {self.url!r} is no web address: write it like https://codeberg.org")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(
                "url holds more than an address: write the credential into `token`, and nothing after the path"
            )
        if not _REPOSITORY.fullmatch(self.repository):
            raise ValueError(
                f"repository {self.repository!r} is not owner/repo: write it like acme/shop, without a host"
            )
        token = self.token.reveal().strip()
        if not token:
            raise ValueError(
                "token is empty: make one under Settings, Applications of the account that opens the issues"
            )
        if not re.fullmatch(r"[!-~]+", token):
            raise ValueError(
                "token holds a space or a letter no token has: copy it anew, without `token` before it"
            )
        for label in self.labels:
            if wire.label_names([label]) == ():
                raise ValueError(
                    f"label {label!r} is empty or too long: {wire.LABEL_CHARACTERS} characters at most"
                )
        if not all(name.strip() for name in self.assignees):
            raise ValueError("assignees holds an empty name: leave it out")


class ForgejoTracker(Tracker):
    """Issues of one repository, by API version 1: https://forgejo.org/docs/latest/user/api-usage/."""

    kind: ClassVar[str] = "forgejo"
    title: ClassVar[str] = "Forgejo"
    api_version: ClassVar[int] = 1
    Settings: ClassVar[type[PluginSettings]] = ForgejoSettings
    capabilities: ClassVar[Capabilities] = Capabilities(
        webhooks=True, find=True, list_changes=True, close_reasons=False, settle_seconds=(30.0,)
    )

    def __init__(self, settings: ForgejoSettings, client: TrackerClient) -> None:
        super().__init__(settings, client)
        self._repo = f"/repos/{settings.repository}"
        self._labels = Labels(client, settings.repository)
        self._account: tuple[int, str] | None = None

    @classmethod
    def connection(cls, settings: ForgejoSettings) -> Connection:
        """The API of the server. Old versions know the word ``token`` in lower case only."""
        base = settings.url.rstrip("/").removesuffix("/api/v1").rstrip("/")
        return Connection(
            base_url=f"{base}/api/v1",
            headers={
                "Authorization": Secret(f"token {settings.token.reveal().strip()}"),
                "Accept": Secret("application/json"),
                "User-Agent": Secret("pointsman"),
            },
        )

    # -- writing ---------------------------------------------------------------------------------------------------

    async def create_issue(self, draft: Draft) -> IssueRef:
        """Create an issue. Where an assignee is refused (422: nothing was created), it is made without assignees."""
        label_ids = await self._labels.ids(wire.label_names(self.settings.labels, draft.labels))
        body = wire.issue_body(draft, label_ids, self.settings.assignees)
        answer = await self._post_issue(body)
        if answer.status == 422 and body.pop("assignees", None):
            answer = await self._post_issue(body)
        if not answer.ok:
            raise wire.problem(answer, "create an issue", sent=body)
        raw = answer.json()
        ref = wire.issue_ref(raw)
        if ref is None:
            raise UnknownOutcome(
                "the server took the issue and answered without its number",
                status=answer.status,
                excerpt=answer.text(),
                is_json=True,
            )
        if label_ids and not _carries(raw, label_ids):
            self._labels.forget()
        return ref

    async def _post_issue(self, body: Mapping[str, Any]) -> Answer:
        return await self.client.request("POST", f"{self._repo}/issues", json=body)

    async def add_comment(self, issue: IssueRef, body: str, marker: Marker) -> CommentRef:
        """Add a comment."""
        raw = await self._write(
            "POST", f"{self._at(issue)}/comments", wire.comment_body(body, marker), "comment"
        )
        ref = wire.comment_ref(raw)
        if ref is None:
            raise UnknownOutcome("the server took the comment and answered without its id")
        return ref

    async def set_state(self, issue: IssueRef, state: State, reason: CloseReason | None) -> None:  # noqa: ARG002
        """Close or reopen. Forgejo knows no reasons; an issue already in that state stays untouched."""
        doing = "close the issue" if state == "closed" else "reopen the issue"
        await self._write("PATCH", self._at(issue), wire.state_body(state), doing)

    async def update_issue(self, issue: IssueRef, draft: Draft) -> None:
        """Replace title and body, with the marker in it again."""
        await self._write("PATCH", self._at(issue), wire.edit_body(draft), "edit the issue")

    async def _write(self, method: str, path: str, body: Mapping[str, Any], doing: str) -> Any:
        """Send a change. An edit is answered with 201, unlike anywhere else; any 2xx counts."""
        answer = await self.client.request(method, path, json=body)
        if not answer.ok:
            raise wire.problem(answer, doing)
        return answer.json()

    # -- reading ---------------------------------------------------------------------------------------------------

    async def read_issue(self, issue: IssueRef) -> IssueSeen:
        """How the issue stands now."""
        answer = await self.client.request("GET", self._at(issue))
        if not answer.ok:
            raise wire.problem(answer, "read the issue")
        seen = wire.issue_seen(answer.json())
        if seen is None:
            raise NotFound(f"{issue.key} is no issue", status=answer.status, excerpt=answer.text())
        return seen

    async def find_issue(self, marker: Marker, since: dt.datetime) -> Sequence[IssueRef]:
        """Issues of our own account that carry the marker, oldest first.

        The list without a keyword (``q``) is read from the database; with one it would come from a search index that
        lags behind. ``since`` there means the last change, which is never before the making.
        """
        account, login = await self._me()
        params: dict[str, str | int] = {"created_by": login, "since": wire.timestamp(since)}
        try:
            listed = await self._list_issues(params, "look for the issue", pages=20)
        except NotFound:
            self._account = None  # the account may have another login now
            raise
        found = [
            ref
            for raw in listed
            if wire.author_id(raw) == account
            and marker.text in wire.markers_in(raw.get("body"))
            and (ref := wire.issue_ref(raw)) is not None
        ]
        return sorted(dict.fromkeys(found), key=lambda ref: int(ref.remote_id))

    async def find_comment(self, issue: IssueRef, marker: Marker, since: dt.datetime) -> Sequence[CommentRef]:
        """Comments of our own account on the issue that carry the marker, oldest first. This list has no pages."""
        account, _ = await self._me()
        answer = await self.client.request(
            "GET", f"{self._at(issue)}/comments", params={"since": wire.timestamp(since)}
        )
        if not answer.ok:
            raise wire.problem(answer, "look for the comment")
        comments = answer.json()
        if not isinstance(comments, list):
            raise UnknownOutcome(
                "could not look for the comment: the answer is no list", status=answer.status
            )
        found = [
            ref
            for raw in comments
            if wire.author_id(raw) == account
            and marker.text in wire.markers_in(raw.get("body"))
            and (ref := wire.comment_ref(raw)) is not None
        ]
        return sorted(found, key=lambda ref: int(ref.remote_id))

    async def list_changes(self, since: dt.datetime) -> Sequence[IssueSeen | IssueGone]:
        """Issues changed since then, as they stand now. Deleted ones leave no trace in the list.

        The list is ordered by the time of making, newest first: an issue that changes while the pages are read shows
        up twice at worst, and is never skipped.
        """
        params: dict[str, str | int] = {"since": wire.timestamp(since)}
        listed = await self._list_issues(params, "list changed issues", pages=_CHANGES_PAGES)
        latest = {seen.ref.remote_id: seen for raw in listed if (seen := wire.issue_seen(raw)) is not None}
        return sorted(latest.values(), key=lambda seen: (seen.version or since, int(seen.ref.remote_id)))

    async def _list_issues(
        self, params: dict[str, str | int], doing: str, *, pages: int
    ) -> list[dict[str, Any]]:
        """Issues in any state. Without ``state`` only open ones would come, without ``type`` pull requests too."""
        every: dict[str, str | int] = {"state": "all", "type": "issues", **params}
        listed = await read_pages(self.client, f"{self._repo}/issues", every, doing=doing, pages=pages)
        return [raw for raw in listed if raw.get("pull_request") is None]

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
                raise Misconfigured("the server does not say who we are: check `url`", status=answer.status)
            self._account = number, login
        return self._account

    def _at(self, issue: IssueRef) -> str:
        """The issue's path. What is no number was never an issue here."""
        if not (issue.remote_id.isascii() and issue.remote_id.isdigit()):
            raise NotFound(f"{issue.remote_id!r} is no issue number")
        return f"{self._repo}/issues/{issue.remote_id}"

    # -- looking after it --------------------------------------------------------------------------------------------

    async def check(self) -> Sequence[Finding]:
        """Credential, repository, rights, labels; read only."""
        findings: list[Finding] = []
        try:
            _, login = await self._me()
            findings.append(Finding(level="ok", what=f"signed in as {login}"))
            findings += checks.repository(await self.client.request("GET", self._repo), self.settings)
            params: dict[str, str | int] = {"state": "all", "type": "issues", "limit": 1}
            findings.append(
                checks.issues(await self.client.request("GET", f"{self._repo}/issues", params=params))
            )
            names = wire.label_names(self.settings.labels)
            await self._labels.look_up(names)
            if names:
                findings.append(checks.labels(self._labels.missing(names)))
        except PluginError as error:
            findings.append(checks.failed(error))
        return findings

    # -- webhooks --------------------------------------------------------------------------------------------------

    @classmethod
    def verify_webhook(cls, headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
        """Whether one of the secrets signed the body; a call of content type ``form`` is refused."""
        return wire.signature_fits(headers, body, secrets)

    @classmethod
    def webhook_id(cls, headers: Mapping[str, str], body: bytes) -> str | None:  # noqa: ARG003
        """The id of the call, from its header."""
        return wire.delivery_id(headers)

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookNews:
        """What the call says about an issue of this repository."""
        return wire.read(headers, body, self.settings.repository)


def _carries(raw: object, label_ids: Sequence[int]) -> bool:
    """Whether a created issue has the labels it was sent with. Unknown ids are dropped without a word."""
    labels = raw.get("labels") if isinstance(raw, dict) else None
    had = (
        {label.get("id") for label in labels if isinstance(label, dict)}
        if isinstance(labels, list)
        else set()
    )
    return had.issuperset(label_ids)
