"""Fixtures of the fault suites: a server, a tracker, the fork server, seeds, and a summary."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Cluster
from oracle import Verdict
from processes import ForkServer, TrackerProcess
from server import Server

_SEED = pytest.StashKey[str]()
DESTINATIONS = 6


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Add to a failure the command that repeats it."""
    report = yield
    if report.failed and (line := item.stash.get(_SEED, "")) and hasattr(report.longrepr, "addsection"):
        report.longrepr.addsection("repeat", line)
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the figures of each suite, also those from other processes of pytest-xdist."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    if lines := [text for report in reports for name, text in report.user_properties if name == "figures"]:
        terminalreporter.section("faults")
        for line in dict.fromkeys(lines):
            terminalreporter.write_line(line)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Return the seed of all random choices; FAULTS_SEED sets it."""
    number = int(os.environ.get("FAULTS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    repeat = f"FAULTS_SEED={number} make faults ARGS='-k {request.node.originalname}'"
    request.node.stash[_SEED] = repeat
    print(f"\n{repeat}")
    return number


@pytest.fixture
def dice(seed: int) -> random.Random:
    """Return the random number generator of the seed."""
    return random.Random(seed)


@pytest.fixture
def note(request: pytest.FixtureRequest, seed: int) -> Callable[..., None]:
    """Return a function that adds the figures of a suite to the summary."""
    started_at = time.monotonic()

    def write(verdict: Verdict | str = "", **figures: Any) -> None:
        text = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items())
        line = f"{request.node.name}: {text}{'; ' if text and verdict else ''}{verdict} ({time.monotonic() - started_at:.0f} s, seed {seed})"
        print(line)
        request.node.user_properties.append(("figures", line))

    return write


@pytest.fixture(scope="session")
def faults_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder for files of all suites."""
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="session")
def fork_server(faults_folder: Path) -> Iterator[ForkServer]:
    """Start the fork server."""
    fork_server = ForkServer(faults_folder)
    yield fork_server
    fork_server.close()


@pytest.fixture(scope="session")
def server(faults_folder: Path) -> Iterator[Server]:
    """Start a PostgreSQL server that no suite restarts."""
    server = Server(faults_folder / "server", max_connections="150")
    server.create()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a PostgreSQL server for one module that restarts and breaks it."""
    server = Server(tmp_path_factory.mktemp("own-server"))
    server.create()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def tracker(tmp_path: Path, seed: int) -> Iterator[TrackerProcess]:
    """Start the tracker process, without faults."""
    tracker = TrackerProcess(tmp_path / "tracker", DESTINATIONS, seed)
    yield tracker
    tracker.close()


@pytest.fixture
def new_cluster(
    fork_server: ForkServer, server: Server, tracker: TrackerProcess, tmp_path: Path, dice: random.Random
) -> Callable[..., Awaitable[Cluster]]:
    """Return a function that creates a cluster over a new database; ``part`` distinguishes several clusters of a test."""

    async def create(*, on: Server | None = None, part: str = "", **options: Any) -> Cluster:
        home = on or server
        name = await home.database()
        options.setdefault("direct", home.dsn(name))
        dsn = options.pop("dsn", home.dsn)
        return Cluster(
            fork_server, tracker, tmp_path / part, dsn(name), random.Random(dice.random()), **options
        )

    return create
