"""The command line against a real database."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from configuration import SOURCES
from pointsman.cli.main import main
from service_fixture import RunningService

KEY = "6gPbCDWBO3oPg3pYG3m1-Jd6DTOl2sYKsbQKY4x6bZk="


@pytest.fixture
def run(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a command against the test's database."""
    for name in [name for name in os.environ if name.startswith(("POINTSMAN", "DATABASE_URL", "FORGEJO"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("POINTSMAN_DATABASE_URL", dsn)
    monkeypatch.setenv("POINTSMAN_SECRET_KEYS", KEY)
    monkeypatch.setenv("POINTSMAN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("POINTSMAN_LOG", "json")

    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, list(arguments))
        assert result.exit_code == code, result.output + result.stderr
        return result

    return run


def config(folder: Path, **more: str) -> str:
    text = (
        SOURCES
        + f'[[destination]]\nslug = "there"\ntracker = "folder"\n[destination.settings]\npath = "{folder}"\n'
    )
    return text + more.get("tail", '[[route]]\ndestination = "there"\n')


def test_plan_shows_and_changes_nothing_apply_changes_and_is_repeatable(run, tmp_path: Path):
    file = tmp_path / "pointsman.toml"
    file.write_text(config(tmp_path / "issues"), "utf-8")
    planned = run("plan", str(file)).stdout
    assert "+ source shop" in planned
    assert "+ destination there" in planned
    assert run("plan", str(file)).stdout == planned
    assert "4 changes applied" in run("apply", str(file)).output
    assert "nothing changed" in run("apply", str(file)).output
    file.write_text(config(tmp_path / "elsewhere", tail=""), "utf-8")
    second = run("apply", str(file)).output
    assert "~ destination there (settings)" in second
    assert "~ routes" in second
    file.write_text(SOURCES, "utf-8")
    assert "- destination there" in run("apply", str(file)).output
    assert "nothing changed" in run("apply", str(file)).output


def test_a_wrong_file_changes_nothing_and_names_file_table_and_key(run, tmp_path: Path):
    file = tmp_path / "wrong.toml"
    text = config(tmp_path / "issues")
    file.write_text(
        text.replace('kind = "bugsink"', 'kind = "nothing"').replace("[[route]]", '[[route]]\ncolour = "red"')
    )
    error = run("apply", str(file), code=2).stderr
    assert "wrong.toml: [[source]] shop: kind" in error
    assert "wrong.toml: [[route]] number 1" in error
    assert "colour" in error
    assert "no destinations" in run("destinations").output or "there" not in run("destinations").output


def test_a_missing_variable_is_named_with_its_place(run, tmp_path: Path):
    file = tmp_path / "pointsman.toml"
    file.write_text(
        '[[source]]\nslug = "shop"\nkind = "bugsink"\ntoken = { env = "NOT_SET_ANYWHERE" }\n', "utf-8"
    )
    error = run("apply", str(file), code=2).stderr
    assert "[[source]] shop: token" in error
    assert "NOT_SET_ANYWHERE" in error


def test_literal_secrets_are_sealed_in_the_database(run, dsn: str, tmp_path: Path):
    import asyncpg

    text = SOURCES + (
        '[[destination]]\nslug = "there"\ntracker = "forgejo"\nwebhook_secrets = ["literal-hook-secret"]\n'
        '[destination.settings]\nurl = "https://forgejo.example.com"\ntoken = "literal-api-token"\n'
        'repository = "acme/shop"\n'
    )
    file = tmp_path / "pointsman.toml"
    file.write_text(text, "utf-8")
    run("apply", str(file))
    assert "nothing changed" in run("apply", str(file)).output

    async def dump() -> str:
        con = await asyncpg.connect(dsn)
        rows = [
            str(dict(row))
            for table in ("source", "destination", "audit")
            for row in await con.fetch(f"table {table}")
        ]
        await con.close()
        return "\n".join(rows)

    kept = asyncio.run(dump())
    assert "sealed" in kept
    for secret in ("literal-hook-secret", "literal-api-token", "shop-token-of-the-tests"):
        assert secret not in kept


def test_tickets_deliveries_and_a_pause(run, dsn: str, tmp_path: Path):
    async def live() -> str:
        async with RunningService(dsn, tmp_path) as service, service.replica(config(tmp_path / "issues")):
            ticket = await service.new_ticket("I can't pay")
            await service.linked(ticket)
            return ticket

    ticket = asyncio.run(live())
    assert "I can't pay" in run("tickets").output
    assert json.loads(run("tickets", "list", "--json").output)[0]["issues"][0]["key"] == "1"
    shown = run("tickets", "show", ticket).output
    assert "there (folder): 1 file://" in shown
    assert "Delivery to there: create an issue (done)" in shown
    assert "Attempt at there: create an issue (done)" in shown
    history = json.loads(run("tickets", "show", ticket, "--json").output)
    assert history["destinations"][0]["issue"] == "1"
    assert json.loads(run("deliveries", "list", "--state", "done", "--json").output)[0]["ticket"] == ticket
    assert "no deliveries" in run("deliveries", "--state", "dead").output
    assert "paused (operator)" in run("destinations", "pause", "there").output
    assert "next: run `pointsman destinations resume there`" in run("destinations", "show", "there").output
    assert "paused" not in run("destinations", "resume", "there").output
    assert "paused" not in run("destinations").output
    assert "there" in run("doctor").output
    assert "no report is parked" in run("reports").output


@pytest.mark.parametrize(
    "arguments",
    [
        ("tickets", "show", "not-an-id"),
        ("tickets", "show", "0198f0c2-0000-7000-8000-000000000000"),
        ("replay", "1/1"),
        ("replay", "x"),
        ("destinations", "pause", "nothere"),
        ("destinations", "show", "nothere"),
        ("doctor", "nothere"),
        ("reports", "reprocess", "0198f0c2-0000-7000-8000-000000000000"),
        ("webhooks", "reprocess", "not-an-id"),
    ],
)
def test_what_is_not_there_is_reported_without_a_traceback(run, arguments):
    result = run(*arguments, code=1)
    assert result.stderr.startswith("pointsman: ")
    assert "Traceback" not in result.stderr


def test_all_mistakes_in_the_environment_at_once():
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN")},
        "POINTSMAN_LISTEN": "nowhere",
        "POINTSMAN_SMTP_URL": "ftp://mail",
        "POINTSMAN_SECRET_KEYS": "short",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pointsman", "serve"], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    for name in ("POINTSMAN_LISTEN", "POINTSMAN_SMTP_URL", "POINTSMAN_SECRET_KEYS"):
        assert name in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_demo_twice_on_the_same_data(tmp_path: Path):
    """Exit code 0 confirms every step, on the second run too."""
    environ = {
        **{name: value for name, value in os.environ.items() if "POINTSMAN" not in name},
        "POINTSMAN_DATA_DIR": str(tmp_path),
    }
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "pointsman", "demo", "--once", "--port", "0"],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("✓") == 10, done.stdout


def test_the_doctor_writes_only_when_asked(run, tmp_path: Path):
    file = tmp_path / "pointsman.toml"
    file.write_text(config(tmp_path / "issues"), "utf-8")
    run("apply", str(file))
    run("doctor", "there")
    assert not list((tmp_path / "issues").glob("*.md"))
    output = run("doctor", "there", "--write-test").output
    for step in ("created issue 1", "commented", "found it", "closed it"):
        assert step in output
    [issue] = (tmp_path / "issues").glob("*.md")
    assert "status: closed" in issue.read_text("utf-8")


async def test_tickets_without_a_route_are_routed_after_a_change(
    run, service: RunningService, tmp_path: Path
):
    file = tmp_path / "pointsman.toml"
    nowhere = '[[route]]\nmatch = { environment = "production" }\ndestination = "there"\n'
    file.write_text(config(tmp_path / "issues", tail=nowhere), "utf-8")
    async with service.replica(file.read_text("utf-8")):
        ticket = (await service.alert("NEW"))["ticket"]
        assert "0 tickets routed" in await asyncio.to_thread(lambda: run("reroute").output)
        file.write_text(config(tmp_path / "issues"), "utf-8")
        applied = await asyncio.to_thread(lambda: run("apply", str(file)).output)
        assert "1 open ticket has no route: after an apply, `pointsman reroute --dry-run` lists" in applied
        for command, end in ((["--dry-run"], "would be routed"), ([], "routed")):
            output = await asyncio.to_thread(lambda args=command: run("reroute", *args).output)
            assert f"{ticket}  shop -> there" in output
            assert output.endswith(f"1 ticket {end}\n")
        await service.linked(ticket)
        assert "0 tickets" in await asyncio.to_thread(lambda: run("reroute").output)


async def test_reconcile_tells_in_its_exit_code_whether_anything_differs(
    run, service: RunningService, dsn: str, tmp_path: Path
):
    """The code is 1 in a dry run with differences, or if some remain."""
    async with service.replica(config(tmp_path / "issues")):
        ticket = await service.new_ticket()
        await service.linked(ticket)
    same = await asyncio.to_thread(run, "reconcile", "--dry-run")
    assert "1 issues compared, 0 differ" in same.output
    [file] = (tmp_path / "issues").glob("0001-*.md")
    file.write_text(file.read_text("utf-8").replace("status: open", "status: closed", 1), "utf-8")
    differs = await asyncio.to_thread(run, "reconcile", "there", "--dry-run", code=1)
    assert f"is closed, ticket {ticket} is open" in differs.output
    mended = await asyncio.to_thread(run, "reconcile", "--json")
    assert json.loads(mended.stdout)["summary"]["applied"] == 1
    assert "0 differ" in (await asyncio.to_thread(run, "reconcile", "--dry-run")).output


def test_verify_writes_can_be_shown_set_and_ended(run):
    assert "off: only unknown" in run("verify-writes").output
    assert "on until 20" in run("verify-writes", "--hours", "2").output
    assert "on until 20" in run("verify-writes").output
    assert "off: only unknown" in run("verify-writes", "--off").output
    assert "not both" in run("verify-writes", "--off", "--hours", "1", code=1).stderr
