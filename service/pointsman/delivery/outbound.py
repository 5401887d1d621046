"""Towards trackers: one attempt after the other along a lane, each with its intent written before it is sent."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from pointsman.catalog import CatalogKeeper
from pointsman.delivery import doubt
from pointsman.delivery.attempt import Class, Next, Verdict
from pointsman.delivery.checked import checked
from pointsman.delivery.client import count_writes, writes_left
from pointsman.delivery.outcome import OnAttempt, note_failure, say
from pointsman.delivery.underway import Attempt, ticket_text
from pointsman.logs import logger
from pointsman.plugin_api import (
    CommentRef,
    Draft,
    IssueRef,
    IssueSeen,
    Marker,
    PluginError,
    Unavailable,
    UnknownOutcome,
)
from pointsman.storage import destinations as standing
from pointsman.storage.db import Database, Row
from pointsman.storage.lanes import Lane, Lanes, sight
from pointsman.tickets import render
from pointsman.tickets.ticket import Kind

log = logger("delivery")

DELIVERIES_PER_CLAIM = 20
SECONDS_PER_CLAIM = 30.0
SENDING_MARGIN_SECONDS = 5.0


class Linked(msgspec.Struct, frozen=True):
    """News for the inbound side: an issue has just been linked."""

    destination_id: int
    ref: IssueRef


class Outbound:
    """The carrier for lanes that lead to a tracker."""

    def __init__(
        self,
        database: Database,
        lanes: Lanes,
        catalog: CatalogKeeper,
        *,
        base_url: str,
        stopping: Callable[[], bool] = lambda: False,
        on_linked: Callable[[Linked], Awaitable[None]] | None = None,
        on_attempt: OnAttempt = lambda *_: None,
    ) -> None:
        self._database = database
        self._lanes = lanes
        self._catalog = catalog
        self._base_url = base_url
        self._stopping = stopping
        self._on_linked = on_linked
        self._on_attempt = on_attempt

    async def carry(self, lane: Lane) -> None:
        """Work along a lane until it is empty, must wait, or had its share."""
        began = time.monotonic()
        for number in range(1, DELIVERIES_PER_CLAIM + 1):
            head = await self._lanes.head(lane)
            if head is None:
                return
            share_left = (
                number < DELIVERIES_PER_CLAIM
                and time.monotonic() - began < SECONDS_PER_CLAIM
                and not self._stopping()
            )
            if not await self._deliver(lane, head, keep=share_left):
                return

    async def _deliver(self, lane: Lane, head: Row, *, keep: bool) -> bool:
        """One delivery; whether the lane is still ours and has more."""
        destination = self._catalog.current.destinations.get(lane.destination_id)
        if destination is None:
            await self._lanes.release(lane, delay_seconds=10.0)
            return False
        one = Attempt(
            lane=lane,
            head=head,
            kind=Kind(head["kind"]),
            destination=destination,
            started=dt.datetime.now(dt.UTC),
            began=time.monotonic(),
            doubted=head["in_doubt"],
        )
        if head["expired"] and not head["in_doubt"]:
            await self._give_up(one, Class.EXPIRED, "not delivered within its time", None, in_doubt=False)
            return False
        if head["link_state"] == 2 and one.kind is not Kind.CREATE:
            await self._lanes.park(lane, "orphan")
            return False
        try:
            if head["in_doubt"]:
                settled = await self._settle(one, keep=keep)
                if settled is not None:
                    return settled
            return await self._send(one, keep=keep)
        except asyncio.CancelledError:
            raise
        except (PluginError, TimeoutError) as error:
            await self._failed(one, error)
        except (Exception, SystemExit) as error:
            if _is_database(error):
                raise
            log.exception("plugin failed", destination=destination.slug, lane=lane.id)
            await self._failed(one, error)
        return False

    # -- in doubt ----------------------------------------------------------------------------------------------

    async def _settle(self, one: Attempt, *, keep: bool) -> bool | None:
        """Find out whether an earlier request took effect. None: it did not, and may be sent again."""
        head, lane = one.head, one.lane
        count_writes()
        if head["doubt_seconds"] > 0:
            await self._lanes.release(lane, delay_seconds=head["doubt_seconds"])
            return False
        tracker = one.destination.tracker
        found = await doubt.look(self._database, self._lanes, self._catalog.current, one)
        if found is not None:
            issue, comment = (found, None) if isinstance(found, IssueRef) else (None, found)
            return await self._done(one, keep=keep, outcome=Class.FOUND, issue=issue, comment=comment)
        if tracker is None or not tracker.capabilities.find:
            why = "in doubt: the tracker can't be asked; replay once you know it is not there"
            await self._lanes.park(lane, why)
            return False
        looks = head["looks"] + 1
        waits = tracker.capabilities.settle_seconds
        if looks < len(waits):
            await self._lanes.retry(
                lane,
                head["seq"],
                delay_seconds=waits[looks],
                counts=False,
                in_doubt=True,
                looks=looks,
                settle_seconds=waits[looks],
                outcome="not found yet",
                error="",
                status=None,
                started=one.started,
            )
            return False
        if not await self._lanes.clear_doubt(lane, head["seq"]):
            return False
        one.doubted = False
        return None

    # -- sending -----------------------------------------------------------------------------------------------

    async def _send(self, one: Attempt, *, keep: bool) -> bool:
        tracker = one.destination.need()
        head, lane = one.head, one.lane
        capabilities = tracker.capabilities
        draft: dict[str, Any] = json.loads(head["draft"]) if head["draft"] is not None else self._render(one)
        timeout = capabilities.request_timeout_seconds
        settle = capabilities.settle_seconds[0] if capabilities.settle_seconds else 0.0
        attempts = await self._lanes.intent(
            lane,
            head["seq"],
            in_doubt=not one.idempotent,
            settle_seconds=timeout + settle,
            draft=draft,
        )
        if attempts is None:
            log.info("lease lost before sending", lane=lane.id, seq=head["seq"])
            return False
        if time.monotonic() > lane.trust_until - timeout - SENDING_MARGIN_SECONDS and not one.idempotent:
            # too late to be sure that nobody else takes over while the request is on its way
            kept = await self._lanes.renew([lane])
            if lane.id not in kept:
                return False
        marker = Marker(self._catalog.current.marker_text(head["marker"]))
        count_writes()
        async with asyncio.timeout(timeout * 4):
            match one.kind:
                case Kind.CREATE:
                    issue = await tracker.create_issue(
                        Draft(
                            title=draft["title"],
                            body=draft["body"],
                            marker=marker,
                            facts=draft.get("facts", {}),
                        )
                    )
                    issue = checked(issue, IssueRef)
                    if not issue.remote_id:
                        raise UnknownOutcome("the plugin returned an issue without an id")
                    await sight(
                        self._database,
                        lane.destination_id,
                        head["marker"],
                        (issue.remote_id, issue.key, issue.url),
                        "answer",
                    )
                    return await self._done(one, keep=keep, outcome=Class.DONE, issue=issue)
                case Kind.COMMENT:
                    comment = await tracker.add_comment(one.issue, draft["body"], marker)
                    comment = checked(comment, CommentRef)
                    return await self._done(one, keep=keep, outcome=Class.DONE, comment=comment)
                case Kind.CLOSE:
                    reason = head["close_reason"] if capabilities.close_reasons else None
                    now = await tracker.set_state(one.issue, "closed", reason)
                    return await self._done(one, keep=keep, outcome=Class.DONE, remote_state=2, now=now)
                case Kind.REOPEN:
                    now = await tracker.set_state(one.issue, "open", None)
                    return await self._done(one, keep=keep, outcome=Class.DONE, remote_state=1, now=now)
                case _:
                    await tracker.update_issue(
                        one.issue, Draft(title=draft["title"], body=draft["body"], marker=marker)
                    )
                    return await self._done(one, keep=keep, outcome=Class.DONE)

    def _render(self, one: Attempt) -> dict[str, Any]:
        head = one.head
        ticket = ticket_text(head, self._base_url)
        data = json.loads(head["event_data"])
        match one.kind:
            case Kind.CREATE | Kind.UPDATE:
                return {
                    "title": render.issue_title(ticket),
                    "body": render.issue_body(ticket, data),
                    "facts": {
                        "ticket": ticket.id,
                        "kind": ticket.kind.name.lower(),
                        "source": ticket.source,
                        "title": ticket.title,
                        "level": head["level"],
                        "environment": head["environment"],
                        "release": head["release"],
                        "url": head["ticket_url"],
                    },
                }
            case Kind.COMMENT:
                return {"body": render.comment_body(ticket, head["event_kind"], data)}
            case _:
                return {}

    # -- outcomes ----------------------------------------------------------------------------------------------

    async def _done(
        self,
        one: Attempt,
        *,
        keep: bool,
        outcome: Class,
        issue: IssueRef | None = None,
        comment: CommentRef | None = None,
        remote_state: int | None = None,
        now: IssueSeen | None = None,
    ) -> bool:
        left = await self._lanes.finish(
            one.lane,
            one.head["seq"],
            keep=keep,
            outcome=outcome,
            note="; ".join(issue.notes)[:2000] if issue is not None else "",
            started=one.started,
            issue=(issue.remote_id, issue.key, issue.url) if issue is not None else None,
            comment_id=comment.remote_id if comment is not None else None,
            remote_state=remote_state,
            remote_version=now.version if isinstance(now, IssueSeen) else None,
        )
        say(
            one,
            "stale" if left is None else outcome,
            issue.key if issue is not None else "",
            self._on_attempt,
        )
        await standing.note_success(self._database, one.lane.destination_id)
        if issue is not None and left is not None and self._on_linked is not None:
            await self._on_linked(Linked(one.lane.destination_id, issue))
        return bool(left)

    async def _failed(self, one: Attempt, error: BaseException) -> None:
        if isinstance(error, UnknownOutcome) and one.destination.client is not None and not writes_left():
            # only questions were asked so far: whatever became of them, nothing was done
            error = Unavailable(
                error.message, status=error.status, excerpt=error.excerpt, is_json=error.is_json
            )
        failure, verdict = await note_failure(
            self._database, one, error, creates=one.kind is Kind.CREATE, idempotent=one.idempotent
        )
        if one.doubted and not one.idempotent:
            # the find failed, so the doubt of the earlier request stays
            verdict = msgspec.structs.replace(verdict, in_doubt=True)
        message = str(failure)
        match verdict.next:
            case Next.RETRY:
                await self._retry(one, verdict, message, failure.status)
            case Next.DEAD:
                await self._give_up(one, verdict.cls, message, failure.status, in_doubt=verdict.in_doubt)
            case Next.ORPHAN:
                say(one, verdict.cls, message, self._on_attempt)
                await self._lanes.park(one.lane, "orphan", orphaned=True)

    async def _retry(self, one: Attempt, verdict: Verdict, message: str, status: int | None) -> None:
        settle = 0.0
        if verdict.in_doubt and one.destination.capabilities.settle_seconds:
            settle = one.destination.capabilities.settle_seconds[0]
        say(one, verdict.cls, message, self._on_attempt)
        await self._lanes.retry(
            one.lane,
            one.head["seq"],
            delay_seconds=max(verdict.delay_seconds, settle if verdict.in_doubt else 0.0),
            counts=verdict.counts,
            in_doubt=verdict.in_doubt,
            looks=0 if verdict.in_doubt else one.head["looks"],
            settle_seconds=settle,
            outcome=verdict.cls,
            error=message,
            status=status,
            started=one.started,
        )

    async def _give_up(
        self, one: Attempt, cls: Class, message: str, status: int | None, *, in_doubt: bool
    ) -> None:
        say(one, cls, message, self._on_attempt)
        log.error(
            "dead letter",
            destination=one.destination.slug,
            ticket=str(one.lane.ticket_id),
            delivery=f"{one.lane.id}/{one.head['seq']}",
            kind=one.kind.name.lower(),
            outcome=cls,
            error=message,
        )
        await self._lanes.give_up(
            one.lane,
            one.head["seq"],
            # followers of an issue that can't be made wait with it; others go on without
            park=one.kind is Kind.CREATE,
            in_doubt=in_doubt,
            why=cls,
            error=message,
            status=status,
            started=one.started,
        )


def _is_database(error: BaseException) -> bool:
    return type(error).__module__.startswith("asyncpg")
