"""Minimal HTTP intake: aiohttp parses the body and responds 202; with ``insert`` after one INSERT."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid

import asyncpg
from aiohttp import web

TABLE = "create table if not exists alert (id uuid primary key, issue text not null, body bytea not null)"
POOL = 10  # connections, as many as the service has


async def main() -> None:
    """Serve on a free port."""
    pool = None
    if sys.argv[1:] == ["insert"]:
        pool = await asyncpg.create_pool(os.environ["BENCH_DSN"], min_size=POOL, max_size=POOL)
        await pool.execute(TABLE)

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        alert = json.loads(body)
        number = uuid.uuid4()
        if pool is not None:
            await pool.execute(
                "insert into alert (id, issue, body) values ($1, $2, $3)", number, alert["id"], body
            )
        answer = json.dumps({"report": str(number), "ticket": alert["id"], "state": "accepted"})
        return web.Response(status=202, text=answer, content_type="application/json")

    application = web.Application()
    application.router.add_post("/intake/{source}/{token}", take)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    print(json.dumps({"url": f"http://{host}:{port}"}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
