"""procrastinate with its tables and its worker with a concurrency of 64; jobs send the same POST."""

from __future__ import annotations

import asyncio
import os
import sys

import procrastinate
from poster import AT_ONCE, Poster, issue

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=os.environ["BENCH_DSN"], min_size=2, max_size=10)
)


@app.task(name="post")
async def post(title: str, body: str) -> None:
    """Send the POST request."""
    await _poster[0].post({"title": title, "body": body})


_poster: list[Poster] = []


async def main() -> None:
    """Create jobs or run the worker."""
    async with app.open_async():
        if sys.argv[1] == "fill":
            await app.schema_manager.apply_schema_async()
            count = int(sys.argv[2])
            for at in range(0, count, 500):
                some = [dict(issue(number)) for number in range(at, min(at + 500, count))]
                await post.batch_defer_async(*some)
            print("{}", flush=True)
            return
        _poster.append(Poster())
        print("{}", flush=True)
        await app.run_worker_async(concurrency=AT_ONCE)


if __name__ == "__main__":
    asyncio.run(main())
