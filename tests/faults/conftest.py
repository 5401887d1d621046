"""What the suites of faults share: a server, a tracker, the process that replicas are forked from, seeds, a summary."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Cluster, TrackerProcess, Zygote
from oracle import Verdict
from server import Server

_RESULTS = pytest.StashKey[list[str]]()
_SEED = pytest.StashKey[str]()
PLACES = 6


def pytest_configure(config: pytest.Config) -> None:
    """A place for the results."""
    config.stash[_RESULTS] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """A failure says how to see it again."""
    report = yield
    if report.failed and (line := item.stash.get(_SEED, "")) and hasattr(report.longrepr, "addsection"):
        report.longrepr.addsection("again", line)
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What each suite did and found."""
    if lines := config.stash[_RESULTS]:
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of everything that is thrown; FAULTS_SEED repeats it."""
    number = int(os.environ.get("FAULTS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    again = f"FAULTS_SEED={number} make faults ARGS='-k {request.node.originalname}'"
    request.node.stash[_SEED] = again
    print(f"\n{again}")
    return number


@pytest.fixture
def dice(seed: int) -> random.Random:
    """Dice that fall the same way for the same seed."""
    return random.Random(seed)


@pytest.fixture
def note(request: pytest.FixtureRequest, seed: int) -> Callable[..., None]:
    """Write down what a suite did, for the summary."""
    began = time.monotonic()

    def write(verdict: Verdict | str = "", **figures: Any) -> None:
        words = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items())
        line = f"{request.node.name}: {words}{'; ' if words and verdict else ''}{verdict} ({time.monotonic() - began:.0f} s, seed {seed})"
        print(line)
        request.config.stash[_RESULTS].append(line)

    return write


@pytest.fixture(scope="session")
def faults_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the suites keep their things."""
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="session")
def zygote(faults_folder: Path) -> Iterator[Zygote]:
    """Replicas are forked from it."""
    made = Zygote(faults_folder)
    yield made
    made.close()


@pytest.fixture(scope="session")
def server(faults_folder: Path) -> Iterator[Server]:
    """A Postgres that no suite restarts."""
    made = Server(faults_folder / "server", max_connections="150")
    made.create()
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Postgres of a file's own, to be mishandled."""
    made = Server(tmp_path_factory.mktemp("own-server"))
    made.create()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def tracker(tmp_path: Path, seed: int) -> Iterator[TrackerProcess]:
    """A tracker in good health."""
    made = TrackerProcess(tmp_path / "tracker", PLACES, seed)
    yield made
    made.close()


@pytest.fixture
def cluster(
    zygote: Zygote, server: Server, tracker: TrackerProcess, tmp_path: Path, dice: random.Random
) -> Callable[..., Awaitable[Cluster]]:
    """Makes a cluster over a new database; ``part`` names one of several."""

    async def make(*, over: Server | None = None, part: str = "", **more: Any) -> Cluster:
        home = over or server
        name = await home.database()
        more.setdefault("direct", home.dsn(name))
        dsn = more.pop("dsn", home.dsn)
        return Cluster(zygote, tracker, tmp_path / part, dsn(name), random.Random(dice.random()), **more)

    return make
