"""Helper processes of the fault suites: the fork server and the tracker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import aiohttp

from polling import until

HERE = Path(__file__).parent


def _with_paths() -> dict[str, str]:
    """Return the environment for programs of this folder."""
    paths = [str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


class ForkServer:
    """The process that replicas are forked from; see ``fork_server.py``."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "fork_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_with_paths(),
            cwd=folder,
        )
        self._requests = 0
        self._pids: dict[int, int] = {}
        self.codes: dict[int, int] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if "forked" in message:
                self._pids[message["request"]] = message["forked"]
            elif "ended" in message:
                self.codes[message["ended"]] = message["code"]

    async def fork(self, environ: dict[str, str], log: Path) -> int:
        """Fork a replica and return its pid."""
        self._requests += 1
        request = self._requests
        assert self._process.stdin is not None
        line = json.dumps({"request": request, "env": environ, "log": str(log)})
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

        async def forked() -> int | None:
            assert self._process.poll() is None, "the fork server ended"
            return self._pids.get(request)

        return await until(forked, 120, every_seconds=0.003)

    def close(self) -> None:
        """End the process and all its children."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


class TrackerProcess:
    """The tracker's process; see ``tracker_main``."""

    def __init__(self, folder: Path, count: int, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.effects = folder / "effects.jsonl"
        self.effects.touch()
        self._log = (folder / "tracker.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "tracker_main.py"), str(count), str(self.effects), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_with_paths(),
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, (folder / "tracker.log").read_text()
        addresses = json.loads(line)
        self.control: str = addresses["control"]
        self.destinations: dict[str, str] = addresses["destinations"]

    async def configure(self, **attributes: Any) -> None:
        """Set attributes of all trackers, or of the one that ``destination`` names."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.control}/configure", json=attributes) as response,
        ):
            assert response.status == 200, await response.text()

    async def state(self) -> dict[str, Any]:
        """Return the state of each tracker."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.control}/state") as response:
            return await response.json()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()
