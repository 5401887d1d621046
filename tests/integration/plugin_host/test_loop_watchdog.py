"""Attribution of a blocked event loop to a plugin."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """
import asyncio, sys, time
from pointsman import logs
from pointsman.plugin_host.loop_watchdog import LoopWatchdog

logs.configure("json", level="critical")

async def main():
    dog = LoopWatchdog({"__main__": "mine"}, stall_seconds=0.5)
    async with dog.running():
        await asyncio.sleep(0.6)
        print("ready", flush=True)
        what = await asyncio.to_thread(sys.stdin.readline)
        if what == "sleep\\n":
            time.sleep(2)
        elif what == "compute\\n":
            end = time.monotonic() + 2
            while time.monotonic() < end:
                # one call that keeps the interpreter to itself
                sum(range(30_000_000))
        await asyncio.sleep(0.6)
        print(dog.stalls["mine"], flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize(("activity", "blamed"), [("sleep", True), ("compute", True), ("stop", False)])
async def test_a_process_that_stood_still_as_a_whole_blames_nobody(activity: str, blamed: bool):
    """A plugin that sleeps or computes is named; one that was only there when the process was stopped is not."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert program.stdin is not None
    assert program.stdout is not None
    async with asyncio.timeout(60):
        assert await program.stdout.readline() == b"ready\n"
        if activity == "stop":
            for _ in range(3):
                program.send_signal(signal.SIGSTOP)
                # the duration of the pause is under test
                await asyncio.sleep(1.5)
                program.send_signal(signal.SIGCONT)
                await asyncio.sleep(0.3)
        program.stdin.write(f"{activity}\n".encode())
        stalls = int(await program.stdout.readline())
        assert await program.wait() == 0
    assert (stalls > 0) is blamed
