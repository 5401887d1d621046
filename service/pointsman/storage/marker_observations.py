"""Store which issues were observed with which markers.

An observation resolves an unknown outcome; two of one marker are duplicates.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import NamedTuple

from pointsman.storage.batching import columns
from pointsman.storage.db import Database
from pointsman.storage.queries import queries

SQL = queries("marker_observations")


class MarkerObservation(NamedTuple):
    """An issue that was observed with a marker."""

    destination_id: int
    marker: uuid.UUID
    remote_id: str
    remote_key: str
    url: str
    seen_by: str


async def record_marker(
    database: Database, destination_id: int, marker: uuid.UUID, issue: tuple[str, str, str], seen_by: str
) -> None:
    """Record that an issue (id, key, address) has a marker."""
    await record_markers(database, [MarkerObservation(destination_id, marker, *issue, seen_by)])


async def record_markers(database: Database, observations: Sequence[MarkerObservation]) -> list[None]:
    """Record observations. Those of one marker go into separate statements, so that the second sees the first."""
    remaining = list(observations)
    while remaining:
        firsts: dict[uuid.UUID, MarkerObservation] = {}
        later = [
            observation
            for observation in remaining
            if firsts.setdefault(observation.marker, observation) is not observation
        ]
        await database.execute(SQL["insert_marker_observations"], *columns(list(firsts.values())))
        remaining = later
    return [None] * len(observations)


async def issues_with_marker(
    database: Database, destination_id: int, marker: uuid.UUID
) -> list[tuple[str, str, str]]:
    """Return the issues (id, key, URL) that were observed with a marker, the oldest observation first."""
    rows = await database.fetch(SQL["issues_with_marker"], destination_id, marker)
    return [(row["remote_id"], row["remote_key"], row["url"]) for row in rows]
