"""Test that nobody's mailbox is filled: mails to an address have a limit, and those that wait become one."""

from __future__ import annotations

from configuration import ADMIN, SOURCES
from pointsman.delivery.email_sender import MAILS_PER_ADDRESS_AND_HOUR
from polling import until
from service_fixture import RunningService

PENDING = """
    select d.event_n, l.due_at > now() + interval '1 minute' as waits
    from delivery d join lane l on l.id = d.lane_id join destination x on x.id = l.destination_id
    where x.kind = 2 and d.state = 0 order by d.seq"""


async def test_an_address_gets_ten_mails_and_then_the_newest_transition_waits(service: RunningService):
    """Closed and reopened thirty times, with its address in two spellings at two tickets; another address gets its mail."""
    async with service.replica(SOURCES) as running:
        database = running.services.database
        victim = await service.new_ticket(reporter={"email": "Victim@x.example"})
        for number in range(30):
            action = "reopen" if number % 2 else "close"
            await service.call("POST", f"/api/v1/tickets/{victim}/{action}", token=ADMIN, status=200)

        async def waits():
            rows = await database.fetch(PENDING)
            return rows and all(row["waits"] for row in rows) and rows

        rows = await until(waits)
        assert len(rows) <= 2
        assert rows[-1]["event_n"] == 31
        assert len(service.sink.mails) == MAILS_PER_ADDRESS_AND_HOUR
        second = await service.new_ticket(reporter={"email": "victim@X.example"})
        other = await service.new_ticket(reporter={"email": "ben@x.example"})
        for ticket in (second, other):
            await service.call("POST", f"/api/v1/tickets/{ticket}/close", token=ADMIN, status=200)

        async def told():
            return len(service.sink.mails) > MAILS_PER_ADDRESS_AND_HOUR

        await until(told)
        assert [mail["To"] for mail in service.sink.mails[MAILS_PER_ADDRESS_AND_HOUR:]] == ["ben@x.example"]
        limits = await database.fetchval("select count(*) from rate_limit where scope = '@mail'")
        assert limits == 2
