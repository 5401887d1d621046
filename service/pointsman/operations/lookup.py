"""Finding a ticket by whatever word an operator has for it, and telling its story."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from pointsman.domain.routing import Route
from pointsman.domain.ticket import Status
from pointsman.errors import PointsmanError
from pointsman.operations.explain import model
from pointsman.storage import config, tickets
from pointsman.storage import explain as store
from pointsman.storage.db import Database, Row

_DELIVERY = re.compile(r"([0-9]{1,18})/[0-9]{1,18}")


async def why(database: Database, word: str) -> model.Story:
    """The story behind a ticket's id, a report's id, a delivery, an issue's key or address, or a fingerprint.

    Raises PointsmanError if the word names nothing, or more than one ticket.
    """
    word = word.strip()
    report, found = await _named(database, word)
    if report is not None and report["ticket_id"] is None:
        return model.of_report(report)
    if not found:
        raise PointsmanError(
            f"{word!r} is no ticket, report, delivery, issue or fingerprint that is known. Reports are kept for 14 days;"
            " one that was refused (4xx, 5xx) is not kept: see the log"
        )
    if len(found) > 1:
        named = [_in_words(row) for row in await store.tickets_in_words(database, found)]
        raise PointsmanError(f"{word!r} names several tickets, give the id of one: {'; '.join(named)}")
    ticket = await tickets.ticket(database, found[0])
    if ticket is None:
        raise PointsmanError(f"the ticket of {word!r} was removed")
    return await of_ticket(database, ticket, report)


async def of_ticket(database: Database, ticket: Row, report: Row | None = None) -> model.Story:
    """The story of a ticket whose row is known; ``report`` is the one that was asked about."""
    known = await store.material(database, ticket)
    routes, slugs = await _routes(database)
    return model.story(known, routes, slugs, report)


async def _named(database: Database, word: str) -> tuple[Row | None, Sequence[uuid.UUID]]:
    """A report if the word is its id, and the tickets that are meant."""
    if delivery := _DELIVERY.fullmatch(word):
        ticket_id = await store.ticket_of_lane(database, int(delivery[1]))
        return None, [ticket_id] if ticket_id is not None else []
    if (known := _uuid(word)) is not None:
        if await tickets.ticket(database, known) is not None:
            return None, [known]
        if (report := await store.report(database, known)) is not None:
            return report, [report["ticket_id"]] if report["ticket_id"] is not None else []
    keys, address = _keys(word)
    found = await store.tickets_of_issue(database, keys, address)
    for fingerprint in [] if found else _fingerprints(word):
        found += await store.tickets_of_fingerprint(database, fingerprint)
    return None, found


def _keys(word: str) -> tuple[list[str], str | None]:
    """The keys that a word may mean, and the word itself if it is an address."""
    try:
        parts = urlsplit(word)
    except ValueError:
        return [word], None
    if not parts.scheme or not (parts.netloc or parts.scheme == "file"):
        return [word, word.removeprefix("#"), f"#{word}"], None
    last = unquote(parts.path.rstrip("/").rpartition("/")[2])
    return [last, f"#{last}"], word


def _fingerprints(word: str) -> list[str]:
    """The word itself; of an address at an error tracker also what its source makes of it: origin and id."""
    try:
        parts = urlsplit(word)
    except ValueError:
        return [word]
    ids = [one for one in parts.path.split("/") if len(one) == 36 and _uuid(one) is not None]
    return [word, *(f"{parts.scheme}://{parts.netloc} {one}".lower() for one in ids if parts.netloc)]


def _uuid(word: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(word)
    except ValueError:
        return None


async def _routes(database: Database) -> tuple[list[Route], dict[int, str]]:
    """The routes as they are now, and the destinations' names."""
    rows = await config.load(database)
    ids = {one.slug: one.id for one in rows.destinations}
    routes = [row.rule(ids) for row in rows.routes]
    return routes, {number: slug for slug, number in ids.items()}


def _in_words(row: Row) -> str:
    status = Status(row["status"]).name.lower()
    return f"{row['id']} ({row['source']}, generation {row['generation']}, {status}: {row['title'][:60]})"
