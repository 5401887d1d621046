"""A ticket found by any reference, and its history, from a running service."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import uuid
from pathlib import Path

import pytest

from configuration import SOURCES, folder_destination, route
from pointsman.errors import PointsmanError
from pointsman.operations import lookup
from pointsman.storage.db import Database
from polling import until
from service_fixture import RunningService
from source_examples import alert


def config(folder: Path) -> str:
    return SOURCES + folder_destination(folder) + route(lines='match = { source = "shop" }')


async def test_a_ticket_is_found_by_any_reference(service: RunningService, tmp_path: Path):
    """Find it by id, report, delivery, issue key and URL, fingerprint, and its URL at the source."""
    async with service.replica(config(tmp_path / "issues")):
        response = await service.alert()
        counted = await service.alert(last_seen="2026-11-21T10:00:00Z", id=alert()["id"], title="again")
        link = await service.linked(response["ticket"])
        parked = await service.alert("ESCALATED", id="other")
        helped = await service.new_ticket()
        async with Database.open(service.settings.database_url.reveal(), size=2) as database:

            async def done():
                return not await database.fetchval("select count(*) from lane where state <> 0")

            await until(done)
            fingerprint = await database.fetchval(
                "select fingerprint from ticket where id = $1", uuid.UUID(response["ticket"])
            )
            lane = await database.fetchval("select id from lane order by id limit 1")
            for reference in (
                response["ticket"],
                response["report"],
                counted["report"],
                f"{lane}/1",
                link["key"],
                f"#{link['key']}",
                link["url"],
                fingerprint,
                alert()["url"],
            ):
                history = await lookup.explain(database, f" {reference} ")
                assert history.ticket and str(history.ticket.id) == response["ticket"], reference
                assert history.destinations[0].issue == "1"
                assert history.destinations[0].deliveries[0].state == "done"
            assert "could not be processed" in (await lookup.explain(database, parked["report"])).reasons[0]
            unrouted = await lookup.explain(database, helped)
            assert unrouted.reasons[0].startswith("There is no issue: no route matched the ticket")
            assert "source: wanted shop, got helpdesk" in unrouted.routes[0].message
            for reference in (
                "nothing",
                str(uuid.uuid4()),
                "99/1",
                "https://[",
                "https://git.example/9",
                "",
                "\u0660/1",
            ):
                with pytest.raises(PointsmanError, match="is no ticket"):
                    await lookup.explain(database, reference)
            await database.execute("update ticket set fingerprint = 'same'")
            with pytest.raises(PointsmanError, match="names several tickets"):
                await lookup.explain(database, "same")


async def test_looking_for_an_issue_uses_indexes(database: Database):
    """Search by key and by fingerprint among many tickets."""
    from pointsman.storage.queries import queries

    sql = queries("explain")
    async with database.pool.acquire() as con:
        await con.execute(
            "insert into source (slug, kind) values ('s', 'tickets');"
            "insert into destination (slug, tracker) values ('there', 'folder');"
            "insert into ticket (id, source_id, kind, fingerprint, title)"
            " select gen_random_uuid(), 1, 2, n::text, 't' from generate_series(1, 20000) n;"
            "insert into lane (ticket_id, destination_id) select id, 2 from ticket;"
            "insert into link (lane_id, destination_id, remote_id, remote_key) select id, 2, id, id from lane;"
            "analyze"
        )
        for name, values in (
            ("tickets_of_keys", {"$1::text[]": "array['17']", "$2::text": "null::text", "$2": "null"}),
            ("tickets_of_fingerprint", {"$1": "'17'"}),
        ):
            statement = sql[name]
            for old, new in values.items():
                statement = statement.replace(old, new)
            plan = "\n".join(row[0] for row in await con.fetch(f"explain {statement}"))
            assert not any(f"Seq Scan on {table}" in plan for table in ("link", "lane", "ticket")), plan


def test_the_command_prints_text_and_json(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from click.testing import CliRunner

    from pointsman.cli.main import main

    async def live() -> str:
        async with RunningService(dsn, tmp_path) as service, service.replica(config(tmp_path / "issues")):
            ticket = (await service.alert())["ticket"]
            await service.linked(ticket)
            return ticket

    ticket = asyncio.run(live())
    for name in [name for name in os.environ if name.startswith(("POINTSMAN", "DATABASE_URL", "FORGEJO"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("POINTSMAN_DATABASE_URL", dsn)
    monkeypatch.setenv("POINTSMAN_DATA_DIR", str(tmp_path / "data"))
    done = CliRunner().invoke(main, ["explain", ticket])
    assert done.exit_code == 0, done.output
    for text in ("Issue 1 at there", "route 1 matches: to there", "create: done", "event 1: opened"):
        assert text in done.output
    as_json = json.loads(CliRunner().invoke(main, ["explain", "1", "--json"]).output)
    assert as_json["ticket"]["id"] == ticket
    assert as_json["destinations"][0]["deliveries"][0]["attempts"][0]["outcome"] == "done"
    assert dt.datetime.fromisoformat(as_json["events"][0]["at"])
    gone = CliRunner().invoke(main, ["explain", "nothing"])
    assert gone.exit_code == 1 and gone.stderr.startswith("pointsman: ")
