"""Issues that were seen with a marker of ours: what settles a doubt, and what shows that there are two."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import NamedTuple

from pointsman.storage.batching import columns
from pointsman.storage.db import Database
from pointsman.storage.queries import queries

SQL = queries("marker_observations")


class MarkerObservation(NamedTuple):
    """An issue that carries a marker."""

    destination_id: int
    marker: uuid.UUID
    remote_id: str
    remote_key: str
    url: str
    seen_by: str


async def record_marker(
    database: Database, destination_id: int, marker: uuid.UUID, issue: tuple[str, str, str], seen_by: str
) -> None:
    """Write down that an issue (id, key, address) carries a marker."""
    await record_markers(database, [MarkerObservation(destination_id, marker, *issue, seen_by)])


async def record_markers(database: Database, seen: Sequence[MarkerObservation]) -> list[None]:
    """Write down sightings. Two of one marker go one after the other, so that the second sees the first."""
    left = list(seen)
    while left:
        firsts: dict[uuid.UUID, MarkerObservation] = {}
        later = [one for one in left if firsts.setdefault(one.marker, one) is not one]
        await database.execute(SQL["insert_marker_observations"], *columns(list(firsts.values())))
        left = later
    return [None] * len(seen)
