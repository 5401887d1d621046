"""The listening port: opened with enough file descriptors, closed without losing a request."""

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
OTHER_OPEN_FILES = 200
"""Open files that are not connections of clients: database, trackers, logs, plugins."""
SHUTDOWN_SECONDS = 2.0


class _MalformedFilter(logging.Filter):
    """Count malformed requests instead of logging aiohttp's traceback for each."""

    def __init__(self, on_rejected: Callable[[str], None]) -> None:
        super().__init__()
        self._on_rejected = on_rejected

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            self._on_rejected("malformed")
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
    """Serve until the end of the context, which is the URL. Raises PointsmanError with the next step.

    At the end no connection is accepted, requests are answered with ``Connection: close``, and idle connections are closed.
    """
    timeouts = connections.timeouts
    malformed_filter = _MalformedFilter(connections.on_rejected)
    server_logger = logging.getLogger("aiohttp.server")
    server_logger.addFilter(malformed_filter)
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=server_logger,
        handle_signals=False,
        shutdown_timeout=SHUTDOWN_SECONDS,
        keepalive_timeout=timeouts.idle + timeouts.head,  # the timeouts of ConnectionGuard apply first
        lingering_time=timeouts.linger,
        handler_cancellation=False,
        # web.body decompresses, with a limit
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
                display_host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
                yield f"http://{f'[{display_host}]' if ':' in display_host else display_host}:{port}"
            finally:
                connections.draining = True
                # accept connections that are established already, so that a client finds either a service or a closed port
                await asyncio.sleep(0)
                listener.close()
                await connections.drain()
    finally:
        await runner.cleanup()
        server_logger.removeFilter(malformed_filter)


def connection_limit(
    max_connections: int,
    get_limit: Callable[[], tuple[int, int]] = lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
    set_limit: Callable[[tuple[int, int]], None] = lambda limits: resource.setrlimit(
        resource.RLIMIT_NOFILE, limits
    ),
) -> int:
    """Return how many connections the limit of open files allows, at most ``max_connections``.

    The soft limit is raised where that is needed and possible.
    """
    needed = max_connections + OTHER_OPEN_FILES
    soft, hard = get_limit()
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= needed:
        return max_connections
    available = needed if hard == unlimited else min(needed, hard)
    try:
        set_limit((available, hard))
    except (OSError, ValueError):
        available = soft
    if available >= needed:
        return max_connections
    allowed = max(20, available - OTHER_OPEN_FILES)
    log.warning(
        "the process may open too few files: raise the limit (ulimit -n, LimitNOFILE= of systemd), or lower"
        " POINTSMAN_MAX_CONNECTIONS",
        files=available,
        needed=needed,
        connections=allowed,
    )
    return allowed
