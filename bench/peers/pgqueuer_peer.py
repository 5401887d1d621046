"""pgqueuer with its tables and its worker on uvloop, as its command runs it; jobs send the same POST."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time

import asyncpg
import uvloop
from pgqueuer import AsyncpgPoolDriver, Job, PgQueuer, Queries
from poster import Poster, issue

BATCH = 10  # its default; 50, 100 and 200 were no faster


async def fill(pool: asyncpg.Pool, count: int) -> None:
    """Create the tables and ``count`` jobs."""
    queries = Queries(AsyncpgPoolDriver(pool))
    await queries.install()
    numbers = range(count)
    payloads = [json.dumps(issue(number)).encode() for number in numbers]
    for at in range(0, count, 1000):
        some = payloads[at : at + 1000]
        await queries.enqueue(["post"] * len(some), [*some], [0] * len(some))


async def work(pool: asyncpg.Pool) -> None:
    """Its worker, until stopped."""
    queuer = PgQueuer.from_asyncpg_pool(pool)
    poster = Poster()

    @queuer.entrypoint("post")
    async def post(job: Job) -> None:
        assert job.payload is not None
        await poster.post(json.loads(job.payload))

    print("{}", flush=True)
    await queuer.run(batch_size=int(os.environ.get("BENCH_BATCH", BATCH)))


async def paced(pool: asyncpg.Pool, count: int, pause: float) -> None:
    """One job after the other with pauses; when each began and when it was queued, as the load generator does."""
    queries = Queries(AsyncpgPoolDriver(pool))
    start = random.getrandbits(40)
    times = {}
    for number in range(start, start + count):
        await asyncio.sleep(random.uniform(0.5, 1.5) * pause)
        payload = json.dumps(issue(number)).encode()
        began = time.monotonic_ns()
        await queries.enqueue("post", payload)
        times[f"{number:012x}"] = (began, time.monotonic_ns())
    print(json.dumps({"times": times}), flush=True)


async def main() -> None:
    """Fill, work, or enqueue at a pace."""
    async with asyncpg.create_pool(os.environ["BENCH_DSN"], min_size=2, max_size=10) as pool:
        match sys.argv[1]:
            case "fill":
                await fill(pool, int(sys.argv[2]))
                print("{}", flush=True)
            case "paced":
                await paced(pool, int(sys.argv[2]), float(sys.argv[3]))
            case _:
                await work(pool)


if __name__ == "__main__":
    (asyncio.run if os.environ.get("BENCH_LOOP") == "asyncio" else uvloop.run)(main())
