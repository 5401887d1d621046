"""Replicas as real processes that can be killed, a load that knows what was promised, and the oracle."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Self

import aiohttp

from house import alert, until
from pointsman.testing.fake import FakeTracker

SCRIPT = Path(__file__).with_name("quick_serve.py")


def free_port() -> int:
    """A port nobody listens on right now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Replica:
    """One service process."""

    def __init__(self, folder: Path, config: str, *, dsn: str | None = None, **more: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pointsman.toml").write_text(config, "utf-8")
        self.folder = folder
        self.log = folder / f"replica-{self.port}.log"
        self.environ = {
            **{
                name: value
                for name, value in os.environ.items()
                if "POINTSMAN" not in name and "DATABASE" not in name
            },
            "POINTSMAN_LISTEN": f"127.0.0.1:{self.port}",
            "POINTSMAN_CONFIG": str(folder / "pointsman.toml"),
            "POINTSMAN_DATA_DIR": str(folder / "data"),
            "POINTSMAN_OUTBOUND_ALLOW": "127.0.0.0/8",
            "POINTSMAN_ADMIN_TOKEN": "admin-token-of-the-tests",
            "POINTSMAN_SECRET_KEYS": "6gPbCDWBO3oPg3pYG3m1-Jd6DTOl2sYKsbQKY4x6bZk=",
            **({"POINTSMAN_DATABASE_URL": dsn} if dsn else {}),
            **more,
        }
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> Self:
        """Start it and wait until it is ready."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, str(SCRIPT), env=self.environ, stdout=log, stderr=log
            )
        await until(self.ready, 40)
        return self

    async def ready(self) -> bool:
        """Whether it answers its probe."""
        assert self.process is not None
        assert self.process.returncode is None, f"the replica ended: {self.log.read_text()[-3000:]}"
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}/health/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


class Load:
    """Alerts, each of a problem of its own; ``promised`` are those that were answered 2xx."""

    def __init__(self, urls: list[str], token: str) -> None:
        self.urls = urls
        self.token = token
        self.promised: dict[str, str] = {}

    async def post(self, count: int, *, at_once: int = 16) -> None:
        """Post so many; each is repeated as a sender with a queue would, until somebody takes it."""
        room = asyncio.Semaphore(at_once)
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as session:

            async def one(number: int) -> None:
                issue = str(uuid.uuid4())
                body = alert(id=issue, title=f"Error number {number}")
                async with room:
                    for attempt in range(400):
                        url = self.urls[(number + attempt) % len(self.urls)]
                        try:
                            async with session.post(f"{url}/intake/shop/{self.token}", json=body) as answer:
                                if answer.status == 202:
                                    self.promised[issue] = (await answer.json())["ticket"]
                                    return
                                assert answer.status == 503, await answer.text()
                        except (aiohttp.ClientError, TimeoutError):
                            pass
                        await asyncio.sleep(0.05)
                    raise AssertionError("nobody took the alert")

            await asyncio.gather(*(one(number) for number in range(count)))


class Verdict:
    """What became of what was promised, judged by what really happened at the tracker."""

    def __init__(self, load: Load, tracker: FakeTracker) -> None:
        issues = [effect for effect in tracker.effects if effect.kind == "issue"]
        self.markers = Counter(effect.marker for effect in issues)
        self.duplicates = sum(count - 1 for count in self.markers.values())
        self.lost = max(0, len(set(load.promised.values())) - len(self.markers))

    def __str__(self) -> str:
        return f"issues {sum(self.markers.values())}, duplicates {self.duplicates}, lost {self.lost}"


async def all_delivered(tracker: FakeTracker, count: int, patience_seconds: float = 90.0) -> None:
    """Wait until so many issues were made."""

    async def look() -> bool:
        return len({effect.marker for effect in tracker.effects if effect.kind == "issue"}) >= count

    await until(look, patience_seconds)


async def nothing_waits(url: str, patience_seconds: float = 60.0) -> None:
    """Wait until the metrics say that nothing is pending."""

    async def look() -> bool:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
            return "pointsman_deliveries_pending 0.0" in await answer.text()

    await until(look, patience_seconds)
