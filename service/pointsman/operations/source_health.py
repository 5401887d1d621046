"""What stands in the way of a source: its own check of itself, and when it was last heard."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from pointsman.plugin_api import Finding, Source
from pointsman.plugin_host.snapshot import Catalog, LiveSource
from pointsman.storage import destinations as standing
from pointsman.storage import sources as store
from pointsman.storage.db import Database


def sources(catalog: Catalog, slug: str | None) -> Sequence[LiveSource]:
    """The sources to look at: the one that is named, or all that can say anything."""
    return [
        one
        for one in catalog.sources.values()
        if one.slug == slug
        or (slug is None and (one.reader is None or type(one.reader).check is not Source.check))
    ]


async def of_source(database: Database, one: LiveSource) -> list[Finding]:
    """All findings about a source, each with its name."""
    if one.reader is None:
        found = [Finding(level="error", what=one.problem, breaks="its reports are kept and not understood")]
    else:
        try:
            found = list(await one.reader.check())
        except Exception as error:  # noqa: BLE001 - a stranger's code
            failure = standing.Failure.of(error)
            found = [Finding(level="error", what=str(failure), breaks="what it is asked fails alike")]
    found += await _heard(database, one)
    return [replace(each, what=f"{one.slug}: {each.what}") for each in found]


def strangers(found: Sequence[Finding], redact: str) -> list[Finding]:
    """The findings of a destination, with a warning where the public reads more than its ``redact`` is made for."""
    if redact == "strict":
        return list(found)
    reads = "secrets and personal data" if redact == "off" else "addresses, users and telephone numbers"
    return [
        replace(
            one,
            level="warning",
            breaks=f'with redact = "{redact}" all that reports hold of {reads} can be read by everybody',
            mend='set redact = "strict" at the destination, or take one that is not public',
        )
        if one.public and one.level == "ok"
        else one
        for one in found
    ]


async def _heard(database: Database, one: LiveSource) -> list[Finding]:
    row = await store.standing(database, one.id)
    if row is None:
        return []
    found = []
    if row["heard_at"] is None:
        found.append(
            Finding(
                level="warning",
                what="nothing was heard of it in the last week",
                breaks="perhaps nothing, if nothing happened there",
                mend="let it send a test",
            )
        )
    else:
        found.append(
            Finding(level="ok", what=f"it was last heard at {row['heard_at']:%Y-%m-%d %H:%M:%S} UTC")
        )
    if row["failed_at"] is not None:
        found.append(
            Finding(
                level="error",
                what=f"asking it failed {row['failures']} times in a row: {row['failure']}",
                breaks="reports that were lost on their way are not found",
                mend="see above, or the service's log",
            )
        )
    elif row["polled_to"] is not None:
        found.append(
            Finding(level="ok", what=f"it was asked for all up to {row['polled_to']:%Y-%m-%d %H:%M:%S} UTC")
        )
    return found
