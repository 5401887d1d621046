"""From trackers: what a webhook or a poll tells becomes the ticket's standing, events, and further deliveries.

A webhook is a hint that may be late, doubled, out of order or replayed. It is known again by its delivery id and by
its body; what is older than what we know is left alone; and only a change against what we knew is news, so that our
own writes come back as nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from pointsman.catalog import CatalogKeeper, LiveDestination
from pointsman.delivery.outbound import Linked
from pointsman.logs import logger
from pointsman.plugin_api import CloseReason, Ignored, IssueGone, IssueRef, IssueSeen, State, WebhookNews
from pointsman.storage import accept, webhooks
from pointsman.storage.db import AGAIN, Connection, Database, Row, uuid7
from pointsman.storage.lanes import sight
from pointsman.tickets.ticket import Decided, Places, Status, on_state

log = logger("inbound")

KEPT_HEADERS = ("content-type", "user-agent", "x-forgejo-event", "x-gitea-event", "x-github-event")


class Heard(msgspec.Struct, frozen=True):
    """What became of a piece of news."""

    state: int
    note: str
    ticket_id: uuid.UUID | None = None
    changed: bool = False


class Inbound:
    """Applies news; each piece in one transaction."""

    def __init__(self, database: Database, catalog: CatalogKeeper) -> None:
        self._database = database
        self._catalog = catalog

    async def webhook(
        self,
        destination: LiveDestination,
        headers: Mapping[str, str],
        body: bytes,
        delivery_id: str | None,
        news: WebhookNews | None,
    ) -> Heard:
        """Keep a verified webhook and apply what it says; a known one changes nothing.

        ``news`` is None where the plugin failed to read it.
        """
        webhook_id = uuid7()
        ref = news.ref if isinstance(news, IssueSeen | IssueGone) else None

        async def once(con: Connection) -> Heard:
            if not await webhooks.keep(con, destination.id, webhook_id, delivery_id, body):
                return Heard(webhooks.NOTHING, "known already")
            if news is None:
                heard = Heard(webhooks.PARKED, "the plugin could not read it")
            else:
                heard = await self._apply(con, destination, news)
            if not isinstance(news, Ignored):
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
        if isinstance(news, IssueSeen):
            await self._sight(destination, news)
        return heard

    async def _sight(self, destination: LiveDestination, news: IssueSeen) -> None:
        """An issue that our own account wrote, with a marker of ours, settles a doubt sooner than any search.

        A marker alone proves nothing: people copy bodies.
        """
        account = destination.account
        if account is None or news.author is None or news.author.account_id != account.account_id:
            return
        for text in news.markers:
            marker = self._catalog.current.marker_from(text)
            if marker is not None:
                issue = (news.ref.remote_id, news.ref.key, news.ref.url)
                await sight(self._database, destination.id, marker, issue, "webhook")

    async def seen(self, destination: LiveDestination, news: IssueSeen | IssueGone) -> Heard:
        """Apply what a poll saw. What is known already costs one look."""
        link = await webhooks.link_of(self._database, destination.id, news.ref.remote_id, news.ref.key)
        if link is None:
            return Heard(webhooks.WAITING, "no ticket has this issue")
        if isinstance(news, IssueSeen) and _known(link, news):
            return Heard(webhooks.NOTHING, f"{news.state}, as known", link["ticket_id"])
        return await self._again(lambda con: self._apply(con, destination, news))

    async def by_person(
        self, ticket_id: uuid.UUID, state: State, reason: CloseReason | None, who: str
    ) -> Heard:
        """Close or reopen a ticket because somebody asked for it here."""

        async def once(con: Connection) -> Heard:
            return await self._transition(con, ticket_id, state, reason, seen_at=None, by={"by": who})

        return await self._again(once)

    async def linked(self, news: Linked) -> None:
        """An issue was linked: look again at webhooks that came before."""
        destination = self._catalog.current.destinations.get(news.destination_id)
        if destination is None or destination.tracker is None:
            return
        ref = news.ref
        rows = await webhooks.waiting(self._database, destination.id, ref.remote_id, ref.key)
        for row in rows:
            headers = msgspec.json.decode(row["headers"])
            said = destination.tracker.read_webhook(headers, row["body"])
            if isinstance(said, Ignored):
                continue
            heard = await self.seen(destination, said)
            await webhooks.settle(self._database, row["received_at"], row["id"], heard.state, heard.note)

    async def _again(self, once: Any) -> Heard:
        for tries in range(4):
            try:
                async with self._database.transaction() as con:
                    heard: Heard = await once(con)
                    return heard
            except AGAIN:
                if tries == 3:
                    raise
        raise AssertionError("unreachable")

    async def _apply(self, con: Connection, destination: LiveDestination, news: WebhookNews) -> Heard:
        if isinstance(news, Ignored):
            return Heard(webhooks.NOTHING, news.why)
        link = await webhooks.link_of(con, destination.id, news.ref.remote_id, news.ref.key)
        if link is None:
            return Heard(webhooks.WAITING, "no ticket has this issue")
        # the ticket first, then what belongs to it: the order in which reports lock
        ticket = await accept.lock_ticket(con, link["ticket_id"])
        known = await webhooks.lock_link(con, link["lane_id"])
        if ticket is None or known is None:
            return Heard(webhooks.NOTHING, "no ticket has this issue")
        if isinstance(news, IssueGone):
            await webhooks.orphan(con, link["lane_id"])
            return Heard(
                webhooks.APPLIED, f"the issue is gone{f' to {news.to}' if news.to else ''}", ticket.id
            )
        remote_state = int(Status.CLOSED if news.state == "closed" else Status.OPEN)
        ref = IssueRef(link["remote_id"], news.ref.key or link["remote_key"], news.ref.url)
        fresh = await webhooks.see(
            con, link["lane_id"], remote_state=remote_state, version=news.version, key=ref.key, url=ref.url
        )
        if not fresh:
            return Heard(webhooks.NOTHING, "older than what is known", ticket.id)
        if known["remote_state"] == remote_state and known["state"] == 1:
            return Heard(webhooks.NOTHING, f"{news.state}, as known", ticket.id)
        by: dict[str, Any] = {"destination": destination.slug, "issue": ref.key}
        if news.actor is not None:
            by["by"] = news.actor.name or news.actor.account_id
        return await self._transition(
            con, ticket.id, news.state, news.close_reason, seen_at=destination.id, by=by
        )

    async def _transition(
        self,
        con: Connection,
        ticket_id: uuid.UUID,
        state: State,
        reason: CloseReason | None,
        *,
        seen_at: int | None,
        by: dict[str, Any],
    ) -> Heard:
        ticket = await accept.lock_ticket(con, ticket_id)
        if ticket is None:
            return Heard(webhooks.NOTHING, "no such ticket")
        catalog = self._catalog.current
        trackers = (await accept.places_of(con, [ticket_id]))[ticket_id]
        decided = Decided()
        changed = on_state(
            ticket, state, reason, Places(trackers, catalog.mail_id), decided, seen_at=seen_at, by=by
        )
        await accept.write_decided(con, decided, {ticket.id: ticket}, catalog.marker_of)
        verb = "closed" if state == "closed" else "reopened"
        note = f"ticket {verb}" if changed else f"ticket is {state} already"
        return Heard(webhooks.APPLIED if changed else webhooks.NOTHING, note, ticket_id, changed)


def _known(link: Row, news: IssueSeen) -> bool:
    remote_state = Status.CLOSED if news.state == "closed" else Status.OPEN
    newer = news.version is not None and (
        link["remote_version"] is None or news.version > link["remote_version"]
    )
    return link["remote_state"] == remote_state and link["state"] == 1 and not newer
