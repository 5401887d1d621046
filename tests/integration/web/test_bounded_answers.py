"""Test that answers have a bound: lists, events of one ticket, and the console's page of it."""

from __future__ import annotations

import re
import uuid

import aiohttp

from configuration import ADMIN, SOURCES
from pointsman.storage.tickets import EVENTS_LIMIT, PAGE_BYTES
from service_fixture import RunningService

LONG = 100_000
"""Characters of the longest text that the API takes."""


async def add_events(running, ticket: str, count: int, characters: int) -> None:
    """Write comments into the database, as many requests would."""
    await running.services.database.fetch(
        """insert into event (ticket_id, n, kind, data)
           select $1, n, 'commented', jsonb_build_object('body', n || repeat('é', $3), 'author', '{}'::jsonb)
           from generate_series(2, $2) n""",
        uuid.UUID(ticket),
        count,
        characters,
    )
    await running.services.database.fetch(
        "update ticket set next_event = $2 where id = $1", uuid.UUID(ticket), count + 1
    )


async def read(service: RunningService, path: str) -> tuple[int, dict]:
    """Return the size of an answer and the answer."""
    async with service.client.get(path, headers={"Authorization": f"Bearer {ADMIN}"}) as response:
        assert response.status == 200, await response.text()
        return len(await response.read()), await response.json()


async def test_the_events_of_a_ticket_are_paged_by_number_and_bytes(service: RunningService):
    async with service.replica(SOURCES) as running:
        for count, characters in ((450, 1), (60, LONG)):
            ticket = await service.new_ticket()
            await add_events(running, ticket, count, characters)
            numbers, query, pages = [], "", 0
            while True:
                size, answer = await read(service, f"/api/v1/tickets/{ticket}{query}")
                assert size < PAGE_BYTES + 3 * LONG
                assert 1 <= len(answer["events"]) <= EVENTS_LIMIT
                numbers += [event["n"] for event in answer["events"]]
                pages += 1
                if "events_next" not in answer:
                    break
                query = f"?events_after={answer['events_next']}"
            assert numbers == list(range(1, count + 1))
            assert pages == (3 if characters == 1 else 10)
        closed = await service.call("POST", f"/api/v1/tickets/{ticket}/close", token=ADMIN, status=200)
        assert (closed["status"], len(closed["events"])) == ("closed", 7)


async def test_an_event_larger_than_a_page_is_a_page(service: RunningService):
    async with service.replica(SOURCES) as running:
        ticket = await service.new_ticket()
        await add_events(running, ticket, 3, PAGE_BYTES)
        _, answer = await read(service, f"/api/v1/tickets/{ticket}?events_after=1")
        assert ([event["n"] for event in answer["events"]], answer["events_next"]) == ([2], 2)


async def test_a_list_ends_where_its_texts_are_too_long_and_goes_on_with_the_cursor(service: RunningService):
    async with service.replica(SOURCES) as running:
        opened = [await service.new_ticket() for _ in range(40)]
        await running.services.database.fetch("update ticket set description = repeat('é', $1)", LONG)
        seen, cursor = [], ""
        while True:
            size, answer = await read(service, f"/api/v1/tickets?limit=200{cursor}")
            assert size < PAGE_BYTES + 3 * LONG
            seen += [ticket["id"] for ticket in answer["tickets"]]
            if answer["next"] is None:
                break
            cursor = f"&cursor={answer['next']}"
        assert seen == opened[::-1]


async def test_the_console_cuts_texts_and_pages_events(service: RunningService):
    async with service.replica(SOURCES) as running:
        ticket = await service.new_ticket()
        await running.services.database.fetch("update ticket set description = repeat('é', $1)", LONG)
        await add_events(running, ticket, 450, LONG)
        await running.services.database.fetch(
            """insert into event (ticket_id, n, kind, data) values ($1, 451, 'regressed',
               jsonb_build_object('text', 'short', 'facts', jsonb_build_array(jsonb_build_array('Tags', repeat('x', $2)))))""",
            uuid.UUID(ticket),
            LONG,
        )
        auth = {"Authorization": aiohttp.encode_basic_auth("operator", ADMIN)}
        path = address = f"/console/tickets/{ticket}"
        numbers, pages = set(), 0
        while address:
            async with service.client.get(address, headers=auth) as response:
                assert response.status == 200
                page = await response.text()
            assert len(page.encode()) < 2 * PAGE_BYTES
            numbers |= {int(number) for number in re.findall(r">(\d+)é+", page)}
            assert ("too long for this page" in page) == (pages == 0)
            assert f"({LONG - 20_000} more characters)" in page
            pages += 1
            older = re.search(r'<a href="(\?events_before=\d+)">Older events</a>', page)
            address = path + older[1] if older else ""
        assert numbers == set(range(2, 451))
        assert pages == 6
