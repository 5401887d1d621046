"""Source kind for Bugsink: reads its alerts; uses its API for details, backfill and feedback."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from pointsman.plugin_api import (
    ApiClient,
    BackfillResult,
    CloseReason,
    CommentRef,
    Connection,
    EnrichmentResult,
    Finding,
    Marker,
    NotFound,
    PluginSettings,
    Problem,
    Report,
    Secret,
    Source,
    SourceCapabilities,
    State,
    standard_webhook_key,
    standard_webhook_matches,
)
from pointsman.plugin_api.helpers import text_at
from pointsman.sources.bugsink import payloads
from pointsman.sources.bugsink.api import BugsinkApi, HistoryEntry
from pointsman.sources.bugsink.check import check
from pointsman.sources.bugsink.trace import stack_trace
from pointsman.sources.json_access import time

HISTORIES = 400
"""Maximum number of issue histories that one backfill reads."""
_REASONS: Mapping[str, str] = {action: reason for reason, action in payloads.ACTIONS.items()}


class BugsinkSettings(PluginSettings, frozen=True, kw_only=True):
    """Settings of a Bugsink source. Without ``url`` and ``token`` its API is not used."""

    url: Annotated[str, Meta(description="Bugsink's address, such as https://bugsink.example.com")] = ""
    token: Annotated[
        Secret | None,
        Meta(description="A token of its API: issues:read, events:read, issues:triage, issues:comment"),
    ] = None
    project: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="The project's number; needed only before the first alert"),
    ] = None
    resolve: Annotated[
        Literal["resolve", "resolve-next", "resolve-latest", "no"],
        Meta(description="How an issue is resolved in Bugsink when its ticket is closed"),
    ] = "resolve"
    comment: Annotated[
        bool, Meta(description="Whether a comment in Bugsink links the issue at the tracker")
    ] = True
    poll_seconds: Annotated[
        float, Meta(ge=5, le=86_400, description="How often Bugsink is polled for lost alerts")
    ] = 300.0
    signing_secret: Annotated[
        Secret | None,
        Meta(description="Requires the signature of the messaging service kind Pointsman: whsec_..."),
    ] = None

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        if bool(self.url) != bool(self.token):
            raise ValueError("url and token belong together: set both, or neither")
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError("url must begin with https:// or http://")
        if self.signing_secret is not None:
            try:
                standard_webhook_key(self.signing_secret.reveal())
            except ValueError as error:
                raise ValueError(f"signing_secret {error}") from None


class Bugsink(Source[BugsinkSettings]):
    """Source kind for one Bugsink project."""

    kind: ClassVar[str] = "bugsink"
    title: ClassVar[str] = "Bugsink"
    api_version: ClassVar[int] = 1
    Settings = BugsinkSettings
    ticket_kind: ClassVar[Literal["alert", "support"]] = "alert"
    capabilities = SourceCapabilities(check=True)

    def __init__(self, settings: BugsinkSettings, client: ApiClient | None = None) -> None:
        super().__init__(settings, client)
        self._api = BugsinkApi(self.client)
        self._keys: tuple[bytes, ...] = ()
        if settings.signing_secret is not None:
            self._keys = (standard_webhook_key(settings.signing_secret.reveal()),)
        if settings.url:
            self.capabilities = SourceCapabilities(
                enrich=True,
                backfill=True,
                set_state=settings.resolve != "no",
                comment=settings.comment,
                find=True,
                check=True,
                poll_seconds=settings.poll_seconds,
            )

    @classmethod
    def connection(cls, settings: BugsinkSettings) -> Connection | None:
        """Return the connection to its API, or None if the settings name none."""
        if not settings.url or settings.token is None:
            return None
        token = Secret(f"Bearer {settings.token.reveal().strip()}")
        headers = {"Authorization": token, "Accept": Secret("application/json")}
        return Connection(base_url=settings.url, headers=headers)

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Return whether our messaging app signed the body; always true without a secret, as Bugsink signs nothing."""
        return not self._keys or standard_webhook_matches(headers, body, self._keys)

    def read_report(self, headers: Mapping[str, str], body: bytes, decoded: Any) -> Sequence[Report]:
        """Return the report of one alert."""
        del headers, body
        return [payloads.read(decoded)]

    # -- reading -----------------------------------------------------------------------------------------------

    async def enrich(self, problem: Problem) -> EnrichmentResult:
        """Return details from the event that triggered an alert (from the history, 2.6.2), else from the newest event."""
        issue = await self._api.issue(problem.id)
        event_id = (
            problem.event_id
            or await self._triggering_event(problem)
            or await self._api.newest_event(problem.id)
        )
        if not event_id:
            return EnrichmentResult(facts=_issue_facts(issue))
        try:
            event = await self._api.event(event_id)
        except NotFound:
            if not problem.event_id:
                raise
            # Bugsink deleted the old event meanwhile; use the newest event of the issue
            event = await self._api.event(await self._api.newest_event(problem.id))
        return _enrichment_of(event, issue)

    async def _triggering_event(self, problem: Problem) -> str:
        """Return the event that the history names for the newest alert with this action."""
        for entry in await self._api.history(problem.id) or ():
            if entry.reason == _REASONS.get(problem.action):
                return text_at(entry, "triggering_event")
        return ""

    async def backfill(self, since: dt.datetime, known: Problem | None) -> BackfillResult:
        """Return the alerts since a time, from recently seen issues and their histories.

        Before 2.6.2 there is no history: only new issues, and issues with new events, are found.
        """
        number = await self._api.project(self.settings.project, known.id if known is not None else "")
        # alerts contain Bugsink's own BASE_URL, which may differ from the configured url
        origin = payloads.instance_of(known.url if known is not None else "") or payloads.instance_of(
            self.settings.url
        )
        issues: list[Mapping[str, Any]] = []
        query: dict[str, str | int] = {"project": number, "sort": "last_seen", "order": "desc"}
        async for issue in self._api.pages("issues/", query, "listing issues"):
            seen = time(issue, "last_seen")
            if seen is not None and seen < since:
                break
            issues.append(issue)
        issues.reverse()
        alerts: list[tuple[dt.datetime, dict[str, Any]]] = []
        with_history, complete_until, read = True, None, 0
        for issue in issues:
            history: list[HistoryEntry] | None = None
            if with_history and not _has_only_first_alert(issue, since):
                if read >= HISTORIES:
                    complete_until = time(issue, "last_seen")
                    break
                read += 1
                try:
                    history = await self._api.history(text_at(issue, "id"))
                except NotFound:
                    continue
                with_history = history is not None
            alerts += self._alerts(issue, history, since, origin)
        alerts.sort(key=lambda alert: alert[0])
        return BackfillResult(bodies=[body for _, body in alerts], complete_until=complete_until)

    def _alerts(
        self, issue: Mapping[str, Any], history: list[HistoryEntry] | None, since: dt.datetime, origin: str
    ) -> Sequence[tuple[dt.datetime, dict[str, Any]]]:
        """Return the alerts that Bugsink sent for one issue, or should have sent."""
        first, last = time(issue, "first_seen"), time(issue, "last_seen")
        if history is not None:
            return [
                (
                    entry.at,
                    _custom_body(issue, entry.reason, entry.at, origin, text_at(entry, "triggering_event")),
                )
                for entry in history
                if entry.reason and entry.at is not None and entry.at >= since
            ]
        alerts = []
        if first is not None and first >= since:
            alerts.append((first, _custom_body(issue, "NEW", first, origin)))
        loud = not (issue.get("is_resolved") or issue.get("is_muted"))
        if last is not None and last != first and loud and self.capabilities.set_state:
            alerts.append((last, _custom_body(issue, payloads.BACKFILLED, last, origin)))
        return alerts

    # -- feedback ----------------------------------------------------------------------------------------------

    async def set_state(self, problem: Problem, state: State, reason: CloseReason | None) -> None:
        """Resolve or reopen an issue. An issue closed without a solution stays open in Bugsink and raises no new alerts."""
        if state == "open":
            await self._api.act(problem.id, "reopen", "2.4.0", "is not resolved")
            return
        if reason not in (None, "completed"):
            return
        how = self.settings.resolve
        if how == "resolve-latest":
            releases = (await self._api.issue(problem.id)).get("events_at")
            if releases == [""]:
                how = "resolve"  # a project without releases has no latest one
        await self._api.act(problem.id, how, "2.2.1", "already resolved")

    async def add_comment(self, problem: Problem, text: str, marker: Marker) -> CommentRef:
        """Add a comment; Bugsink shows it as plain text."""
        return CommentRef(await self._api.comment(problem.id, f"{text}\n{marker.text}"))

    async def find_comment(  # the history is read as a whole
        self,
        problem: Problem,
        marker: Marker,
        since: dt.datetime,  # noqa: ARG002
    ) -> Sequence[CommentRef]:
        """Return our comments with this marker from the issue's history, which exists since 2.6.2."""
        return [
            CommentRef(str(entry.get("id", "")))
            for entry in reversed(await self._api.history(problem.id) or ())
            if entry.get("kind") == "manual_annotation" and marker.text in text_at(entry, "comment")
        ]

    async def check(self, intake_url: str = "") -> Sequence[Finding]:
        """Return findings about the settings of Bugsink."""
        return await check(self._api, self.settings, intake_url, signed=bool(self._keys))


def _has_only_first_alert(issue: Mapping[str, Any], since: dt.datetime) -> bool:
    """Return whether an issue can have raised only its first alert."""
    first = time(issue, "first_seen")
    return first is not None and first >= since and issue.get("digested_event_count") == 1


def _custom_body(
    issue: Mapping[str, Any], reason: str, at: dt.datetime, origin: str, event: str = ""
) -> dict[str, Any]:
    """Return an alert as the kind *Custom* would have sent it at that moment."""
    kind, value = text_at(issue, "calculated_type"), text_at(issue, "calculated_value")
    line = value.partition("\n")[0]
    return {
        **issue,
        "title": f"{kind}: {line}" if kind and line and kind != "Log Message" else line or kind,
        "project_name": "",
        "url": f"{origin}/issues/issue/{text_at(issue, 'id')}/event/last/",
        "alert_reason": reason,
        "last_seen": at.isoformat().replace("+00:00", "Z"),
        "pointsman_event": event,
    }


def _enrichment_of(event: Mapping[str, Any], issue: Mapping[str, Any]) -> EnrichmentResult:
    """Return details of an event without its user, request, local variables, breadcrumbs and extra data."""
    data = event.get("data")
    details: Mapping[str, Any] = data if isinstance(data, dict) else {}
    tags = payloads.tags_of(details.get("tags"))
    level, environment = text_at(details, "level")[:40], text_at(details, "environment")[:200]
    server, release = text_at(details, "server_name")[:200], text_at(details, "release")[:250]
    facts = payloads.event_facts(environment=environment, level=level, server=server, tags=tags)
    return EnrichmentResult(
        code=stack_trace(details),
        facts=(*_issue_facts(issue), ("Release", release), *facts),
        tags=tags,
        level=level,
        environment=environment,
        release=release,
    )


def _issue_facts(issue: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return facts that the kind *Custom* contains and *Slack* does not."""
    return (
        ("Type", text_at(issue, "calculated_type")),
        ("Value", text_at(issue, "calculated_value")),
        ("Where", text_at(issue, "transaction")),
        ("Bugsink issue", text_at(issue, "friendly_id")),
    )
