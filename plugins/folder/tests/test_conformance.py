"""The conformance kit, run against the folder plugin. The folder itself is what a person sees and edits."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any, Self

import pytest

from pointsman.testing.conformance import ConformanceSuite, IssueSnapshot, TrackerCase, TrackerDouble
from pointsman_folder import FolderTracker

_STATUS = re.compile(r"^status: *(\w+)", re.MULTILINE)
_TITLE = re.compile(r"^title: *(.*)", re.MULTILINE)


class FolderDouble(TrackerDouble):
    """A folder of its own."""

    async def __aenter__(self) -> Self:
        self.place = tempfile.TemporaryDirectory()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.place.cleanup()

    def settings(self) -> dict[str, Any]:
        return {"path": self.place.name}

    def files(self) -> dict[str, Path]:
        """The issue files by number, from the folder and from ``closed/``."""
        return {str(int(path.name[:4])): path for path in sorted(Path(self.place.name).glob("**/*.md"))}

    async def issues(self) -> list[IssueSnapshot]:
        return [self.read(number, path) for number, path in self.files().items()]

    def read(self, number: str, path: Path) -> IssueSnapshot:
        whole = path.read_text("utf-8", "replace")
        _, head, text = whole.split("---\n", 2)
        title, status = _TITLE.search(head), _STATUS.search(head)
        assert title is not None and status is not None
        return IssueSnapshot(
            remote_id=number,
            title=title[1],
            text=text,
            state="closed" if status[1] == "closed" or path.parent.name == "closed" else "open",
            comments=tuple(re.split(r"^## Comment \u00b7 .*\n", text, flags=re.MULTILINE)[1:]),
            version=(whole, path.stat().st_mtime_ns),
        )

    async def close(self, remote_id: str) -> None:
        self.edit(remote_id, "closed")

    async def reopen(self, remote_id: str) -> None:
        self.edit(remote_id, "open")

    def edit(self, remote_id: str, status: str) -> None:
        path = self.files()[remote_id]
        path.write_bytes(
            re.sub(rb"(?m)^status:.*$", b"status: " + status.encode(), path.read_bytes(), count=1)
        )


@pytest.fixture
def tracker_case() -> TrackerCase:
    # a file's first line may be as long as it likes
    return TrackerCase(tracker=FolderTracker, double=FolderDouble, title_limit=1_000_000)


class TestConformance(ConformanceSuite):
    """The folder does what every tracker has to."""
