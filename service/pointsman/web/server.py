"""The listening port: opened with room for its connections, closed without losing a request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from pointsman.errors import PointsmanError
from pointsman.logs import logger
from pointsman.web.connection_manager import ConnectionManager

log = logger("server")

BACKLOG = 512
FILES_BESIDE = 200
"""Files open beside connections: the database's, the trackers', logs, plugins."""
SHUTDOWN_SECONDS = 2.0


class _Malformed(logging.Filter):
    """aiohttp writes a traceback for each request it can't parse; counting them will do."""

    def __init__(self, turned_away: Callable[[str], None]) -> None:
        super().__init__()
        self._turned_away = turned_away

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            self._turned_away("malformed")
            return False
        return True


@contextlib.asynccontextmanager
async def listening(
    app: web.Application,
    connections: ConnectionManager,
    host: str,
    port: int,
    sock: socket.socket | None = None,
) -> AsyncIterator[str]:
    """Serve until the end; the address under which. Raises PointsmanError with the next step.

    At the end nobody new is let in, requests are answered with ``Connection: close``, and connections on which
    nothing happens are closed.
    """
    timeouts = connections.timeouts
    malformed = _Malformed(connections.on_rejected)
    server_logger = logging.getLogger("aiohttp.server")
    server_logger.addFilter(malformed)
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=server_logger,
        handle_signals=False,
        shutdown_timeout=SHUTDOWN_SECONDS,
        keepalive_timeout=timeouts.idle + timeouts.head,  # ours come first
        lingering_time=timeouts.linger,
        handler_cancellation=False,
        # bodies are decompressed by ourselves, with a limit
        auto_decompress=False,
    )
    await runner.setup()
    try:
        assert runner.server is not None
        connections.protocol_factory = runner.server
        loop = asyncio.get_running_loop()
        try:
            if sock is not None:
                listener = await loop.create_server(connections, sock=sock, backlog=BACKLOG)
            else:
                listener = await loop.create_server(
                    connections, host, port, reuse_address=True, backlog=BACKLOG
                )
        except OSError as error:
            raise PointsmanError(
                f"can't listen on {host}:{port} ({error.strerror or error}): stop what uses it, or"
                " set POINTSMAN_LISTEN to another address"
            ) from None
        async with connections.running():
            try:
                host, port = listener.sockets[0].getsockname()[:2]
                shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
                yield f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
            finally:
                connections.draining = True
                # whoever is connected already is let in, so that a closed port can only be found closed
                await asyncio.sleep(0)
                listener.close()
                await connections.drain()
    finally:
        await runner.cleanup()
        server_logger.removeFilter(malformed)


def files_for(
    connections: int,
    get: Callable[[], tuple[int, int]] = lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
    put: Callable[[tuple[int, int]], None] = lambda both: resource.setrlimit(resource.RLIMIT_NOFILE, both),
) -> int:
    """How many connections the process's limit of open files has room for; the soft limit is raised if it must be."""
    needed = connections + FILES_BESIDE
    soft, hard = get()
    endless = resource.RLIM_INFINITY
    if soft == endless or soft >= needed:
        return connections
    wanted = needed if hard == endless else min(needed, hard)
    try:
        put((wanted, hard))
    except (OSError, ValueError):
        wanted = soft
    if wanted >= needed:
        return connections
    room = max(20, wanted - FILES_BESIDE)
    log.warning(
        "the process may open too few files: raise the limit (ulimit -n, LimitNOFILE= of systemd), or lower"
        " POINTSMAN_MAX_CONNECTIONS",
        files=wanted,
        needed=needed,
        connections=room,
    )
    return room
