"""The reading methods of the Jira tracker: accounts, issues, comments, searches."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote

from pointsman.plugin_api import (
    Actor,
    ApiClient,
    CommentRef,
    IssueMoved,
    IssueRef,
    IssueRemoved,
    IssueState,
    Marker,
    Misconfigured,
    PluginError,
    Response,
    Tracker,
    UnknownOutcome,
)
from pointsman_jira import dialect, errors, wire
from pointsman_jira.settings import JiraSettings

CLOCK_SKEW = dt.timedelta(minutes=5)


class JiraReader(Tracker[JiraSettings]):
    """Requests to a Jira project that change nothing."""

    settings: JiraSettings

    def __init__(self, settings: JiraSettings, client: ApiClient) -> None:
        super().__init__(settings, client)
        self.dialect = dialect.of(is_cloud=settings.is_cloud)
        self._me: Actor | None = None

    async def own_account(self) -> Actor:
        """Return the account of the token, requested once.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-myself/#api-rest-api-3-myself-get
        """
        if self._me is None:
            response = await self.calls.request("GET", f"{self.dialect.api}/myself")
            if response.status in {404, 410}:
                raise Misconfigured(
                    "Jira does not know the call that tells the account: is the address right?",
                    status=response.status,
                    excerpt=response.text(),
                )
            if not response.ok:
                raise self._problem(response, "the account could not be read")
            self._me = wire.actor_of(response.json())
            if self._me is None:
                raise Misconfigured(
                    "Jira does not say which account the token belongs to", excerpt=response.text()
                )
        return self._me

    async def read_issue(self, issue: IssueRef) -> IssueState:
        """Return the issue by its id, which stays the same when the issue moves and its key changes."""
        seen = self._seen(await self._read(issue))
        if seen is None:
            raise UnknownOutcome(f"Jira gave {issue.key} without an id or a status")
        return seen

    async def find_issue(self, marker: Marker, since: dt.datetime) -> Sequence[IssueRef]:
        """Return our own account's issues that have the marker as a label.

        ``since`` is not used: the label identifies one delivery, and a time in JQL is read in the account's time
        zone.
        """
        del since
        me = (await self.own_account()).account_id
        jql = f"project = {wire.quoted(self.settings.project)} AND labels = {wire.quoted(marker.text)} ORDER BY key ASC"
        refs = []
        async for issue in self._search(jql):
            ref = wire.ref_of(issue, self.settings.site)
            if ref and marker.text in wire.items_at(issue, "fields", "labels") and _written_by(issue, me):
                refs.append(ref)
        return sorted(refs, key=lambda ref: int(ref.remote_id))

    async def find_comment(self, issue: IssueRef, marker: Marker, since: dt.datetime) -> Sequence[CommentRef]:
        """Return our own account's comments on the issue that have the marker in their property."""
        me = (await self.own_account()).account_id
        refs = []
        async for comment in self._comments(issue, since - CLOCK_SKEW):
            comment_id = wire.text_at(comment, "id")
            author = wire.actor_of(wire.at(comment, "author"))
            if not comment_id or author is None or author.account_id != me:
                continue
            if await self._marker_of(comment, comment_id) == marker.text:
                refs.append(self._comment_ref(issue, comment_id))
        return sorted(refs, key=lambda ref: (len(ref.remote_id), ref.remote_id))

    async def list_changes(self, since: dt.datetime) -> Sequence[IssueState | IssueRemoved]:
        """Return the project's issues changed since then. A deleted or moved issue can't be seen here."""
        minutes = wire.minutes_ago(since, dt.datetime.now(dt.UTC))
        jql = f'project = {wire.quoted(self.settings.project)} AND updated >= "-{minutes}m" ORDER BY updated ASC'
        states = [self._seen(issue) async for issue in self._search(jql)]
        oldest = since - CLOCK_SKEW
        return tuple(seen for seen in states if seen and (seen.version is None or seen.version >= oldest))

    @property
    def calls(self) -> ApiClient:
        """Return the client, whose responses do not repeat our address and token."""
        return errors.RedactingClient(self.client, self.settings.private)

    # -- inside ------------------------------------------------------------------------------------------------

    def _seen(self, issue: Any) -> IssueState | None:
        return wire.seen(issue, self.settings.site, reasons=self.settings.reasons)

    async def _read(self, issue: IssueRef) -> Any:
        fields = ",".join(wire.FIELDS)
        response = await self.calls.request("GET", self._issue_path(issue), params={"fields": fields})
        await self._must(response, "the issue could not be read")
        raw = response.json()
        project = wire.project_of(raw)
        if project and project != self.settings.project:
            key = wire.text_at(raw, "key")
            raise IssueMoved(f"{issue.key} is {key} now, in another project", to=key, status=response.status)
        return raw

    async def _search(self, jql: str) -> AsyncIterator[Any]:
        """Yield every issue that a query finds, page by page."""
        asked: dict[str, Any] | None = {"jql": jql, "fields": list(wire.FIELDS), "maxResults": dialect.PAGE}
        while asked is not None:
            response = await self.calls.request("POST", self.dialect.search, json=asked)
            if response.status in {400, 404, 410}:
                _, text = errors.error_messages(response)
                raise Misconfigured(
                    f"the search failed: {text[:500]}", status=response.status, excerpt=response.text()
                )
            if not response.ok:
                raise self._problem(response, "the search failed")
            page = response.json()
            for issue in errors.listed(response, "issues"):
                yield issue
            asked = self.dialect.next_page(asked, page)

    async def _comments(self, issue: IssueRef, since: dt.datetime) -> AsyncIterator[Any]:
        """Yield the comments of an issue written since then, newest first, page by page.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-comments/#api-rest-api-3-issue-issueidorkey-comment-get
        """
        start = 0
        while True:
            params: dict[str, str | int] = {
                "expand": "properties",
                "orderBy": "-created",
                "startAt": start,
                "maxResults": dialect.PAGE,
            }
            response = await self.calls.request("GET", f"{self._issue_path(issue)}/comment", params=params)
            await self._must(response, "the comments could not be read")
            comments = errors.listed(response, "comments")
            for comment in comments:
                created = wire.time_of(wire.at(comment, "created"))
                if created and created < since:
                    return
                yield comment
            start += len(comments)
            total = wire.at(response.json(), "total")
            if not comments or (isinstance(total, int) and start >= total):
                return

    async def _marker_of(self, comment: Any, comment_id: str) -> str:
        """Return the marker in a comment's property.

        Lists contain properties on request, which is not documented for version 3; if the list lacks them, the
        property itself is requested.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-comment-properties/
        """
        if wire.at(comment, "properties") is not None:
            for item in wire.items_at(comment, "properties"):
                if wire.text_at(item, "key") == wire.PROPERTY:
                    return wire.text_at(item, "value", "marker")
            return ""
        path = f"{self.dialect.api}/comment/{quote(comment_id, safe='')}/properties/{wire.PROPERTY}"
        response = await self.calls.request("GET", path)
        if response.status == 404:
            return ""
        if not response.ok:
            raise self._problem(response, "the comment's property could not be read")
        return wire.text_at(response.json(), "value", "marker")

    async def _must(self, response: Response, message: str) -> None:
        """Raise the error of a response about one issue, unless it is a success.

        Jira answers 404 both for what does not exist and for what the account may not see. Before an issue counts as
        deleted, the project has to be visible.
        """
        if response.ok:
            return
        error = self._problem(response, message)
        if response.status == 404:
            path = f"{self.dialect.api}/project/{quote(self.settings.project, safe='')}"
            project = await self.calls.request("GET", path)
            if project.status == 404:
                raise Misconfigured(
                    f"the account can't see the project {self.settings.project}",
                    status=404,
                    excerpt=project.text(),
                )
            if not project.ok:
                raise self._problem(project, "the project could not be read")
        raise error

    def _problem(self, response: Response, message: str) -> PluginError:
        return errors.problem(response, message, now=dt.datetime.now(dt.UTC))

    def _issue_path(self, issue: IssueRef) -> str:
        return f"{self.dialect.api}/issue/{quote(issue.remote_id, safe='')}"

    def _comment_ref(self, issue: IssueRef, comment_id: str) -> CommentRef:
        url = f"{self.settings.site}/browse/{issue.key}?focusedCommentId={comment_id}" if issue.key else ""
        return CommentRef(remote_id=comment_id, url=url)


def _written_by(issue: Any, account_id: str) -> bool:
    author = wire.author_of(wire.at(issue, "fields"))
    return author is not None and author.account_id == account_id
