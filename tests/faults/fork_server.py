"""Fork replicas from a process that has imported the service, which saves a second for each start.

No event loop, thread or connection exists when a replica is forked. Requests and results are lines of JSON on standard
input and output.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import socket
import sys
import traceback
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import quick_serve


def run_replica(request: dict[str, Any]) -> None:
    """Run the service in the forked process and exit."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, 256)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(Path(request["log"]).parent)
    random.seed(os.urandom(16))
    code = 1
    try:
        code = quick_serve.run()
    except BaseException:  # noqa: BLE001 - the traceback goes to the log of the replica
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Fork on request until the input ends, then kill all children."""
    quick_serve.preload()
    gc.collect()
    gc.freeze()
    children: set[int] = set()
    woken, waker = socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)

    def send(**message: Any) -> None:
        os.write(1, (json.dumps(message) + "\n").encode())

    def reap() -> None:
        while children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            children.discard(pid)
            send(ended=pid, code=os.waitstatus_to_exitcode(status))

    selector = DefaultSelector()
    selector.register(0, EVENT_READ)
    selector.register(woken, EVENT_READ)
    send(ready=os.getpid())
    rest = b""
    while True:
        for key, _ in selector.select():
            if key.fd == woken.fileno():
                woken.recv(4096)
                reap()
                continue
            read = os.read(0, 65536)
            if not read:
                for pid in children:
                    os.kill(pid, signal.SIGKILL)
                return
            *lines, rest = (rest + read).split(b"\n")
            for request in map(json.loads, lines):
                pid = os.fork()
                if pid == 0:
                    run_replica(request)
                children.add(pid)
                send(forked=pid, request=request["request"])


if __name__ == "__main__":
    main()
