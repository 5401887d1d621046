"""The Jira tracker: the contract over the REST API v3.

https://developer.atlassian.com/cloud/jira/platform/rest/v3/intro/
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from pointsman.plugin_api import (
    Actor,
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
    PluginError,
    PluginSettings,
    State,
    Tracker,
    TrackerClient,
    UnknownOutcome,
    WebhookNews,
)
from pointsman_jira import adf, checks, webhook, wire
from pointsman_jira.settings import JiraSettings

API = "/rest/api/3"
PAGE = 100
CLOCK_SKEW = dt.timedelta(minutes=5)


class JiraTracker(Tracker):
    """A project on Jira Cloud. Closed is what the status category ``done`` says."""

    kind: ClassVar[str] = "jira"
    title: ClassVar[str] = "Jira Cloud"
    api_version: ClassVar[int] = 1
    Settings: ClassVar[type[PluginSettings]] = JiraSettings
    # The search index lags behind by seconds to minutes, so one look is not enough before an issue is made anew.
    # https://developer.atlassian.com/cloud/jira/platform/search-and-reconcile/
    capabilities: ClassVar[Capabilities] = Capabilities(
        webhooks=True, find=True, list_changes=True, close_reasons=True, settle_seconds=(15, 60, 300)
    )

    settings: JiraSettings

    def __init__(self, settings: JiraSettings, client: TrackerClient) -> None:
        super().__init__(settings, client)
        self._me: Actor | None = None

    @classmethod
    def connection(cls, settings: Any) -> Connection:
        """The site, or the address for tokens with scopes."""
        return Connection(base_url=settings.base, headers={"Authorization": settings.authorization})

    # -- writing -----------------------------------------------------------------------------------------------

    async def create_issue(self, draft: Draft) -> IssueRef:
        """A new issue with the marker as a label and as the property ``pointsman``."""
        rich = await asyncio.to_thread(adf.document, draft.body)
        answer = await self._create(draft, rich)
        if wire.is_about_format(answer):
            # A 400 proves that nothing was made, so the plain form may follow at once.
            answer = await self._create(draft, adf.plain_document(draft.body))
        if not answer.ok:
            if answer.status == 404:
                raise Misconfigured(
                    "Jira does not know the call that makes issues: is the address right?",
                    status=404,
                    excerpt=answer.text(),
                )
            raise self._problem(answer, "the issue was not made")
        ref = wire.ref_of(answer.json(), self.settings.site)
        if ref is None:
            raise UnknownOutcome(
                "Jira made an issue and did not say which", status=answer.status, excerpt=answer.text()
            )
        return ref

    async def _create(self, draft: Draft, description: adf.Node) -> Answer:
        fields = {
            "project": {"key": self.settings.project},
            "issuetype": {"name": self.settings.issue_type},
            "summary": wire.summary(draft.title),
            "description": description,
            "labels": wire.labels((*self.settings.labels, *draft.labels), draft.marker.text),
        }
        body = {"fields": fields, "properties": [wire.marker_property(draft.marker.text)]}
        return await self.client.request("POST", f"{API}/issue", json=body)

    async def update_issue(self, issue: IssueRef, draft: Draft) -> None:
        """Another summary and description. Jira answers with an empty 204."""
        path = _issue_path(issue)

        async def put(description: adf.Node) -> Answer:
            fields = {"summary": wire.summary(draft.title), "description": description}
            return await self.client.request("PUT", path, json={"fields": fields})

        answer = await put(await asyncio.to_thread(adf.document, draft.body))
        if wire.is_about_format(answer):
            answer = await put(adf.plain_document(draft.body))
        await self._must(answer, "the issue was not changed")

    async def add_comment(self, issue: IssueRef, body: str, marker: Marker) -> CommentRef:
        """A new comment with the marker as its property ``pointsman``."""
        path = f"{_issue_path(issue)}/comment"

        async def post(text: adf.Node) -> Answer:
            said = {"body": text, "properties": [wire.marker_property(marker.text)]}
            return await self.client.request("POST", path, json=said)

        body = body if body.strip() else "(empty)"
        answer = await post(await asyncio.to_thread(adf.document, body))
        if wire.is_about_format(answer):
            answer = await post(adf.plain_document(body))
        await self._must(answer, "the comment was not made")
        comment_id = wire.text_at(answer.json(), "id")
        if not comment_id:
            raise UnknownOutcome("Jira made a comment and did not say which", status=answer.status)
        return self._comment_ref(issue, comment_id)

    async def set_state(self, issue: IssueRef, state: State, reason: CloseReason | None) -> IssueSeen | None:
        """Move the issue along a transition whose status is of the wanted category.

        Which transitions there are depends on the workflow, the status and the account; their ids are texts. Jira
        answers with an empty 204, so the issue is read once more for its version.
        """
        before = await self._read(issue)
        if wire.state_of(wire.at(before, "fields")) == state:
            return wire.seen(before, self.settings.site)
        path = f"{_issue_path(issue)}/transitions"
        answer = await self.client.request("GET", path, params={"expand": "transitions.fields"})
        await self._must(answer, "the transitions could not be read")
        preferred = self.settings.closed_status if state == "closed" else self.settings.open_status
        way, fields = wire.choose_transition(
            wire.transitions(answer.json()), state, reason, preferred.strip()
        )
        body: dict[str, Any] = {"transition": {"id": way.id}}
        if fields:
            body["fields"] = fields
        answer = await self.client.request("POST", path, json=body)
        await self._must(answer, f"the transition {way.name} was not made")
        try:
            return wire.seen(await self._read(issue), self.settings.site)
        except PluginError:
            return None  # it is done; that it can't be read now changes nothing about that

    # -- reading -----------------------------------------------------------------------------------------------

    async def who_am_i(self) -> Actor:
        """The account of the token, asked for once.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-myself/#api-rest-api-3-myself-get
        """
        if self._me is None:
            answer = await self.client.request("GET", f"{API}/myself")
            if not answer.ok:
                raise self._problem(answer, "the account could not be read")
            self._me = wire.actor_of(answer.json())
            if self._me is None:
                raise Misconfigured(
                    "Jira does not say which account the token belongs to", excerpt=answer.text()
                )
        return self._me

    async def read_issue(self, issue: IssueRef) -> IssueSeen:
        """The issue by its id, which stays the same when the issue moves and its key changes."""
        seen = wire.seen(await self._read(issue), self.settings.site)
        if seen is None:
            raise UnknownOutcome(f"Jira gave {issue.key} without an id or a status")
        return seen

    async def _read(self, issue: IssueRef) -> Any:
        fields = ",".join(wire.FIELDS)
        answer = await self.client.request("GET", _issue_path(issue), params={"fields": fields})
        await self._must(answer, "the issue could not be read")
        found = answer.json()
        project = wire.project_of(found)
        if project and project != self.settings.project:
            key = wire.text_at(found, "key")
            raise Moved(f"{issue.key} is {key} now, in another project", to=key, status=answer.status)
        return found

    async def find_issue(self, marker: Marker, since: dt.datetime) -> Sequence[IssueRef]:
        """Issues that we made and that have the marker as a label.

        ``since`` is not asked for: the label names one delivery, and a time in JQL is read in the account's zone.
        """
        del since
        me = (await self.who_am_i()).account_id
        jql = f"project = {wire.quoted(self.settings.project)} AND labels = {wire.quoted(marker.text)} ORDER BY key ASC"
        found = []
        async for issue in self._search(jql):
            ref = wire.ref_of(issue, self.settings.site)
            if ref and marker.text in wire.items_at(issue, "fields", "labels") and _made_by(issue, me):
                found.append(ref)
        return sorted(found, key=lambda ref: int(ref.remote_id))

    async def find_comment(self, issue: IssueRef, marker: Marker, since: dt.datetime) -> Sequence[CommentRef]:
        """Our comments on the issue that have the marker in their property."""
        me = (await self.who_am_i()).account_id
        found = []
        async for comment in self._comments(issue, since - CLOCK_SKEW):
            comment_id = wire.text_at(comment, "id")
            if not comment_id or wire.text_at(comment, "author", "accountId") != me:
                continue
            if await self._marker_of(comment, comment_id) == marker.text:
                found.append(self._comment_ref(issue, comment_id))
        return sorted(found, key=lambda ref: (len(ref.remote_id), ref.remote_id))

    async def list_changes(self, since: dt.datetime) -> Sequence[IssueSeen | IssueGone]:
        """The project's issues changed since then. One that was deleted or moved away can't be seen here."""
        minutes = wire.minutes_ago(since, dt.datetime.now(dt.UTC))
        jql = f'project = {wire.quoted(self.settings.project)} AND updated >= "-{minutes}m" ORDER BY updated ASC'
        found = [wire.seen(issue, self.settings.site) async for issue in self._search(jql)]
        return tuple(seen for seen in found if seen)

    async def check(self) -> Sequence[Finding]:
        """Account, project, permissions, issue type and its fields; nothing is written."""
        return await checks.check(self.settings, self.client, API)

    # -- webhooks ----------------------------------------------------------------------------------------------

    @classmethod
    def verify_webhook(cls, headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
        """Whether the call is signed with one of the secrets."""
        return webhook.verify(headers, body, secrets)

    @classmethod
    def webhook_id(cls, headers: Mapping[str, str], body: bytes) -> str | None:  # noqa: ARG003 - it is in a header
        """Jira's own id of the call."""
        return webhook.identifier(headers)

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookNews:  # noqa: ARG002 - all is in the body
        """What the call says about our project."""
        return webhook.read(body, project=self.settings.project, site=self.settings.site)

    # -- inside ------------------------------------------------------------------------------------------------

    async def _search(self, jql: str) -> AsyncIterator[Any]:
        """Every issue that a query finds, page by page.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-search/#api-rest-api-3-search-jql-post
        """
        body: dict[str, Any] = {"jql": jql, "fields": list(wire.FIELDS), "maxResults": PAGE}
        while True:
            answer = await self.client.request("POST", f"{API}/search/jql", json=body)
            if answer.status in {400, 404, 410}:
                _, words = wire.said(answer)
                raise Misconfigured(
                    f"the search failed: {words[:500]}", status=answer.status, excerpt=answer.text()
                )
            if not answer.ok:
                raise self._problem(answer, "the search failed")
            page = answer.json()
            for issue in wire.items_at(page, "issues"):
                yield issue
            token = wire.text_at(page, "nextPageToken")
            if not token or wire.at(page, "isLast") is True or token == body.get("nextPageToken"):
                return
            body["nextPageToken"] = token

    async def _comments(self, issue: IssueRef, since: dt.datetime) -> AsyncIterator[Any]:
        """The comments of an issue made since then, newest first, page by page.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-comments/#api-rest-api-3-issue-issueidorkey-comment-get
        """
        start = 0
        while True:
            params: dict[str, str | int] = {
                "expand": "properties",
                "orderBy": "-created",
                "startAt": start,
                "maxResults": PAGE,
            }
            answer = await self.client.request("GET", f"{_issue_path(issue)}/comment", params=params)
            await self._must(answer, "the comments could not be read")
            comments = wire.items_at(answer.json(), "comments")
            for comment in comments:
                created = wire.time_of(wire.at(comment, "created"))
                if created and created < since:
                    return
                yield comment
            start += len(comments)
            total = wire.at(answer.json(), "total")
            if not comments or (isinstance(total, int) and start >= total):
                return

    async def _marker_of(self, comment: Any, comment_id: str) -> str:
        """The marker in a comment's property. Lists show it when asked to, which is not documented for version 3; a
        list without it is made good by asking for the property itself.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-comment-properties/
        """
        if wire.at(comment, "properties") is not None:
            for item in wire.items_at(comment, "properties"):
                if wire.text_at(item, "key") == wire.PROPERTY:
                    return wire.text_at(item, "value", "marker")
            return ""
        path = f"{API}/comment/{quote(comment_id, safe='')}/properties/{wire.PROPERTY}"
        answer = await self.client.request("GET", path)
        if answer.status == 404:
            return ""
        if not answer.ok:
            raise self._problem(answer, "the comment's property could not be read")
        return wire.text_at(answer.json(), "value", "marker")

    async def _must(self, answer: Answer, what: str) -> None:
        """Raise what an answer about one issue stands for, unless it went well.

        Jira answers 404 both for what is not there and for what the account may not see. So before an issue counts
        as gone, the project has to be there.
        """
        if answer.ok:
            return
        error = self._problem(answer, what)
        if answer.status == 404:
            project = await self.client.request(
                "GET", f"{API}/project/{quote(self.settings.project, safe='')}"
            )
            if project.status == 404:
                raise Misconfigured(
                    f"the account can't see the project {self.settings.project}",
                    status=404,
                    excerpt=project.text(),
                )
            if not project.ok:
                raise self._problem(project, "the project could not be read")
        raise error

    def _problem(self, answer: Answer, what: str) -> PluginError:
        return wire.problem(answer, what, now=dt.datetime.now(dt.UTC))

    def _comment_ref(self, issue: IssueRef, comment_id: str) -> CommentRef:
        url = f"{self.settings.site}/browse/{issue.key}?focusedCommentId={comment_id}" if issue.key else ""
        return CommentRef(remote_id=comment_id, url=url)


def _issue_path(issue: IssueRef) -> str:
    return f"{API}/issue/{quote(issue.remote_id, safe='')}"


def _made_by(issue: Any, account_id: str) -> bool:
    author = wire.author_of(wire.at(issue, "fields"))
    return author is not None and author.account_id == account_id
