"""Routes, end to end: by title and tags to different destinations, and many problems on one ticket by a template."""

from __future__ import annotations

from pathlib import Path

from configuration import SOURCES, folder_destination
from pointsman import logs
from service_fixture import RunningService


def config(folder: Path, routes: str) -> str:
    destinations = "".join(folder_destination(folder / slug, slug) for slug in ("pay", "rest"))
    return SOURCES + destinations + routes


RULES = """
[[route]]
match = { title = "(?i)^payment", tags = { Where = ["/pay", "/ship"] } }
destination = "pay"
[[route]]
destination = "rest"
"""


async def targets(service: RunningService, ticket: str) -> list[str]:
    return [link["destination"] for link in (await service.ticket(ticket))["links"]]


async def test_title_and_tags_send_reports_to_different_places(dsn: str, tmp_path: Path):
    async with RunningService(dsn, tmp_path) as service, service.replica(config(tmp_path, RULES)):
        created = [
            (await service.alert(id=f"p-{n}", title=title, transaction=where))["ticket"]
            for n, (title, where) in enumerate(
                [("Payment failed", "/pay"), ("Payment failed", "/basket"), ("No payment", "/pay")]
            )
        ]
        assert [await targets(service, ticket) for ticket in created] == [["pay"], ["rest"], ["rest"]]


BY_TITLE = """
[[route]]
name = "one per place"
match.title = "Error"
destination = "rest"
fingerprint = "{{ source }}/{{ tags.Where }}"
[[route]]
destination = "rest"
"""


async def test_problems_with_the_same_fingerprint_by_template_are_one_ticket(dsn: str, tmp_path: Path):
    async with RunningService(dsn, tmp_path) as service, service.replica(config(tmp_path, BY_TITLE)):
        first = await service.alert(id="p-1", title="KeyError", transaction="/pay")
        same = await service.alert(id="p-2", title="ValueError", transaction="/pay")
        other = await service.alert(id="p-3", title="KeyError", transaction="/ship")
        own = await service.alert(id="p-4", title="Slow", transaction="/pay")
        assert same["ticket"] == first["ticket"]
        assert len({first["ticket"], other["ticket"], own["ticket"]}) == 3
        seen = await service.ticket(first["ticket"])
        assert seen["occurrences"] == 2
        people = [await service.new_ticket("Error: help") for _ in range(2)]
        assert people[0] != people[1]


async def test_a_template_that_fails_loses_no_report_and_is_said_once(dsn: str, tmp_path: Path, capfd):
    logs.configure("json", level="warning")
    rules = BY_TITLE.replace("{{ source }}/{{ tags.Where }}", "{{ 1 // (title | length - 8) }}")
    async with RunningService(dsn, tmp_path) as service, service.replica(config(tmp_path, rules)):
        created = [
            (await service.alert(id=f"p-{n}", title="KeyError", status=202))["ticket"] for n in range(3)
        ]
        assert len(set(created)) == 3
        repeated = await service.alert(id="p-0", title="KeyError", digest_order=2)
        assert repeated["ticket"] == created[0]
    response = [line for line in capfd.readouterr().err.splitlines() if "fingerprint template" in line]
    assert len(response) == 1
    assert "one per place" in response[0]
    assert "ZeroDivisionError" in response[0]
