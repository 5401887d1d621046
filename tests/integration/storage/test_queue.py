"""The queue on a real Postgres: fencing by leases, the cap per destination, the counters of lanes."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid

import pytest

from pointsman.bus.publish import publish
from pointsman.domain.states import DeliveryKind
from pointsman.domain.ticket import Changes, Event, PlannedDelivery
from pointsman.storage.db import Database
from pointsman.storage.delivery_writer import lock_ticket
from pointsman.storage.errors import StatementError
from pointsman.storage.ids import uuid7
from pointsman.storage.queries import queries
from pointsman.storage.queue import Lanes, missing_comments
from pointsman.storage.queue_values import Lane
from pointsman.storage.replay import replay_delivery
from polling import until

NOW = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)


async def _place(
    database: Database, lanes: int, deliveries: int = 1, destination: str = "there"
) -> list[int]:
    """Create lanes of one destination with some deliveries each. Return the ids of the lanes."""
    async with database.pool.acquire() as con:
        source = await con.fetchval(
            "insert into source (slug, kind) values ($1, 'tickets') on conflict (slug) do update set kind = 'tickets'"
            " returning id",
            "source",
        )
        place = await con.fetchval(
            "insert into destination (slug, tracker) values ($1, 'folder') returning id", destination
        )
        await con.execute("insert into destination_state (destination_id) values ($1)", place)
        ids = []
        for _ in range(lanes):
            ticket = uuid7()
            await con.execute(
                "insert into ticket (id, source_id, kind, fingerprint, title) values ($1, $2, 2, $3, 'a title')",
                ticket,
                source,
                str(ticket),
            )
            lane = await con.fetchval(
                "insert into lane (ticket_id, destination_id, state, next_seq) values ($1, $2, 1, $3) returning id",
                ticket,
                place,
                deliveries + 1,
            )
            for n in range(1, deliveries + 1):
                await con.execute(
                    "insert into event (ticket_id, n, kind) values ($1, $2, 'commented')", ticket, n
                )
                await con.execute(
                    "insert into delivery (lane_id, seq, event_n, kind, marker) values ($1, $2, $3, 2, $4)",
                    lane,
                    n,
                    n,
                    uuid.uuid4(),
                )
            ids.append(lane)
        return ids


def _lanes(database: Database, seconds: float = 60.0) -> Lanes:
    return Lanes(database, uuid.uuid4(), lease_seconds=seconds)


async def _finish(lanes: Lanes, lane: Lane, seq: int, *, keep: bool = True) -> bool | None:
    return await lanes.finish(lane, seq, keep_lease=keep, outcome="done", started_at=NOW)


async def _intent(lanes: Lanes, lane: Lane, seq: int) -> int | None:
    return await lanes.record_intent(lane, seq, outcome_unknown=True, verify_after_seconds=1, draft={})


async def _overtaken(database: Database) -> tuple[Lanes, Lane, Lanes, Lane]:
    """Return a holder whose lease expired, and its successor."""
    await _place(database, 1, 3)
    first, second = _lanes(database, 0.01), _lanes(database)
    [old] = await first.claim(1)

    async def taken() -> list[Lane]:
        return await second.claim(1)

    [new] = await until(taken)
    return first, old, second, new


async def test_only_destinations_of_the_configuration_are_claimed(database: Database):
    await _place(database, 1)
    destination = await database.fetchval("select destination_id from lane")
    for claimable, count in (((), 0), ((destination + 1,), 0), ((destination,), 1)):
        lanes = Lanes(database, uuid.uuid4(), claimable=lambda ids=claimable: ids)
        assert len(await lanes.claim(5)) == count


async def test_a_lane_is_claimed_by_one_only(database: Database):
    await _place(database, 1)
    claims = await asyncio.gather(*(_lanes(database).claim(5) for _ in range(5)))
    assert sum(len(claim) for claim in claims) == 1


@pytest.mark.parametrize(
    "late",
    [
        lambda lanes, lane: _finish(lanes, lane, 1),
        lambda lanes, lane: _intent(lanes, lane, 1),
        lambda lanes, lane: lanes.next_delivery(lane),
        lambda lanes, lane: lanes.confirm_not_applied(lane, 1),
        lambda lanes, lane: lanes.dead_letter(
            lane, 1, park=True, outcome_unknown=False, outcome="x", error="x", status=None, started_at=NOW
        ),
        lambda lanes, lane: lanes.retry(
            lane,
            1,
            delay_seconds=99,
            counts_attempt=True,
            outcome_unknown=False,
            verify_attempts=0,
            verify_after_seconds=0,
            outcome="x",
            error="x",
            status=None,
            started_at=NOW,
        ),
        lambda lanes, lane: lanes.release(lane, 99),
        lambda lanes, lane: lanes.park(lane, "x", orphaned=True),
        lambda lanes, lane: lanes.renew([lane]),
    ],
    ids=[
        "finish",
        "record_intent",
        "next_delivery",
        "confirm_not_applied",
        "dead_letter",
        "retry",
        "release",
        "park",
        "renew",
    ],
)
async def test_a_holder_that_was_overtaken_changes_nothing(database: Database, late):
    """Every statement of a holder names its lease: a late one finds no row."""
    first, old, _second, new = await _overtaken(database)
    before = await _state(database)
    assert not await late(first, old)
    assert await _state(database) == before
    assert (await database.fetchval("select lease_id from lane")) == new.lease_id


async def _state(database: Database) -> list:
    lanes = [tuple(row) for row in await database.fetch("select * from lane")]
    return lanes + [tuple(row) for row in await database.fetch("select * from delivery order by seq")]


async def test_two_leases_of_one_lane_in_one_statement_are_kept_apart(database: Database):
    """A process that was paused holds both: the lane whose lease it lost, and the same lane claimed again."""
    await _place(database, 1, 3)
    lanes = _lanes(database, seconds=0.05)
    [lost] = await lanes.claim(5)
    lanes.lease_seconds = 60.0
    [back] = await until(lambda: lanes.claim(5))
    assert lost.id == back.id
    assert lost.lease_id != back.lease_id
    heads = await asyncio.gather(lanes.next_delivery(lost), lanes.next_delivery(back))
    assert [head.seq if head is not None else None for head in heads] == [None, 1]
    assert await asyncio.gather(_intent(lanes, lost, 1), _intent(lanes, back, 1)) == [None, 1]
    assert await asyncio.gather(_finish(lanes, lost, 1), _finish(lanes, back, 1)) == [None, True]


async def test_the_lane_moves_on_and_ends_idle(database: Database):
    await _place(database, 1, 2)
    lanes = _lanes(database)
    [lane] = await lanes.claim(1)
    assert await _intent(lanes, lane, 1) == 1
    assert await _finish(lanes, lane, 1) is True
    assert (await lanes.next_delivery(lane)).seq == 2
    assert await _intent(lanes, lane, 2) == 1
    assert await _finish(lanes, lane, 2) is False
    assert await database.fetchval("select state from lane") == 0
    assert await _finish(lanes, lane, 2) is None, "a second finish is stale"


async def test_an_idle_lane_with_work_can_not_be_committed(database: Database):
    await _place(database, 1, 2)
    with pytest.raises(StatementError, match="lane_no_lost_wake_up"):
        await database.execute("update lane set state = 0")


async def test_never_more_at_once_than_a_destination_allows(database: Database):
    """Eight replicas claim for one destination; the count and the claim are two statements."""
    await _place(database, 60, 1)
    over, samples = 0, 0

    async def claimer() -> None:
        nonlocal over, samples
        lanes = _lanes(database)
        while True:
            claimed = await lanes.claim(8)
            out = await database.fetchval("select count(*) from lane where state = 2")
            samples += 1
            over += out > 8
            if not claimed and not await database.fetchval("select count(*) from lane where state = 1"):
                return
            for lane in claimed:
                await _intent(lanes, lane, 1)
                await _finish(lanes, lane, 1)

    await asyncio.gather(*(claimer() for _ in range(8)))
    assert samples > 10 and over == 0


async def test_no_wake_up_is_lost_between_inserting_and_finishing(database: Database):
    """Inserts and finishes race on a few lanes: a lane with work is never left idle."""
    ids = await _place(database, 3, 1)
    rows = {row["id"]: row for row in await database.fetch("select id, ticket_id, destination_id from lane")}
    added = 0

    async def inserter() -> None:
        nonlocal added
        for event in range(60):
            row = rows[ids[event % 3]]
            async with database.transaction() as con:
                ticket = await lock_ticket(con, row["ticket_id"])
                n = max(2, ticket.next_event)
                ticket.next_event = n + 1
                decided = Changes(
                    [Event(ticket.id, n, "commented", {})],
                    [PlannedDelivery(ticket.id, row["destination_id"], n, DeliveryKind.COMMENT)],
                )
                await publish(con, decided, {ticket.id: ticket}, lambda *_: uuid.uuid4())
            added += 1

    inserting = asyncio.gather(inserter(), inserter())

    async def finisher() -> None:
        lanes = _lanes(database)
        while True:
            ended = inserting.done()
            claimed = await lanes.claim(3)
            for lane in claimed:
                head = await lanes.next_delivery(lane)
                more = head is not None
                while more:
                    await _intent(lanes, lane, head.seq)
                    more = await _finish(lanes, lane, head.seq)
                    head = await lanes.next_delivery(lane) if more else None
            if ended and not claimed:
                return

    await asyncio.gather(finisher(), finisher())
    await inserting
    assert added == 120
    assert await database.fetchval("select count(*) from delivery where state = 0") == 0
    assert await database.fetchval("select count(*) from lane where state <> 0") == 0


async def test_a_dead_create_blocks_its_followers_until_it_is_replayed(database: Database):
    [lane_id] = await _place(database, 1, 2)
    lanes = _lanes(database)
    [lane] = await lanes.claim(1)
    await lanes.dead_letter(
        lane, 1, park=True, outcome_unknown=False, outcome="refused", error="no", status=422, started_at=NOW
    )
    assert await lanes.claim(1) == []
    assert await replay_delivery(database, lane_id, 1)
    assert not await replay_delivery(database, lane_id, 1), "it is dead no more"
    [lane] = await lanes.claim(1)
    assert (await lanes.next_delivery(lane)).seq == 1


async def test_a_dead_comment_lets_its_followers_pass_and_comes_back_at_the_end(database: Database):
    [lane_id] = await _place(database, 1, 2)
    lanes = _lanes(database)
    [lane] = await lanes.claim(1)
    marker = await database.fetchval("select marker from delivery where seq = 1")
    await lanes.dead_letter(
        lane, 1, park=False, outcome_unknown=False, outcome="refused", error="no", status=422, started_at=NOW
    )
    [lane] = await lanes.claim(1)
    assert (await lanes.next_delivery(lane)).seq == 2
    await _finish(lanes, lane, 2)
    results = await asyncio.gather(*(replay_delivery(database, lane_id, 1) for _ in range(4)))
    assert results.count(True) == 1
    [lane] = await lanes.claim(1)
    head = await lanes.next_delivery(lane)
    assert (head.seq, head.marker) == (3, marker)
    assert await _finish(lanes, lane, 3) is False


async def test_the_claim_does_not_read_what_is_blocked(database: Database):
    """30,000 lanes wait for an unreachable destination: claiming for another reads none of them."""
    await _place(database, 20, 1, "alive")
    async with database.pool.acquire() as con:
        away = await con.fetchval(
            "insert into destination (slug, tracker) values ('away', 'folder') returning id"
        )
        await con.execute(
            "insert into destination_state (destination_id, blocked_until) values ($1, now() + interval '1 hour')",
            away,
        )
        await con.execute(
            "insert into ticket (id, source_id, kind, fingerprint, title)"
            " select gen_random_uuid(), (select id from source), 2, n::text, 't' from generate_series(1, 30000) n"
        )
        await con.execute(
            "insert into lane (ticket_id, destination_id, state, next_seq, due_at)"
            " select id, $1, 1, 2, now() - interval '1 day' from ticket",
            away,
        )
        await con.execute("analyze lane; analyze ticket; analyze destination_state")
        alive = await con.fetchval("select id from destination where slug = 'alive'")
        claim = queries("queue")["claim_lanes"]
        for setting, value in (
            ("$1", f"'{uuid.uuid4()}'::uuid"),
            ("$2::integer", "8"),
            ("$2", "8"),
            ("$3::interval", "interval '60 s'"),
            ("$4::integer[]", f"array[{alive}]"),
        ):
            claim = claim.replace(setting, value)
        plan = await con.fetch(f"explain (analyze, format text) {claim}")
    text = "\n".join(row[0] for row in plan)
    assert "Seq Scan on lane" not in text, text
    assert "lane_ready" in text, text


async def test_a_delivery_that_is_done_gets_no_intent_and_a_later_one_is_not_given_up(database: Database):
    """A holder with a valid lease and a wrong delivery number changes nothing."""
    await _place(database, 1, 3)
    lanes = _lanes(database)
    [lane] = await lanes.claim(1)
    assert await _intent(lanes, lane, 1) == 1
    assert await _finish(lanes, lane, 1) is True
    before = await _state(database)
    assert await _intent(lanes, lane, 1) is None
    for seq in (1, 3):
        assert not await lanes.dead_letter(
            lane, seq, park=False, outcome_unknown=False, outcome="x", error="x", status=None, started_at=NOW
        )
        assert await _finish(lanes, lane, seq) is None
    assert await _state(database) == before


@pytest.mark.parametrize("state", ["idle", "ready", "leased", "parked"])
async def test_a_skipped_delivery_comes_back_at_the_end_of_its_lane_whatever_the_state(
    database: Database, state: str
):
    """An idle lane becomes ready; any other keeps its state and its holder."""
    [lane_id] = await _place(database, 1, 1 if state == "idle" else 2)
    lanes = _lanes(database)
    [lane] = await lanes.claim(1)
    await lanes.dead_letter(
        lane, 1, park=False, outcome_unknown=False, outcome="refused", error="no", status=422, started_at=NOW
    )
    if state == "ready":
        await database.execute("update lane set due_at = now() + interval '1 hour'")
    if state in ("leased", "parked"):
        [lane] = await lanes.claim(1)
    if state == "parked":
        await lanes.park(lane, "a person")
    before = await database.fetchrow("select state, lease_id, due_at, next_seq from lane")
    assert await replay_delivery(database, lane_id, 1)
    after = await database.fetchrow("select state, lease_id, due_at, next_seq from lane")
    assert after["next_seq"] == before["next_seq"] + 1
    assert after["lease_id"] == before["lease_id"]
    assert after["state"] == (1 if state == "idle" else before["state"])
    assert (after["due_at"] == before["due_at"]) is (state != "idle")


async def test_comments_that_were_given_up_are_counted_since_the_last_one_that_was_posted(database: Database):
    [lane_id] = await _place(database, 1, 5)
    await database.execute(
        "update delivery set state = case when seq = 2 then 1 when seq < 5 then 2 else 0 end"
    )
    counts = [(await missing_comments(database, lane_id, seq))[0] for seq in range(1, 6)]
    assert counts == [0, 1, 0, 1, 2]
