"""Webhooks of a tracker: duplicated, out of order, lost, replayed with new ids, and caused by our own writes."""

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
from harness import LONG, Cluster, configuration, eventually
from processes import TrackerProcess

from pointsman_forgejo.testing import FakeForgejo

pytestmark = [pytest.mark.faults, pytest.mark.slow]

TICKETS, CHANGES = (2000, 5) if LONG else (40, 4)
SECRET = "webhook-secret-of-the-tests"

Call = tuple[bytes, dict[str, str]]


class RecordingForgejo(FakeForgejo):
    """Forgejo that records its webhook calls, so that the test sends them."""

    def __init__(self) -> None:
        super().__init__(repository="acme/shop", token="forgejo-token-of-the-tests", echo=True)
        self.webhook_url, self.webhook_secret = "http://127.0.0.1:9/", SECRET
        self.calls: list[Call] = []
        self.ahead = dt.timedelta()
        self.now = lambda: dt.datetime.now(dt.UTC) + self.ahead

    async def post_webhook(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        """Record the call."""
        self.calls.append((body, headers))
        return 200


def _burst(calls: list[Call], dice: random.Random) -> list[Call]:
    """Return the calls without a third, the others up to ten times, some with new ids, in random order."""
    burst: list[Call] = []
    for body, headers in calls:
        if dice.random() < 0.3:
            continue
        burst += [(body, headers)] * dice.randint(1, 10)
        for _ in range(dice.randint(0, 2)):
            new_id = str(uuid.uuid4())
            burst.append(
                (
                    body,
                    {
                        name: new_id if name.endswith("-Delivery") else value
                        for name, value in headers.items()
                    },
                )
            )
    dice.shuffle(burst)
    return burst


async def test_a_burst_of_webhooks(
    new_cluster, tracker: TrackerProcess, dice: random.Random, tmp_path: Path, note
):
    """In the end each ticket has the state of its issue, and nothing is written back to the tracker."""
    async with RecordingForgejo() as forgejo:
        destinations = {"recorded": forgejo.url}
        cluster: Cluster = await new_cluster(
            count=2,
            destinations=destinations,
            config=configuration(destinations).replace(
                "[destination.settings]", f'webhook_secrets = ["{SECRET}"]\n[destination.settings]'
            ),
        )
        async with cluster.running():
            con = await asyncpg.connect(cluster.direct)
            # our writes: tickets and comments, some closed and reopened through the API
            await asyncio.gather(*(cluster.load.story(1, states=n % 3 == 0) for n in range(TICKETS)))

            async def delivered() -> bool:
                return await con.fetchval("select count(*) from delivery where state = 0") == 0

            await eventually(delivered, 120)
            await forgejo.webhooks_sent()
            ours = len(forgejo.effects)
            # writes of people: close, reopen and comment
            for number in list(forgejo.issues) * CHANGES:
                # the clock of the server has whole seconds
                forgejo.ahead += dt.timedelta(seconds=1)
                match dice.choice(["close", "reopen", "comment"]):
                    case "close":
                        await forgejo.close_issue(number)
                    case "reopen":
                        await forgejo.reopen_issue(number)
                    case _:
                        await forgejo.comment(number, "I can see it too.")
            burst = _burst(forgejo.calls, dice)
            responses = await _send(burst, cluster)

            async def differ() -> dict[int, str]:
                rows = await con.fetch(
                    "select k.remote_id::int as issue, t.status from link k join lane l on l.id = k.lane_id"
                    " join ticket t on t.id = l.ticket_id"
                )
                statuses = {row["issue"]: "closed" if row["status"] == 2 else "open" for row in rows}
                return {
                    number: f"issue {issue.state}, ticket {statuses.get(number)}"
                    for number, issue in forgejo.issues.items()
                    if issue.state != statuses.get(number)
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
                sent=len(burst),
                responses=dict(responses),
                echoes=len(written),
            )
            assert not different, f"{different}\n{await _history(cluster, min(different))}"
            assert set(responses) == {200}
            assert written == []


async def _history(cluster: Cluster, issue: int) -> str:
    """Return the events, webhooks and link of a ticket whose state differs from its issue."""
    con = await asyncpg.connect(cluster.direct)
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


async def _send(burst: list[Call], cluster: Cluster) -> Counter[int]:
    """Send all calls to both replicas, sixteen at a time, and count the statuses."""
    statuses: Counter[int] = Counter()
    capacity = asyncio.Semaphore(16)
    async with aiohttp.ClientSession() as session:

        async def send(number: int, call: Call) -> None:
            body, headers = call
            url = f"{cluster.urls()[number % 2]}/webhooks/forgejo/recorded"
            async with (
                capacity,
                session.post(
                    url, data=body, headers={"Content-Type": "application/json", **headers}
                ) as response,
            ):
                statuses[response.status] += 1

        await asyncio.gather(*(send(number, call) for number, call in enumerate(burst)))
    return statuses
