"""Fixtures of the folder plugin's tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pointsman.plugin_api import Response
from pointsman_folder import FolderTracker
from pointsman_folder.tracker import FolderSettings


class NoClient:
    """The folder tracker must never speak HTTP."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        raise AssertionError(f"{method} {path} from a tracker without HTTP")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "issues"


@pytest.fixture
def make_tracker():
    return lambda path: FolderTracker(FolderSettings(path=str(path)), NoClient())


@pytest.fixture
def tracker(root, make_tracker):
    return make_tracker(root)
