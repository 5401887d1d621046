"""The outgoing filter end to end: no secret reaches a tracker, an e-mail or a source, and redactions are counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner

from configuration import ADMIN, HELPDESK, SOURCES, route, tracker_destination
from pointsman.cli.main import main
from pointsman.operations import lookup
from pointsman.operations.history.timeline import timeline
from pointsman_forgejo.testing import FakeForgejo
from polling import until
from service_fixture import RunningService

ANY = "any-token-of-the-tests"
SECRETS = {
    "aws": "AKIAQ7XN2LDPZ4RTWE6V",
    "bearer": "Jx8vQm2ZpLr9TnYc4WdKs7HbEf1Ua0Gi",
    "password": "vK9#mQ2xTz",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "key": "MIIEowIBAAKCAQEAx3fT9pQ7vLkR2mWz8YbNcD4sGhJ6",
    "connection": "tR0ub4dor-9x",
}
TEXT = f"""It failed with Authorization: Bearer {SECRETS["bearer"]}
password={SECRETS["password"]}
-----BEGIN RSA PRIVATE KEY-----
{SECRETS["key"]}
-----END RSA PRIVATE KEY-----
jwt {SECRETS["jwt"]}
aws {SECRETS["aws"]} postgres://shop:{SECRETS["connection"]}@db.example.com/shop
"""


class Tracker(FakeForgejo):
    """A tracker that stores every byte it received."""

    def __init__(self) -> None:
        super().__init__(repository="acme/shop", token="forgejo-token-of-the-tests")
        self.got: list[str] = []

    @web.middleware
    async def _with_faults(self, request, handler):
        self.got.append(f"{request.path_qs}\n{(await request.read()).decode()}")
        return await super()._with_faults(request, handler)

    def heard(self) -> str:
        return "\n".join(json.dumps(draft, ensure_ascii=False) + draft for draft in self.got)


@pytest.fixture
async def tracker():
    async with Tracker() as fake:
        yield fake


GENERIC = f"""
[[source]]
slug = "any"
kind = "generic"
token = "{ANY}"
[source.settings]
title = "title"
text = "text"
code = "code"
url = "url"
level = "level"
release = "release"
action = "action"
actions = {{ again = "regressed", "*" = "opened" }}
fingerprint = "fp"
facts = {{ Server = "server", "api_key" = "key", Token = "token" }}
"""


def config(fake: FakeForgejo, more: str = "", lines: str = "") -> str:
    return SOURCES + GENERIC + tracker_destination(fake, "forge", more=more) + route("forge", lines)


async def post(service: RunningService, **body: str) -> str:
    accepted = await service.call("POST", f"/intake/any/{ANY}", json=body, status=202)
    return accepted["ticket"]


def plain(text: str) -> str:
    """Return a text without the characters that escape Markdown."""
    return text.replace("\u2060", "").replace("\\", "")


def none_in(heard: str) -> None:
    for name, secret in SECRETS.items():
        assert secret not in heard, name
        assert secret[: len(secret) // 2 + 2] not in heard, name


async def idle(replica) -> None:
    async def look() -> bool:
        return not await replica.services.database.fetchval("select count(*) from delivery where state = 0")

    await until(look)


async def test_no_secret_reaches_a_tracker_and_operators_see_how_many_there_were(
    service: RunningService, tracker: Tracker
):
    async with service.replica(config(tracker)) as replica:
        body = {
            "fp": "1",
            "title": f"Refused: password={SECRETS['password']} aws {SECRETS['aws']}",
            "text": TEXT,
            "code": TEXT * 40 + "\n".join(f"line {n}" for n in range(300)),
            "url": f"https://shop:{SECRETS['connection']}@app.example.com/p?token={SECRETS['bearer']}",
            "server": f"web-1 {SECRETS['jwt']}",
            "key": SECRETS["bearer"],
            "token": SECRETS["password"],
            "level": f"error token={SECRETS['bearer']}",
            "release": "1.4.2",
        }
        ticket = await post(service, **body)
        link = await service.linked(ticket)
        await post(service, **{**body, "action": "again", "text": f"back: {TEXT}"})
        help_ = await service.new_ticket(f"My key {SECRETS['aws']} fails", description=TEXT)
        await service.linked(help_)
        await service.comment(help_, TEXT)
        await idle(replica)
        await service.call("POST", f"/api/v1/tickets/{help_}/close", token=ADMIN, json={}, status=200)
        await idle(replica)

        issue = tracker.issues[int(link["key"])]
        assert "password=[password " in plain(issue.title)
        assert len(issue.comments) == 1 and "back:" in issue.comments[0].body
        heard = tracker.heard()
        none_in(heard)
        # our own texts are not filtered: the marker, the address of the ticket's page
        assert "<!-- pointsman: pm1-" in issue.body
        assert f"{service.url}/console/tickets/{ticket}" in issue.body
        assert "ada@customer.example" not in heard

        [mail] = service.sink.mails
        none_in(mail.as_string() + mail["Subject"] + mail.get_body(("plain",)).get_content())
        assert "[aws-key " in mail["Subject"]
        assert mail["To"] == "Ada <ada@customer.example>"

        history = await lookup.explain(replica.services.database, ticket)
        [create, comment] = history.destinations[0].deliveries
        for kind in ("password", "aws-key", "jwt", "private-key", "authorization"):
            assert kind in create.notes[0] and kind in comment.notes[0], (kind, create.notes, comment.notes)
        none_in(repr(history.destinations[0].deliveries))
        page = await service.call("GET", "/metrics")
        assert 'pointsman_redactions_total{kind="jwt"}' in page
        drafts = await replica.services.database.fetch("select draft::text as draft from delivery")
        none_in("\n".join(row["draft"] or "" for row in drafts))


async def test_the_console_tells_the_counts(service: RunningService, tracker: Tracker):
    async with service.replica(config(tracker)) as replica:
        ticket = await post(service, fp="1", title="x", text=TEXT)
        await service.linked(ticket)
        history = await lookup.explain(replica.services.database, ticket)
        [entry] = [entry for entry in timeline(history) if entry.kind == "delivery"]
        assert "Redacted before it was sent:" in entry.message and "1 jwt" in entry.message


async def test_in_public_persons_and_machines_are_masked_too(service: RunningService, tracker: Tracker):
    text = "call +49 170 1234567 or bob@customer.example from 93.184.216.34"
    async with service.replica(config(tracker, 'redact = "strict"')) as replica:
        help_ = await service.new_ticket("Help for bob@customer.example", description=text)
        link = await service.linked(help_)
        await service.comment(help_, text)
        await idle(replica)
        issue = tracker.issues[int(link["key"])]
        heard = plain(tracker.heard())
        for value in ("bob", "+49", "93.184", "Ada", "ada@"):
            assert value not in heard, value
        assert f"{service.url}/console/tickets/{help_}" in issue.body
        assert "The customer wrote" in issue.comments[0].body


async def test_within_a_team_persons_stay_and_off_lets_all_through(service: RunningService, tracker: Tracker):
    async with service.replica(config(tracker)):
        link = await service.linked(await post(service, fp="1", title="x", text="ask bob at 93.184.216.34"))
        assert "93.184.216.34" in tracker.issues[int(link["key"])].body
    async with service.replica(config(tracker, 'redact = "off"')) as replica:
        link = await service.linked(await post(service, fp="2", title="y", text=f"aws {SECRETS['aws']}"))
        assert SECRETS["aws"] in tracker.issues[int(link["key"])].body
        drafts = await replica.services.database.fetchval(
            "select count(*) from delivery where draft ? 'masked'"
        )
        assert drafts == 0


async def test_a_list_of_throttled_tickets_passes_the_filter(service: RunningService, tracker: Tracker):
    text = config(tracker).replace(
        f'token = "{ANY}"', f'token = "{ANY}"\nlimits = {{ new_tickets_per_minute = 1 }}'
    )
    async with service.replica(text) as replica:
        for n in range(4):
            await post(service, fp=str(n), title=f"No {n} password={SECRETS['password']} {SECRETS['aws']}")
        await replica.services.database.execute("update lane set due_at = now() where state = 1")
        await idle(replica)
        none_in(tracker.heard())
        [parent] = [issue for issue in tracker.issues.values() if "More than 1 new" in issue.body]
        assert "[aws-key " in plain(parent.body)


# -- templates, and the requester ----------------------------------------------------------------------------------

TEMPLATES = """
name = "words"
[route.templates]
title = "[{{ environment or level }}] {{ title }}"
body = '''
**{{ title }}** in {{ release }}, seen {{ occurrences }} times, at {{ tags.Server | code }}

{{ text }}

{{ code }}

{{ url | link("Look") }}
[ticket]({{ ticket.page }})
'''
comment = "{{ event.kind }}: {{ text }}{{ author }}"
mail_subject = "{{ ticket.source }} {{ reason }}: {{ title }}"
mail_body = "Dear {{ requester.name }}customer, **{{ title }}** is done."
"""


async def test_templates_of_a_route_replace_the_built_in_texts(service: RunningService, tracker: Tracker):
    async with service.replica(config(tracker, lines=TEMPLATES)) as replica:
        body = {
            "fp": "1",
            "title": f"KeyError {SECRETS['aws']} @bob",
            "text": f"{TEXT} ![x](http://evil.test/x.png)",
            "code": "KeyError",
            "url": "https://errors.test/1",
            "server": "web-1",
            "level": "error",
            "release": "1.4.2",
        }
        ticket = await post(service, **body)
        link = await service.linked(ticket)
        await post(service, **{**body, "action": "again", "text": "back"})
        help_ = await service.new_ticket("Help")
        await service.linked(help_)
        await idle(replica)
        await service.call("POST", f"/api/v1/tickets/{help_}/close", token=ADMIN, json={}, status=200)
        await idle(replica)
        issue = tracker.issues[int(link["key"])]
        assert plain(issue.title).startswith("[error] KeyError [aws-key ")
        issue_text = plain(issue.body)
        assert " in 1.4.2, seen 1 times, at `web-1`" in issue_text
        assert "[Look](https://errors.test/1) (`errors.test`)" in issue_text
        assert f"[ticket]({service.url}/console/tickets/{ticket})" in issue_text
        assert "<!-- pointsman: pm1-" in issue.body and "![x]" not in issue.body and "@bob" not in issue.body
        assert plain(issue.comments[0].body).startswith("regressed: back")
        none_in(tracker.heard())
        [mail] = service.sink.mails
        assert mail["Subject"] == "helpdesk completed: Help"
        assert "Dear customer, Help is done." in mail.get_body(("plain",)).get_content()
        assert not await replica.services.database.fetchval(
            "select count(*) from delivery where draft ? 'problem'"
        )


async def test_a_template_that_fails_loses_no_report(service: RunningService, tracker: Tracker):
    breaking = """
name = "breaks"
[route.templates]
title = "{% if level == 'fatal' %}{{ title | truncate(level) }}{% endif %}x"
body = "{{ text }}"
"""
    async with service.replica(config(tracker, lines=breaking)) as replica:
        ticket = await post(service, fp="1", title="KeyError", text="it broke", level="fatal")
        link = await service.linked(ticket)
        issue = tracker.issues[int(link["key"])]
        assert issue.title == "KeyError"
        assert "it broke" in plain(issue.body) and "Reported" not in issue.body
        history = await lookup.explain(replica.services.database, ticket)
        [note] = history.destinations[0].deliveries[0].notes
        problem = "template title of route breaks failed: line 1: TypeError"
        assert note.startswith(f"sent with the built-in text: {problem}")
        [entry] = [entry for entry in timeline(history) if entry.kind == "delivery"]
        assert f"Sent with the built-in text: {problem}" in entry.message


async def test_the_route_of_today_that_fits_and_names_the_destination_says_it(
    service: RunningService, tracker: Tracker
):
    """The first report decides: the event of a comment has neither tags nor level."""
    other = """
match = { tags = { Server = "web-9" } }
[route.templates]
comment = "of web-9"
[[route]]
destination = "forge"
match = { tags = { Server = "web-1" }, occurrences = 99, within = "1h" }
continue = true
[route.templates]
comment = "of web-1: {{ text }}"
[[route]]
destination = "forge"
"""
    async with service.replica(config(tracker, lines=other)) as replica:
        link = await service.linked(await post(service, fp="1", title="KeyError", server="web-1"))
        await post(service, fp="1", title="KeyError", action="again", text="back")
        await idle(replica)
        [comment] = tracker.issues[int(link["key"])].comments
        assert plain(comment.body).startswith("of web-1: back")


@pytest.mark.parametrize("redact", ["normal", "strict"])
async def test_the_requester_stays_inside_unless_the_route_lets_them_out(
    service: RunningService, tracker: Tracker, redact: str
):
    more = f'redact = "{redact}"'
    async with service.replica(config(tracker, more)) as replica:
        help_ = await service.new_ticket("Help")
        await service.linked(help_)
        await service.call(
            "POST",
            f"/api/v1/tickets/{help_}/comments",
            token=HELPDESK,
            json={
                "body": "hello",
                "author": {"name": "ada@customer.example", "email": "ada@customer.example"},
            },
            status=201,
        )
        await idle(replica)
        assert "customer.example" not in plain(tracker.heard())
    async with service.replica(config(tracker, more, "requester = true")) as replica:
        link = await service.linked(await service.new_ticket("Help again"))
        assert "`Ada <ada@customer.example>`" in tracker.issues[int(link["key"])].body
        link = await service.linked(await post(service, fp="1", title="KeyError"))
        assert "Requester" not in tracker.issues[int(link["key"])].body


async def test_previews_show_what_would_be_sent_and_send_nothing(service: RunningService, tracker: Tracker):
    async with service.replica(config(tracker, lines=TEMPLATES)) as replica:
        body = {
            "fp": "1",
            "title": f"KeyError {SECRETS['aws']}",
            "text": "it broke",
            "level": "error",
            "release": "2",
        }

        async def ask(status=200, token=ADMIN, **asked):
            return await service.call("POST", "/api/v1/previews", token=token, json=asked, status=status)

        [shown] = (await ask(source="any", body=body))["previews"]
        assert shown["destination"] == "forge" and shown["route"] == "words"
        assert plain(shown["title"]).startswith("[error] KeyError [aws-key ")
        assert "it broke" in plain(shown["body"]) and "regressed" not in plain(shown["comment"])
        assert shown["mail_subject"].startswith("any completed: KeyError")
        assert shown["masked"]["aws-key"] >= 1 and SECRETS["aws"] not in json.dumps(shown)
        [shown] = (await ask(source="any", body=body, part="title"))["previews"]
        assert "body" not in shown and "title" in shown
        [shown] = (await ask(source="helpdesk", body={"title": "Help", "description": "x"}))["previews"]
        assert plain(shown["title"]) == "[] Help"
        await ask(422, source="nothing", body=body)
        await ask(422, source="any", body=body, part="nothing")
        await ask(422, source="any", body={"title": 7, "fp": []})
        await ask(403, token=HELPDESK, source="helpdesk", body=body)
        await ask(401, token="nobody", source="any", body=body)
        assert not tracker.issues
        assert not await replica.services.database.fetchval("select count(*) from report")


def run(*arguments: str, text: dict[str, str], status: int = 0) -> str:
    done = CliRunner().invoke(main, ["template", "preview", *arguments], input=json.dumps(text))
    assert done.exit_code == status, done.output
    return done.output


def test_the_command_shows_it_without_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POINTSMAN_DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
    path = tmp_path / "pointsman.toml"
    fake = FakeForgejo(repository="acme/shop", token="x" * 20)
    fake.url = "http://127.0.0.1:1"
    broken = """
[[route]]
name = "breaks"
[route.templates]
title = "{% if level == 'fatal' %}{{ title | truncate(level) }}{% endif %}x"
"""
    path.write_text(config(fake, lines=TEMPLATES) + broken)
    arguments = ("--config", str(path), "--source", "any")
    text = {"fp": "1", "title": f"KeyError {SECRETS['aws']}", "text": "it broke", "level": "error"}
    out = run(*arguments, text=text)
    assert "== forge, with the templates of route words" in out
    assert "redacted: 1 aws-key" in out and SECRETS["aws"] not in out
    assert "[error] KeyError" in plain(out) and "-- e-mail, subject" in out
    assert "-- body" not in run(*arguments, "--part", "title", text=text)
    out = run(*arguments, "--route", "breaks", "--json", text={**text, "level": "fatal"}, status=1)
    assert "template title of route breaks failed: line 1: TypeError" in json.loads(out)[0]["problem"]
    assert "there is no route 'nine'; there are words, breaks" in run(
        *arguments, "--route", "nine", text=text, status=1
    )
