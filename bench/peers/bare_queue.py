"""Minimal queue: claim 100 jobs, post them, mark them done; no leases, no retries, no order."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import asyncpg
from poster import Poster, issue

TABLE = """
create table job (id bigint primary key, payload jsonb not null, state smallint not null default 0, remote bigint);
create index job_waiting on job (id) where state = 0;
"""
CLAIM = """
update job set state = 1 where id = any (array(
  select id from job where state = 0 order by id limit 100 for update skip locked))
returning id, payload
"""
DONE = """
update job set state = 2, remote = done.remote
from unnest($1::bigint[], $2::bigint[]) as done (id, remote) where job.id = done.id
"""


async def fill(con: asyncpg.Connection, count: int) -> None:
    """Create the table and ``count`` jobs."""
    await con.execute(TABLE)
    rows = [(number, json.dumps(issue(number))) for number in range(count)]
    await con.executemany("insert into job (id, payload) values ($1, $2)", rows)


async def work(con: asyncpg.Connection) -> None:
    """Work until stopped."""
    poster = Poster()
    while True:
        jobs = await con.fetch(CLAIM)
        if not jobs:
            await asyncio.sleep(0.05)
            continue
        numbers = await asyncio.gather(*(poster.post(json.loads(job["payload"])) for job in jobs))
        await con.execute(DONE, [job["id"] for job in jobs], numbers)


async def main() -> None:
    """Fill, or work."""
    con = await asyncpg.connect(os.environ["BENCH_DSN"])
    if sys.argv[1] == "fill":
        await fill(con, int(sys.argv[2]))
        print("{}", flush=True)
    else:
        print("{}", flush=True)
        await work(con)


if __name__ == "__main__":
    asyncio.run(main())
