"""From trackers: what a webhook or a poll tells becomes the ticket's standing, events, and further deliveries.

A webhook is a hint that may be late, doubled, out of order or replayed. It is known again by its delivery id and by
its body; what is older than what we know is left alone; only a change against what we knew is news; and what fits the
last write we sent is its echo. Programs that answer each other without end are stopped by a count, never by who they are.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from pointsman.bus.publish import publish
from pointsman.domain.change_origin import LastStateWrite, Origin, by_our_account, origin_of
from pointsman.domain.states import DeliveryKind, TicketStatus, WebhookState
from pointsman.domain.ticket import Changes, DeliveryTargets, Ticket, apply_state
from pointsman.logs import logger
from pointsman.plugin_api import (
    CloseReason,
    IgnoredWebhook,
    IssueRef,
    IssueRemoved,
    IssueState,
    State,
    WebhookEvent,
)
from pointsman.plugin_host.snapshot import ConfigReloader, LiveDestination
from pointsman.storage import reconcile, sources, webhooks
from pointsman.storage.db import Connection, Database, Row
from pointsman.storage.delivery_writer import lock_ticket, lock_tracker_destinations
from pointsman.storage.ids import uuid7
from pointsman.storage.marker_observations import sight
from pointsman.sync.source_feedback import promise_state, tell_closed

log = logger("inbound")

LOOP_CHANGES = 6
"""A ticket that trackers and reports close and reopen more often than this in ten minutes goes round in a circle."""
KEPT_HEADERS = ("content-type", "user-agent", "x-forgejo-event", "x-gitea-event", "x-github-event")


class UpdateResult(msgspec.Struct, frozen=True):
    """What became of a piece of news."""

    state: int
    note: str
    ticket_id: uuid.UUID | None = None
    changed: bool = False
    parked: tuple[str, ...] = ()
    """Destinations whose lanes of the ticket were parked, for it goes round in a circle."""


class TrackerUpdates:
    """Applies news; each piece in one transaction."""

    def __init__(self, database: Database, reloader: ConfigReloader) -> None:
        self._database = database
        self._reloader = reloader

    async def webhook(
        self,
        destination: LiveDestination,
        headers: Mapping[str, str],
        body: bytes,
        delivery_id: str | None,
        news: WebhookEvent | None,
    ) -> UpdateResult:
        """Keep a verified webhook and apply what it says; a known one changes nothing.

        ``news`` is None where the plugin failed to read it.
        """
        webhook_id = uuid7()
        ref = news.ref if isinstance(news, IssueState | IssueRemoved) else None

        async def once(con: Connection) -> UpdateResult:
            if not await webhooks.keep(con, destination.id, webhook_id, delivery_id, body):
                return UpdateResult(WebhookState.NOTHING_TO_DO, "known already")
            if news is None:
                heard = UpdateResult(WebhookState.PARKED, "the plugin could not read it")
            else:
                heard = await self._apply(con, destination, news)
            if not isinstance(news, IgnoredWebhook):
                await webhooks.write(
                    con,
                    destination.id,
                    webhook_id,
                    delivery_id=delivery_id,
                    headers={
                        name: headers[name] for name in headers if name in KEPT_HEADERS or "event" in name
                    },
                    body=body,
                    remote_id=ref.remote_id if ref else None,
                    remote_key=ref.key if ref else None,
                    state=heard.state,
                    note=heard.note,
                )
            return heard

        heard = await self._again(once)
        if isinstance(news, IssueState):
            await self._sight(destination, news, "webhook")
        if heard.state == WebhookState.WAITING and ref is not None:
            # it may have been linked between our look and our commit: then whoever linked it saw nothing waiting
            link = await webhooks.link_of(self._database, destination.id, ref.remote_id, ref.key)
            if link is not None:
                return await self._look_again(destination, ref) or heard
        return heard

    async def _sight(self, destination: LiveDestination, news: IssueState, seen_by: str) -> None:
        """An issue that our own account wrote, with a marker of ours, settles a doubt sooner than any search.

        A marker alone proves nothing: people copy bodies.
        """
        account = destination.account
        if account is None or news.author is None or news.author.account_id != account.account_id:
            return
        for text in news.markers:
            marker = self._reloader.current.marker_from(text)
            if marker is not None:
                issue = (news.ref.remote_id, news.ref.key, news.ref.url)
                await sight(self._database, destination.id, marker, issue, seen_by)

    async def seen(self, destination: LiveDestination, news: IssueState | IssueRemoved) -> UpdateResult:
        """Apply what a poll saw of one issue."""
        [heard] = await self.seen_all(destination, [news])
        return heard

    async def seen_all(
        self,
        destination: LiveDestination,
        news: Sequence[IssueState | IssueRemoved],
        *,
        asked_at: dt.datetime | None = None,
    ) -> list[UpdateResult]:
        """Apply what a poll saw that began at ``asked_at`` (the database's time): what a write of ours has changed since may
        have been read before it. What is known already costs one look, at all of them together.
        """
        if not news:
            return []
        links = await webhooks.links_of(
            self._database, destination.id, [(one.ref.remote_id, one.ref.key) for one in news]
        )
        return [
            await self._saw(destination, one, link, asked_at) for one, link in zip(news, links, strict=True)
        ]

    async def _saw(
        self,
        destination: LiveDestination,
        news: IssueState | IssueRemoved,
        link: Row | None,
        asked_at: dt.datetime | None,
    ) -> UpdateResult:
        if link is None:
            if isinstance(news, IssueState):
                await self._sight(destination, news, "listing")
            return UpdateResult(WebhookState.WAITING, "no ticket has this issue")
        if _known(link, news):
            said = news.state if isinstance(news, IssueState) else "gone"
            return UpdateResult(WebhookState.NOTHING_TO_DO, f"{said}, as known", link["ticket_id"])
        return await self._again(lambda con: self._apply(con, destination, news, asked_at=asked_at))

    async def found(
        self, destination: LiveDestination, news: IssueState | IssueRemoved, asked_at: dt.datetime
    ) -> UpdateResult:
        """Apply how an issue stood when it was read at ``asked_at`` or later (the database's time), however we knew it,
        unless a delivery of ours is about to change it, or has since.
        """
        return await self._again(
            lambda con: self._apply(con, destination, news, just_read=True, asked_at=asked_at)
        )

    async def by_person(
        self, ticket_id: uuid.UUID, state: State, reason: CloseReason | None, who: str
    ) -> UpdateResult:
        """Close or reopen a ticket because somebody asked for it here."""

        async def once(con: Connection) -> UpdateResult:
            return await self._transition(con, ticket_id, state, reason, seen_at=None, by={"by": who})

        return await self._again(once)

    async def linked(self, destination_id: int, issue: IssueRef) -> None:
        """An issue was linked: look again at webhooks that came before."""
        destination = self._reloader.current.destinations.get(destination_id)
        if destination is not None and destination.tracker is not None:
            await self._look_again(destination, issue)

    async def _look_again(self, destination: LiveDestination, ref: IssueRef) -> UpdateResult | None:
        """Apply webhooks that waited for their issue's link, oldest first; what became of the last, None without any."""
        heard = None
        rows = await webhooks.waiting(self._database, destination.id, ref.remote_id, ref.key)
        for row in rows:
            headers = msgspec.json.decode(row["headers"])
            said = destination.require_tracker().read_webhook(headers, row["body"])
            if isinstance(said, IgnoredWebhook):
                continue
            heard = await self.seen(destination, said)
            await webhooks.settle(self._database, row["received_at"], row["id"], heard.state, heard.note)
        return heard

    async def _again(self, once: Callable[[Connection], Awaitable[UpdateResult]]) -> UpdateResult:
        heard = await self._database.run_transaction(once)
        if heard.parked:
            log.error(
                "ticket goes round in a circle: its lanes are parked",
                ticket=str(heard.ticket_id),
                destinations=list(heard.parked),
                next_step="find what answers every change with another one, stop it, then"
                " `pointsman deliveries --state parked` and `pointsman replay`",
            )
        return heard

    async def _apply(
        self,
        con: Connection,
        destination: LiveDestination,
        news: WebhookEvent,
        *,
        just_read: bool = False,
        asked_at: dt.datetime | None = None,
    ) -> UpdateResult:
        if isinstance(news, IgnoredWebhook):
            return UpdateResult(WebhookState.NOTHING_TO_DO, news.reason)
        link = await webhooks.link_of(con, destination.id, news.ref.remote_id, news.ref.key)
        if link is None:
            return UpdateResult(WebhookState.WAITING, "no ticket has this issue")
        # the ticket first, then what belongs to it: the order in which reports lock
        ticket = await lock_ticket(con, link["ticket_id"])
        known = await webhooks.lock_link(con, link["lane_id"])
        if ticket is None or known is None:
            return UpdateResult(WebhookState.NOTHING_TO_DO, "no ticket has this issue")
        if isinstance(news, IssueRemoved):
            await webhooks.orphan(con, link["lane_id"])
            return UpdateResult(
                WebhookState.APPLIED, f"the issue is gone{f' to {news.moved_to}' if news.moved_to else ''}", ticket.id
            )
        if just_read and await reconcile.state_waits(con, link["lane_id"]):
            return UpdateResult(WebhookState.NOTHING_TO_DO, "a delivery of ours is to change it", ticket.id)
        if await self._overtaken(con, destination, news, link["lane_id"], known, asked_at):
            return UpdateResult(WebhookState.NOTHING_TO_DO, f"{news.state}, as it was before a write of ours", ticket.id)
        heard = await self._stands(con, destination, news, link, known, just_read=just_read)
        if heard is not None:
            return heard
        by: dict[str, Any] = {"destination": destination.slug, "issue": news.ref.key or link["remote_key"]}
        if news.actor is not None:
            by["by"] = news.actor.name or news.actor.account_id
        return await self._transition(
            con, ticket.id, news.state, news.close_reason, seen_at=destination.id, by=by
        )

    async def _overtaken(
        self,
        con: Connection,
        destination: LiveDestination,
        news: IssueState,
        lane_id: int,
        known: Row,
        asked_at: dt.datetime | None,
    ) -> bool:
        """Whether the news may be how the issue stood before our last write. Trackers count in whole seconds: of two
        changes within one the version does not say which was first. Whatever is passed over is asked for again.
        """
        if known["remote_state"] == _status(news):
            return False
        versions = news.version, known["remote_version"]
        if versions[0] is not None and versions[1] is not None and versions[0] > versions[1]:
            return False
        if asked_at is not None:
            return await reconcile.state_sent_since(con, lane_id, asked_at)
        if None in versions or not by_our_account(news, destination.account):
            return False
        undoing = DeliveryKind.REOPEN if news.state == "closed" else DeliveryKind.CLOSE
        row = await webhooks.last_state_sent(con, lane_id, undoing)
        return row is not None and row["answered"] and row["lately"] and not row["superseded"]

    async def _stands(
        self,
        con: Connection,
        destination: LiveDestination,
        news: IssueState,
        link: Row,
        known: Row,
        *,
        just_read: bool,
    ) -> UpdateResult | None:
        """Remember how an issue stands; None if that is news to its ticket."""
        remote_state = int(_status(news))
        ref = IssueRef(link["remote_id"], news.ref.key or link["remote_key"], news.ref.url)
        origin = await self._origin(con, destination, news, link["lane_id"], known)
        if origin is Origin.OUTDATED and not just_read:
            note = f"{news.state} by a write of ours that was undone since"
            return UpdateResult(WebhookState.NOTHING_TO_DO, note, link["ticket_id"])
        fresh = await webhooks.see(
            con, link["lane_id"], remote_state=remote_state, version=news.version, key=ref.key, url=ref.url
        )
        if not fresh:
            return UpdateResult(WebhookState.NOTHING_TO_DO, "older than what is known", link["ticket_id"])
        if just_read:
            return None
        if origin is None:
            return UpdateResult(WebhookState.NOTHING_TO_DO, f"{news.state}, as known", link["ticket_id"])
        if origin is Origin.OWN:
            return UpdateResult(WebhookState.NOTHING_TO_DO, f"{news.state} by our own write", link["ticket_id"])
        if origin is Origin.SHARED_ACCOUNT:
            log.info(
                "our account changed an issue, and not by a write of ours",
                destination=destination.slug,
                ticket=str(link["ticket_id"]),
                issue=ref.key,
                state=news.state,
            )
        return None

    async def _origin(
        self, con: Connection, destination: LiveDestination, news: IssueState, lane_id: int, known: Row
    ) -> Origin | None:
        """Whose doing the news is, None if the issue stands as it is known; ``known`` is how it stood before."""
        if known["remote_state"] == _status(news) and known["state"] == 1:
            return None
        doing = DeliveryKind.CLOSE if news.state == "closed" else DeliveryKind.REOPEN
        row = await webhooks.last_state_sent(con, lane_id, doing)
        sent = LastStateWrite(row["answered"], row["lately"], row["superseded"]) if row is not None else None
        return origin_of(news, destination.account, sent, known["remote_version"])

    async def _transition(
        self,
        con: Connection,
        ticket_id: uuid.UUID,
        state: State,
        reason: CloseReason | None,
        *,
        seen_at: int | None,
        by: dict[str, Any],
    ) -> UpdateResult:
        ticket = await lock_ticket(con, ticket_id)
        if ticket is None:
            return UpdateResult(WebhookState.NOTHING_TO_DO, "no such ticket")
        snapshot = self._reloader.current
        trackers = (await lock_tracker_destinations(con, [ticket_id]))[ticket_id]
        decided = Changes()
        changed = apply_state(
            ticket, state, reason, DeliveryTargets(trackers, snapshot.mail_id), decided, seen_at=seen_at, by=by
        )
        problem = await self._tell_source(con, ticket, state, decided) if changed else None
        listed = await publish(con, decided, {ticket.id: ticket}, snapshot.marker_of)
        place, source = snapshot.feedback_destinations.get(ticket.source_id), snapshot.source_of(ticket.source_id)
        if problem is not None and place is not None:
            await sources.link_back(con, place, [problem])
        if listed and place is not None and source is not None:
            await tell_closed(con, listed, place, source.plugin, snapshot.marker_of)
        verb = "closed" if state == "closed" else "reopened"
        if not changed:
            return UpdateResult(WebhookState.NOTHING_TO_DO, f"ticket is {state} already", ticket_id)
        parked = await self._stop_circle(con, ticket_id) if seen_at is not None else ()
        note = f"ticket {verb}{'; its lanes are parked: loop' if parked else ''}"
        return UpdateResult(WebhookState.APPLIED, note, ticket_id, changed, parked)

    async def _tell_source(
        self, con: Connection, ticket: Ticket, state: State, decided: Changes
    ) -> Row | None:
        """Promise to tell the ticket's source of the change, if it can be told; what it calls the problem then."""
        snapshot = self._reloader.current
        place, source = snapshot.feedback_destinations.get(ticket.source_id), snapshot.source_of(ticket.source_id)
        if place is None or source is None:
            return None
        problem = await sources.problem_of(con, ticket.id, place)
        if problem is None or not promise_state(ticket, decided, state, place, source.plugin):
            return None
        return problem

    async def _stop_circle(self, con: Connection, ticket_id: uuid.UUID) -> tuple[str, ...]:
        """Park a ticket's lanes once it changes too often by itself; the destinations whose lanes were parked now."""
        count = await webhooks.automatic_changes(con, ticket_id)
        if count <= LOOP_CHANGES:
            return ()
        why = f"loop: closed and reopened {count} times in ten minutes, and by nobody here"
        return tuple(await webhooks.park_ticket(con, ticket_id, why))


def _status(news: IssueState) -> TicketStatus:
    return TicketStatus.CLOSED if news.state == "closed" else TicketStatus.OPEN


def _known(link: Row, news: IssueState | IssueRemoved) -> bool:
    if isinstance(news, IssueRemoved):
        return bool(link["state"] == 2)
    newer = news.version is not None and (
        link["remote_version"] is None or news.version > link["remote_version"]
    )
    return link["remote_state"] == _status(news) and link["state"] == 1 and not newer
