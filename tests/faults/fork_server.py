"""Replicas without the second that Python needs to import the service: one process imports, and each replica is forked
from it before any loop, thread or connection exists. Speaks lines of JSON over standard input and output.
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


def replica(order: dict[str, Any]) -> None:
    """The life of a forked replica."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, 256)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(Path(order["log"]).parent)
    random.seed(os.urandom(16))
    code = 1
    try:
        code = quick_serve.run()
    except BaseException:  # noqa: BLE001 - the last words of a process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Fork on request until the input ends, and then leave nobody behind."""
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

    def say(**words: Any) -> None:
        os.write(1, (json.dumps(words) + "\n").encode())

    def reap() -> None:
        while children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            children.discard(pid)
            say(ended=pid, code=os.waitstatus_to_exitcode(status))

    selector = DefaultSelector()
    selector.register(0, EVENT_READ)
    selector.register(woken, EVENT_READ)
    say(ready=os.getpid())
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
            *orders, rest = (rest + read).split(b"\n")
            for order in map(json.loads, orders):
                pid = os.fork()
                if pid == 0:
                    replica(order)
                children.add(pid)
                say(forked=pid, order=order["order"])


if __name__ == "__main__":
    main()
