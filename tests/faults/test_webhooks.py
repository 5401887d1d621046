"""A tracker's webhooks at their worst: doubled, out of order, lost, replayed under new names, and ours among them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
import uuid
from collections import Counter
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from harness import LONG, Cluster, TrackerProcess, configuration, eventually

from pointsman_forgejo.testing import FakeForgejo

pytestmark = [pytest.mark.faults, pytest.mark.slow]

TICKETS, CHANGES = (2000, 5) if LONG else (40, 4)
SECRET = "webhook-secret-of-the-tests"

Call = tuple[bytes, dict[str, str]]


class Loud(FakeForgejo):
    """A Forgejo whose webhook calls are kept, to be sent by the test."""

    def __init__(self) -> None:
        super().__init__(repository="acme/shop", token="forgejo-token-of-the-tests", echo=True)
        self.webhook_url, self.webhook_secret = "http://127.0.0.1:9/", SECRET
        self.calls: list[Call] = []
        self.ahead = dt.timedelta()
        self.now = lambda: dt.datetime.now(dt.UTC) + self.ahead

    async def post_webhook(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        """Keep it."""
        self.calls.append((body, headers))
        return 200


def _storm(calls: list[Call], dice: random.Random) -> list[Call]:
    """A third is lost, the others come up to ten times, some again under new names, and all in no order."""
    storm: list[Call] = []
    for body, headers in calls:
        if dice.random() < 0.3:
            continue
        storm += [(body, headers)] * dice.randint(1, 10)
        for _ in range(dice.randint(0, 2)):
            new = str(uuid.uuid4())
            storm.append(
                (
                    body,
                    {name: new if name.endswith("-Delivery") else value for name, value in headers.items()},
                )
            )
    dice.shuffle(storm)
    return storm


async def test_a_storm_of_webhooks(
    cluster, tracker: TrackerProcess, dice: random.Random, tmp_path: Path, note
):
    """Tickets stand as their issues stand in the end, and nothing of it is written back to the tracker."""
    async with Loud() as forgejo:
        places = {"loud": forgejo.url}
        two: Cluster = await cluster(
            count=2,
            places=places,
            config=configuration(places).replace(
                "[destination.settings]", f'webhook_secrets = ["{SECRET}"]\n[destination.settings]'
            ),
        )
        async with two.running():
            con = await asyncpg.connect(two.direct)
            # ours: tickets, comments, some closed and opened again through the API
            await asyncio.gather(*(two.load.story(1, states=n % 3 == 0) for n in range(TICKETS)))

            async def delivered() -> bool:
                return await con.fetchval("select count(*) from delivery where state = 0") == 0

            await eventually(delivered, 120)
            await forgejo.webhooks_sent()
            ours = len(forgejo.effects)
            # theirs: people close, reopen and comment
            for number in list(forgejo.issues) * CHANGES:
                # the server's clock shows whole seconds, and people are slower
                forgejo.ahead += dt.timedelta(seconds=1)
                match dice.choice(["close", "reopen", "comment"]):
                    case "close":
                        await forgejo.close_issue(number)
                    case "reopen":
                        await forgejo.reopen_issue(number)
                    case _:
                        await forgejo.comment(number, "I can see it too.")
            storm = _storm(forgejo.calls, dice)
            answers = await _send(storm, two)

            async def differ() -> dict[int, str]:
                rows = await con.fetch(
                    "select k.remote_id::int as issue, t.status from link k join lane l on l.id = k.lane_id"
                    " join ticket t on t.id = l.ticket_id"
                )
                stands = {row["issue"]: "closed" if row["status"] == 2 else "open" for row in rows}
                return {
                    number: f"{issue.state} there, {stands.get(number)} here"
                    for number, issue in forgejo.issues.items()
                    if issue.state != stands.get(number)
                }

            async def agrees() -> bool:
                return not await differ()

            with contextlib.suppress(AssertionError):
                await eventually(agrees, 60)
            different = await differ()
            await eventually(delivered)
            written = [effect for effect in forgejo.effects[ours:] if effect.kind != "hook"]
            await con.close()
            note(
                issues=len(forgejo.issues),
                calls=len(forgejo.calls),
                sent=len(storm),
                answers=dict(answers),
                echoes=len(written),
            )
            assert not different, f"{different}\n{await _history(two, min(different))}"
            assert set(answers) == {200}
            assert written == []


async def _history(two: Cluster, issue: int) -> str:
    """What is known of a ticket that does not agree."""
    con = await asyncpg.connect(two.direct)
    ticket = await con.fetchval(
        "select l.ticket_id from link k join lane l on l.id = k.lane_id where k.remote_id = $1", str(issue)
    )
    rows = [
        *await con.fetch("select at::time, n, kind, data from event where ticket_id = $1 order by n", ticket)
    ]
    rows += await con.fetch(
        "select received_at::time, state, note from webhook where remote_id = $1 order by received_at",
        str(issue),
    )
    rows += await con.fetch("select * from link where remote_id = $1", str(issue))
    await con.close()
    return "\n".join(map(str, rows))


async def _send(storm: list[Call], two: Cluster) -> Counter[int]:
    """All of it to both replicas, sixteen at a time; how it was answered."""
    answers: Counter[int] = Counter()
    room = asyncio.Semaphore(16)
    async with aiohttp.ClientSession() as session:

        async def one(number: int, call: Call) -> None:
            body, headers = call
            url = f"{two.urls()[number % 2]}/webhooks/forgejo/loud"
            async with (
                room,
                session.post(
                    url, data=body, headers={"Content-Type": "application/json", **headers}
                ) as answer,
            ):
                answers[answer.status] += 1

        await asyncio.gather(*(one(number, call) for number, call in enumerate(storm)))
    return answers
