"""kill -9 of the service and of Postgres in the midst of load: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest
from harness import Load, Replica, Verdict, all_delivered, nothing_waits

from house import SHOP, SOURCES, until
from pointsman.testing.fake import Fault
from pointsman.testing.fake_forgejo import FakeForgejo

pytestmark = [pytest.mark.faults, pytest.mark.slow]

ALERTS = 200


def config(fake: FakeForgejo) -> str:
    return (
        SOURCES
        + f"""
[[destination]]
slug = "my-product"
tracker = "forgejo"
[destination.settings]
url = "{fake.url}"
token = "{fake.token}"
repository = "acme/shop"
[[route]]
destination = "my-product"
"""
    )


@pytest.fixture
async def tracker():
    async with FakeForgejo(repository="acme/shop", token="forgejo-token-of-the-tests") as fake:
        yield fake


async def test_kill_9_of_the_service_in_the_midst_of_load(tracker: FakeForgejo, dsn: str, tmp_path: Path):
    """Two replicas, each killed several times while it takes alerts and makes issues."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    replicas = [Replica(tmp_path / f"replica-{n}", config(tracker), dsn=dsn) for n in range(2)]
    for replica in replicas:
        await replica.start()
    load = Load([replica.url for replica in replicas], SHOP)
    posting = asyncio.create_task(load.post(ALERTS))
    kills = 0
    for step in (20, 60, 110, 160):

        async def that_many(step: int = step) -> bool:
            return len(load.promised) >= step

        await until(that_many, 60)
        victim = dice.choice(replicas)
        await victim.kill()
        kills += 1
        await victim.start()
    await posting
    await all_delivered(tracker, len(load.promised))
    await nothing_waits(replicas[0].url)
    verdict = Verdict(load, tracker)
    print(f"promised {len(load.promised)}, kills {kills}: {verdict}")
    assert (len(load.promised), verdict.lost, verdict.duplicates) == (ALERTS, 0, 0)
    for replica in replicas:
        assert await replica.stop() == 0


async def test_answers_of_the_tracker_are_lost(tracker: FakeForgejo, dsn: str, tmp_path: Path):
    """Creates take effect, but their answers are cut, come too late, or are errors: still one issue each."""
    replica = await Replica(tmp_path / "replica", config(tracker), dsn=dsn).start()
    tracker.faults = [
        Fault("POST /api/v1/repos/acme/shop/issues", reset=True, applied=True, times=3),
        Fault("POST /api/v1/repos/acme/shop/issues", status=502, applied=True, times=3),
        Fault("POST /api/v1/repos/acme/shop/issues", hang_seconds=4.0, applied=True, times=2),
        Fault("POST /api/v1/repos/acme/shop/issues", status=500, times=3),
        Fault("POST /api/v1/repos/acme/shop/issues", reset=True, times=3),
    ]
    load = Load([replica.url], SHOP)
    await load.post(20)
    await all_delivered(tracker, 20)
    await nothing_waits(replica.url)
    verdict = Verdict(load, tracker)
    print(f"promised {len(load.promised)}: {verdict}")
    assert (verdict.lost, verdict.duplicates) == (0, 0)
    assert await replica.stop() == 0


async def test_the_harness_bites(tracker: FakeForgejo, dsn: str, tmp_path: Path):
    """With the look before a repeat switched off, lost answers make duplicates, and the oracle sees them."""
    replica = await Replica(tmp_path / "replica", config(tracker), dsn=dsn, QUICK_WITHOUT="find").start()
    tracker.faults = [Fault("POST /api/v1/repos/acme/shop/issues", reset=True, applied=True, times=3)]
    load = Load([replica.url], SHOP)
    await load.post(5)
    await nothing_waits(replica.url)
    assert Verdict(load, tracker).duplicates == 3
    assert await replica.stop() == 0


async def test_kill_9_of_postgres_in_the_midst_of_load(tracker: FakeForgejo, tmp_path: Path):
    """The embedded server comes back by itself, with all that was promised."""
    replica = await Replica(tmp_path / "replica", config(tracker)).start()
    load = Load([replica.url], SHOP)
    posting = asyncio.create_task(load.post(ALERTS))
    for step in (30, 100):

        async def that_many(step: int = step) -> bool:
            return len(load.promised) >= step

        await until(that_many, 60)
        pid = int((tmp_path / "replica" / "data" / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(_true_pid(tmp_path, pid), signal.SIGKILL)
    await posting
    await all_delivered(tracker, len(load.promised))
    await nothing_waits(replica.url)
    verdict = Verdict(load, tracker)
    print(f"promised {len(load.promised)}: {verdict}")
    assert (len(load.promised), verdict.lost, verdict.duplicates) == (ALERTS, 0, 0)
    assert await replica.stop() == 0


def _true_pid(folder: Path, pid: int) -> int:
    """The postmaster's pid, which is ours to signal: a user namespace does not change pids."""
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    assert str(folder).encode() in command, command
    return pid
