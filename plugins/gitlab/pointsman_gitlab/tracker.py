"""The tracker kind ``gitlab``: one project on gitlab.com or another GitLab server."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pointsman.plugin_api import (
    Actor,
    ApiClient,
    CloseReason,
    CommentRef,
    Connection,
    Draft,
    Finding,
    IssueMoved,
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
from pointsman_gitlab import webhook_events, wire
from pointsman_gitlab.doctor import Doctor
from pointsman_gitlab.errors import message_of, problem
from pointsman_gitlab.pages import read_all
from pointsman_gitlab.settings import GitLabSettings
from pointsman_gitlab.users import UserLookup
from pointsman_gitlab.webhook_registration import Webhooks

__all__ = ["GitLabSettings", "GitLabTracker"]


class GitLabTracker(Tracker[GitLabSettings]):
    """Issues of one project, by version 4 of the REST API: https://docs.gitlab.com/api/rest/."""

    kind: ClassVar[str] = "gitlab"
    title: ClassVar[str] = "GitLab"
    api_version: ClassVar[int] = 1
    Settings = GitLabSettings
    # GitLab aborts a request after 60 seconds: https://docs.gitlab.com/administration/operations/puma/
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
        settle_seconds=(30.0, 60.0),
        # GitLab's default limit for notes: https://docs.gitlab.com/rate_limits/content_creation/
        quotas=(Quota("all", 300, 60.0),),
    )

    def __init__(self, settings: GitLabSettings, client: ApiClient) -> None:
        super().__init__(settings, client)
        self._project = settings.project_path
        self._people = UserLookup(client)
        self._hooks = Webhooks(client, settings)
        self._account: Actor | None = None

    @classmethod
    def connection(cls, settings: GitLabSettings) -> Connection:
        """Return the server's API. Personal, project and group access tokens use the same header."""
        return Connection(
            base_url=f"{settings.base}/api/v4",
            headers={
                "PRIVATE-TOKEN": Secret(settings.token.reveal().strip()),
                "Accept": Secret("application/json"),
            },
        )

    # -- writing: https://docs.gitlab.com/api/issues/ and https://docs.gitlab.com/api/notes/ ---------------------------

    async def create_issue(self, draft: Draft) -> IssueRef:
        """Create an issue, without what GitLab refuses: the notes of the result say what that was."""
        labels = wire.label_names(self.settings.labels, draft.labels)
        assignees, unknown = await self._people.ids(self.settings.assignees)
        body = wire.issue_body(
            draft, labels, list(assignees.values()), confidential=self.settings.confidential
        )
        response = await self.client.request("POST", f"{self._project}/issues", json=body)
        if not response.ok:
            raise problem(response, "create the issue")
        raw = response.json()
        ref = wire.issue_ref(raw)
        if ref is None:
            raise unexpected_response(response, "create the issue")
        notes = [
            *wire.notes_of_draft(draft),
            *(f"not assigned to {name}: GitLab knows no such user" for name in unknown),
            *wire.notes_of_response(raw, labels, assignees),
        ]
        return IssueRef(ref.remote_id, ref.key, ref.url, notes=tuple(notes))

    async def add_comment(self, issue: IssueRef, body: str, marker: Marker) -> CommentRef:
        """Add a comment, which GitLab calls a note."""
        doing, path = "add the comment", f"{self._at(issue)}/notes"
        response = await self._about("POST", path, doing, json={"body": wire.marked_text(body, marker)})
        ref = wire.comment_ref(response.json(), issue)
        if ref is None:
            raise unexpected_response(response, doing)
        return ref

    async def delete_comment(self, issue: IssueRef, comment: CommentRef) -> None:
        """Delete a note, https://docs.gitlab.com/api/notes/#delete-an-issue-note."""
        path = f"{self._at(issue)}/notes/{number_in_path(comment.remote_id, 'note')}"
        await self._about("DELETE", path, "delete the comment")

    async def set_state(self, issue: IssueRef, state: State, reason: CloseReason | None) -> IssueState:  # noqa: ARG002
        """Close or reopen. GitLab stores no reasons; an issue that is already in that state is not changed."""
        doing = "close the issue" if state == "closed" else "reopen the issue"
        seen = await self._edit(issue, wire.state_body(state), doing)
        if seen.state != state:
            raise UnknownOutcome(f"could not {doing}: GitLab took it and says the issue is {seen.state}")
        return seen

    async def update_issue(self, issue: IssueRef, draft: Draft) -> None:
        """Replace title and text, the marker included."""
        await self._edit(issue, wire.edit_body(draft), "edit the issue")

    async def _edit(self, issue: IssueRef, body: Mapping[str, Any], doing: str) -> IssueState:
        return self._seen(await self._about("PUT", self._at(issue), doing, json=body), issue, doing)

    # -- reading -----------------------------------------------------------------------------------------------------

    async def own_account(self) -> Actor:
        """Return the account of the token, requested once; that of a project's or group's token is a bot user."""
        if self._account is None:
            response = await self.client.request("GET", "/user")
            if not response.ok:
                raise problem(response, "read our own account")
            self._account = wire.account(response.json())
        if self._account is None:
            raise Misconfigured("the server does not say who we are: check `url`")
        return self._account

    async def read_issue(self, issue: IssueRef) -> IssueState:
        """Return the present state of the issue. Raises IssueMoved if it was moved to another project."""
        doing = "read the issue"
        return self._seen(await self._about("GET", self._at(issue), doing), issue, doing)

    def _seen(self, response: Response, issue: IssueRef, doing: str) -> IssueState:
        raw = response.json()
        gone, seen = wire.issue_removed(raw), wire.issue_state(raw)
        if seen is None or seen.ref.remote_id != issue.remote_id:
            raise unexpected_response(response, doing)
        if gone is not None:
            raise IssueMoved(f"could not {doing}: it was moved to another project", to=gone.moved_to)
        return seen

    async def find_issue(self, marker: Marker, since: dt.datetime) -> Sequence[IssueRef]:
        """Return our own account's issues that contain the marker, oldest first, confidential issues included.

        The list reads the database. Without ``scope`` some lists contain only issues created by the account, others
        only those assigned to it.
        """
        me = await self.own_account()
        params: dict[str, str | int] = {
            "scope": "all",
            "state": "all",
            "author_id": me.account_id,
            "created_after": format_time(since),
            "order_by": "created_at",
            "sort": "asc",
        }
        doing = "look for the issue"
        listed = await read_all(self.client, f"{self._project}/issues", params, doing=doing)
        seen = [issue for raw in listed if (issue := wire.issue_state(raw)) is not None]
        return [
            issue.ref
            for issue in seen
            if issue.author is not None
            and issue.author.account_id == me.account_id
            and marker.text in issue.markers
        ]

    async def find_comment(self, issue: IssueRef, marker: Marker, since: dt.datetime) -> Sequence[CommentRef]:
        """Return our own account's comments that contain the marker, oldest first. Notes that GitLab writes itself do
        not count.
        """
        me = await self.own_account()
        params: dict[str, str | int] = {"order_by": "created_at", "sort": "desc"}

        def is_older(raw: dict[str, Any]) -> bool:
            created_at = parse_time(raw.get("created_at"))
            return created_at is not None and created_at < since

        path, doing = f"{self._at(issue)}/notes", "look for the comment"
        listed = await read_all(self.client, path, params, doing=doing, about_issue=True, until=is_older)
        refs = [
            ref
            for raw in listed
            if raw.get("system") is not True
            and (author := wire.account(raw.get("author"))) is not None
            and author.account_id == me.account_id
            and marker.text in find_markers(raw.get("body"))
            and (ref := wire.comment_ref(raw, issue)) is not None
        ]
        return refs[::-1]

    async def list_changes(self, since: dt.datetime) -> Sequence[IssueState | IssueRemoved]:
        """Return the present states of issues changed since then, moved issues included. Deleted issues leave no
        trace.

        The list is ordered by time of creation, newest first: an issue that changes while the pages are read appears
        twice at worst and is never skipped.
        """
        params: dict[str, str | int] = {
            "scope": "all",
            "state": "all",
            "updated_after": format_time(since),
            "order_by": "created_at",
            "sort": "desc",
        }
        doing = "list changed issues"
        listed = await read_all(self.client, f"{self._project}/issues", params, doing=doing, max_pages=1000)
        news = [
            change
            for raw in listed
            if (change := wire.issue_removed(raw) or wire.issue_state(raw)) is not None
        ]
        return list({change.ref.remote_id: change for change in news}.values())

    # -- looking after it ----------------------------------------------------------------------------------------------

    async def check(self, webhook_url: str = "") -> Sequence[Finding]:
        """Check credential, project, rights, assignees and webhook; change nothing."""
        doctor = Doctor(self.settings, self.client, self._people, self._hooks, webhook_url)
        return await doctor.findings()

    async def ensure_webhook(self, url: str, secret: Secret) -> Finding:
        """Create or repair the one webhook of the project that calls ``url``."""
        return await self._hooks.ensure(url, secret)

    # -- webhooks ----------------------------------------------------------------------------------------------------

    @classmethod
    def verify_webhook(cls, headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
        """Return whether one of the secrets authenticates the call; a plain secret token proves nothing about the
        body.
        """
        return webhook_events.is_genuine(headers, body, secrets)

    @classmethod
    def webhook_id(cls, headers: Mapping[str, str], body: bytes) -> str | None:
        """Return the id of the call."""
        return webhook_events.call_id(headers, body)

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:  # noqa: ARG002
        """Return what the call reports about an issue of this project."""
        return webhook_events.read(body, self.settings.project)

    # -- HTTP --------------------------------------------------------------------------------------------------------

    def _at(self, issue: IssueRef) -> str:
        """Return the issue's path. An id that is no number was never an issue here."""
        return f"{self._project}/issues/{number_in_path(issue.remote_id, 'issue')}"

    async def _about(self, method: str, path: str, doing: str, *, json: Any = None) -> Response:
        """Send one request about an existing issue.

        A 404 needs a second look: GitLab sends it for a deleted issue, for one that is hidden from the account, and
        for all issues while the project's issues are switched off; in the last case they come back.
        """
        response = await self.client.request(method, path, json=json)
        if response.ok:
            return response
        error = problem(response, doing, issue=True)
        if isinstance(error, NotFound) and not await self._shows_issues(doing):
            raise Misconfigured(
                f"could not {doing}: the project hides from the account, or its issues are switched off",
                status=response.status,
            )
        raise error

    async def _shows_issues(self, doing: str) -> bool:
        """Return whether the project and its issues are visible to us."""
        try:
            response = await self.client.request("GET", self._project)
        except UnknownOutcome as error:
            raise Unavailable(f"could not {doing}: {error.message}", status=error.status) from error
        if response.status == 429 or response.status >= 500:
            reason = message_of(response)[0] or "no reason"
            raise Unavailable(f"could not {doing}: 404, and the project answers {response.status}: {reason}")
        return response.ok and has_issues(response.json())


def has_issues(project: object) -> bool:
    """Return whether a project's issues are switched on, as far as it says."""
    if not isinstance(project, dict):
        return True
    return project.get("issues_access_level") != "disabled" and project.get("issues_enabled") is not False
