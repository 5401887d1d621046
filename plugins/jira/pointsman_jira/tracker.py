"""The Jira tracker: the contract over the REST API.

https://developer.atlassian.com/cloud/jira/platform/rest/v3/intro/
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from pointsman.plugin_api import (
    CloseReason,
    CommentRef,
    Conflict,
    Connection,
    Draft,
    Finding,
    IssueRef,
    IssueState,
    Marker,
    Misconfigured,
    PluginError,
    Quota,
    Response,
    Secret,
    State,
    TrackerCapabilities,
    UnknownOutcome,
    WebhookEvent,
)
from pointsman_jira import checks, errors, transitions, webhook_events, webhook_registration, wire
from pointsman_jira.creation import Creation
from pointsman_jira.reading import JiraReader
from pointsman_jira.settings import JiraSettings

_CREATE_TRIES = 4


class JiraTracker(JiraReader):
    """A project on a Jira site. An issue is closed if its status category is ``done``."""

    kind: ClassVar[str] = "jira"
    title: ClassVar[str] = "Jira"
    api_version: ClassVar[int] = 1
    Settings = JiraSettings
    # The search index lags behind by seconds to minutes, so one search is not enough before an issue is created again.
    # https://developer.atlassian.com/cloud/jira/platform/search-and-reconcile/
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
        close_reasons=True,
        settle_seconds=(15, 60, 300),
        # writes to one issue: https://developer.atlassian.com/cloud/jira/platform/rate-limiting/
        quotas=(Quota("issue", 20, 2.0), Quota("issue-long", 100, 30.0)),
    )

    @classmethod
    def connection(cls, settings: Any) -> Connection:
        """Return the site, or the URL for tokens with scopes."""
        return Connection(base_url=settings.base, headers={"Authorization": settings.authorization})

    # -- writing -----------------------------------------------------------------------------------------------

    async def create_issue(self, draft: Draft) -> IssueRef:
        """Create an issue with the marker as a label and as the property ``pointsman``, and the fields of the
        settings.

        An assignee whom Jira refuses is left out, and the notes of the result say so.
        """
        new = await asyncio.to_thread(Creation, self.settings, self.dialect, draft)
        for _ in range(_CREATE_TRIES):
            response = await self.calls.request("POST", f"{self.dialect.api}/issue", json=new.request)
            if not new.mend(response):
                break
        if response.status == 404:
            raise Misconfigured(
                "Jira does not know the call that makes issues: is the address right?",
                status=404,
                excerpt=response.text(),
            )
        if not response.ok:
            raise self._problem(response, "the issue was not made")
        ref = wire.ref_of(response.json(), self.settings.site)
        if ref is None:
            raise UnknownOutcome(
                "Jira made an issue and did not say which", status=response.status, excerpt=response.text()
            )
        return msgspec.structs.replace(ref, notes=tuple(new.notes))

    async def update_issue(self, issue: IssueRef, draft: Draft) -> None:
        """Replace summary and description. Jira answers with an empty 204."""
        path = self._issue_path(issue)

        async def put(description: Any) -> Response:
            fields = {"summary": wire.summary(draft.title), "description": description}
            return await self.calls.request("PUT", path, json={"fields": fields})

        response = await put(await asyncio.to_thread(self.dialect.text, draft.body))
        if errors.is_about_format(response):
            response = await put(self.dialect.plain(draft.body))
        await self._must(response, "the issue was not changed")
        errors.must_be_empty(response)

    async def add_comment(self, issue: IssueRef, body: str, marker: Marker) -> CommentRef:
        """Add a comment with the marker as its property ``pointsman``."""
        path = f"{self._issue_path(issue)}/comment"

        async def post(text: Any) -> Response:
            body = {"body": text, "properties": [wire.marker_property(marker.text)]}
            return await self.calls.request("POST", path, json=body)

        body = body if body.strip() else "(empty)"
        response = await post(await asyncio.to_thread(self.dialect.text, body))
        if errors.is_about_format(response):
            response = await post(self.dialect.plain(body))
        await self._must(response, "the comment was not made")
        comment_id = wire.text_at(response.json(), "id")
        if not comment_id:
            raise UnknownOutcome("Jira made a comment and did not say which", status=response.status)
        return self._comment_ref(issue, comment_id)

    async def delete_comment(self, issue: IssueRef, comment: CommentRef) -> None:
        """Delete a comment.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-comments/#api-rest-api-3-issue-issueidorkey-comment-id-delete
        """
        path = f"{self._issue_path(issue)}/comment/{quote(comment.remote_id, safe='')}"
        response = await self.calls.request("DELETE", path)
        await self._must(response, "the comment was not deleted")

    async def set_state(self, issue: IssueRef, state: State, reason: CloseReason | None) -> IssueState | None:
        """Move the issue along a transition to a status of the wanted category.

        The available transitions depend on the workflow, the status and the account; their ids are texts. Jira
        answers with an empty 204, so the issue is read once more for its version.
        """
        before = await self._read(issue)
        if wire.state_of(wire.at(before, "fields")) == state:
            return self._seen(before)
        path = f"{self._issue_path(issue)}/transitions"
        response = await self.calls.request("GET", path, params={"expand": "transitions.fields"})
        await self._must(response, "the transitions could not be read")
        errors.listed(response, "transitions")  # an answer without the list is not Jira's
        way, fields = transitions.choose(
            transitions.read(response.json()), state, reason, checks.wish(self.settings, state)
        )
        response = await self._go(path, way, fields)
        if response.status == 400 and "resolution" in fields and fields["resolution"] is None:
            # Some workflows clear the resolution themselves and refuse it from others.
            fields.pop("resolution")
            response = await self._go(path, way, fields)
        if response.status == 400 and await self._moved_on(issue, before):
            _, text = errors.error_messages(response)
            raise Conflict(
                f"the transition {way.name} was not made, somebody else moved the issue meanwhile: {text[:500]}",
                status=400,
                excerpt=response.text(),
            )
        await self._must(response, f"the transition {way.name} was not made")
        errors.must_be_empty(response)
        try:
            return self._seen(await self._read(issue))
        except PluginError:
            return None  # the transition is done, even if the issue can't be read now

    async def _go(self, path: str, way: transitions.Transition, fields: Mapping[str, Any]) -> Response:
        body: dict[str, Any] = {"transition": {"id": way.id}}
        if fields:
            body["fields"] = dict(fields)
        return await self.calls.request("POST", path, json=body)

    async def _moved_on(self, issue: IssueRef, before: Any) -> bool:
        """Return whether the status has changed: then the transitions that were read are outdated."""
        try:
            now = await self._read(issue)
        except PluginError:
            return False
        return wire.text_at(now, "fields", "status", "id") != wire.text_at(before, "fields", "status", "id")

    # -- checks ------------------------------------------------------------------------------------------------

    async def check(self, webhook_url: str = "") -> Sequence[Finding]:  # noqa: ARG002
        """Check account, project, permissions, issue type and its fields, transitions to close and reopen; change
        nothing.
        """
        return await checks.check(self.settings, self.calls, self.dialect)

    async def ensure_webhook(self, url: str, secret: Secret) -> Finding:
        """Create or repair the webhook, which only administrators may; otherwise say what an administrator has to do."""
        return await webhook_registration.ensure(self.settings, self.calls, url, secret)

    # -- webhooks ----------------------------------------------------------------------------------------------

    @classmethod
    def verify_webhook(cls, headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
        """Return whether the call is signed with one of the secrets."""
        return webhook_events.verify(headers, body, secrets)

    @classmethod
    def webhook_id(cls, headers: Mapping[str, str], body: bytes) -> str | None:  # noqa: ARG003 - it is in a header
        """Return Jira's own id of the call."""
        return webhook_events.identifier(headers)

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:  # noqa: ARG002 - all is in the body
        """Return what the call reports about our project."""
        return webhook_events.read(
            body, project=self.settings.project, site=self.settings.site, reasons=self.settings.reasons
        )
