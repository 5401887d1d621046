"""The bench runs with all contestants; the figures are not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
OURS = {
    *("intake/pointsman", "intake/hot", "intake/delivering", "intake/bare", "intake/insert"),
    *("delivery/pointsman", "delivery/full", "delivery/bare"),
    *("latency/pointsman", "idle/pointsman"),
}
PEERS = {"delivery/pgqueuer", "delivery/procrastinate", "latency/pgqueuer"}


@pytest.mark.slow
def test_every_contestant_runs(tmp_path: Path):
    """The quick form measures each contestant; the packages of the peers exist once `make bench` ran."""
    result, table = tmp_path / "result.json", tmp_path / "table.md"
    completed = subprocess.run(
        [
            *(
                sys.executable,
                str(ROOT / "bench" / "run.py"),
                "--quick",
                "--finished",
                "1000",
                "--blocked",
                "100",
            ),
            *("--data", str(tmp_path / "data"), "--json", str(result), "--markdown", str(table)),
        ],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    peers_exist = (ROOT / "bench" / ".venv" / "bin" / "python").exists()
    wanted = OURS | (PEERS if peers_exist else set())
    seen = json.loads(result.read_text("utf-8"))
    assert set(seen["rounds"]) == wanted, completed.stderr
    for name, rounds in seen["rounds"].items():
        assert len(rounds) == 1, name
        assert all(isinstance(value, int | float) for value in rounds[0].values()), name
    for name in sorted(name for name in wanted if name.startswith(("delivery/", "intake/"))):
        assert seen["rounds"][name][0]["per_second"] > 0, name
    lines = table.read_text("utf-8").splitlines()
    assert len(lines) == len(seen["lines"]) + 2
    assert len(seen["lines"]) == (15 if peers_exist else 11)
