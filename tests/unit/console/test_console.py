"""Test the console's pages through a test client, with stubs in place of storage."""

from __future__ import annotations

import base64
import datetime as dt
import re
import uuid
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp.test_utils import TestClient, TestServer

from pointsman import console
from pointsman.config.settings import Settings
from pointsman.console import handlers, pages
from pointsman.console.pages import web_url
from pointsman.crypto import sha256
from pointsman.domain.routing import Match, Route
from pointsman.operations import destinations as destination_list
from pointsman.operations import tickets as ticket_list
from pointsman.operations.history.build import build_history
from pointsman.storage.destinations import DestinationStatusRow
from pointsman.storage.explain import HistoryRows
from pointsman.web.admission import AdmissionControl
from pointsman.web.metrics import Metrics
from pointsman.web.routes import application
from ticket_rows import (
    FAILED,
    LINKED,
    LINKED_LANE,
    TICKET,
    at,
    attempt_row,
    delivery_row,
    destination_row,
    event_row,
    history_rows,
    lane_row,
    link_row,
    listed_ticket,
)

TOKEN = "the operators' token: ä"

HOSTILE = [
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "</title></dd></code><img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% include 'base.html' %}",
    "&lt;script&gt;",
    "\u202egnp.exe\u2066",
]


@pytest.mark.parametrize(
    "url",
    [
        "http://git.example",
        "https://git.example/a/b?c=d&e=f#g",
        "HTTPS://git.example:3000/ä",
        "http://[::1]:8080/x",
    ],
)
def test_a_web_address_is_linked(url):
    assert web_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        None,
        "file:///var/lib/issues/1.md",
        "javascript:alert(1)",
        "JavaScript:alert(1)//https://x",
        "data:text/html,x",
        "//git.example/x",
        "/console/",
        "https://",
        "https:///x",
        "https://x\n.example/",
        "https://x.example/\u202e",
        'https://x.example/" onmouseover="x',
        " https://x.example",
        "https://x.example\\@evil.example",
        "vbscript:x",
    ],
)
def test_anything_else_is_no_link(url):
    assert web_url(url) == ""


# -- pages ---------------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def links(self) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == "a"]


ALLOWED_TAGS = set(
    re.findall(
        r"\w+",
        "html head meta title link body header main nav section h1 h2 h3 p div span a img ul ol li dl dt dd table"
        " caption thead tbody tr th td code pre time details summary strong var",
    )
)


def expect_harmless(page: str) -> Tags:
    """Only our own tags, no event handlers, no inline code, and links that a browser may follow."""
    tags = Tags(page)
    for tag, attrs in tags.tags:
        assert tag in ALLOWED_TAGS, tag
        assert not [name for name in attrs if name.startswith("on") or name in ("style", "autofocus")], attrs
        for name in ("href", "src"):
            value = attrs.get(name) or ""
            assert re.match(r"(https?://|\.\.?/|\?|tickets/|destinations$|#main$|$)", value), value
            if value.startswith("http"):
                assert "noreferrer" in (attrs["rel"] or "")
    return tags


def test_times_are_utc_for_people_and_programs():
    cet = dt.timezone(dt.timedelta(hours=1))
    assert pages.when(dt.datetime(2026, 11, 21, 21, 15, 3, 999, tzinfo=cet)) == (
        '<time datetime="2026-11-21T20:15:03Z">2026-11-21 20:15:03 UTC</time>'
    )
    assert "–" in pages.when(None)


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/console/", "./"),
        ("/console/destinations", "./"),
        ("/console/tickets/1", "../"),
        ("/console/a/b/c", "../../"),
    ],
)
def test_links_are_relative_to_the_page(path, root):
    assert pages.root(path) == root


# -- handlers ------------------------------------------------------------------------------------------------------


class Stored:
    """What the stubs of storage return, and what they were called with."""

    def __init__(self) -> None:
        self.tickets: list[dict] = []
        self.links: list[dict] = []
        self.destinations: list[DestinationStatusRow] = []
        self.history: HistoryRows | None = None
        self.routes: list[Route] = []
        self.asked: dict = {}
        self.fails: Exception | None = None


@pytest.fixture
def stored(monkeypatch):
    stored = Stored()

    async def page(_, **asked):
        if stored.fails is not None:
            raise stored.fails
        stored.asked = asked
        return stored.tickets[: asked["limit"]]

    async def links(*_):
        return stored.links

    async def list_status(_):
        return stored.destinations

    async def ticket_history(*_):
        return build_history(stored.history, stored.routes, {}) if stored.history is not None else None

    monkeypatch.setattr(ticket_list.store, "read_page", page)
    monkeypatch.setattr(ticket_list.store, "read_links", links)
    monkeypatch.setattr(destination_list.store, "list_status", list_status)
    monkeypatch.setattr(handlers.lookup, "ticket_history", ticket_history)
    return stored


def fake_context(
    *, token: str | None = TOKEN, base_url="https://pointsman.example", sources=(), routes=(), live=()
):
    snapshot = SimpleNamespace(
        sources=dict.fromkeys(sources), destinations=dict(enumerate(live)), routes=routes
    )
    return SimpleNamespace(
        settings=Settings(
            data_dir=Path("unused"), admin_token_sha256=sha256(token.encode()) if token is not None else None
        ),
        base_url=base_url,
        database=object(),
        read_pool=object(),
        admission=AdmissionControl(100, pool_size=10, webhook_max_bytes=1, max_per_address=0),
        connections=SimpleNamespace(guard_of=lambda _: None, draining=False),
        draining=False,
        metrics=Metrics(),
        config=SimpleNamespace(current=snapshot),
    )


@pytest.fixture
async def client_of():
    clients = []

    async def make(ctx):
        client = TestClient(TestServer(application(ctx, console.routes())))
        await client.start_server()
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()


def password(text: str, user: str = "anyone") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{text}".encode()).decode()}


async def get(client, path, headers=None, status=200):
    """A page's text; every answer has the console's headers."""
    response = await client.get(
        path, headers=password(TOKEN) if headers is None else headers, allow_redirects=False
    )
    text = await response.text()
    assert response.status == status, text
    for name, value in pages.HEADERS.items():
        if name != "Cache-Control" or "/static/" not in path:
            assert response.headers[name] == value
    assert "Set-Cookie" not in response.headers
    return text, response.headers


PAGES = [
    "/console/",
    "/console/destinations",
    f"/console/tickets/{TICKET}",
    "/console/tickets/none",
    "/console/odd",
]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        password("wrong"),
        password(""),
        password("", user=TOKEN),
        {"Authorization": f"Bearer {TOKEN}".encode().decode("latin-1")},
        {"Authorization": "Basic %%%"},
        {"Authorization": "Basic"},
    ],
    ids=["none", "wrong", "empty", "as user", "bearer", "not base64", "nothing"],
)
async def test_without_the_password_there_is_nothing_to_see(stored, client_of, path, headers):
    stored.tickets = [listed_ticket(title="a secret title")]
    text, answered = await get(await client_of(fake_context()), path, headers, 401)
    assert answered["WWW-Authenticate"] == 'Basic realm="Pointsman", charset="UTF-8"'
    assert "secret" not in text
    assert "<nav" not in text


@pytest.mark.parametrize("path", PAGES)
async def test_without_a_token_in_the_settings_the_console_is_off_and_says_how_to_switch_it_on(
    stored, client_of, path
):
    text, answered = await get(await client_of(fake_context(token=None)), path, password(""), 403)
    assert "POINTSMAN_ADMIN_TOKEN" in text
    assert "WWW-Authenticate" not in answered


@pytest.mark.parametrize("user", ["", "operator", "ä"])
async def test_any_user_name_will_do(stored, client_of, user):
    await get(await client_of(fake_context()), "/console/", password(TOKEN, user))


@pytest.mark.parametrize(
    ("base_url", "goes_to"),
    [("https://pointsman.example", "/console/"), ("https://example.org/alerts", "/alerts/console/")],
)
async def test_the_root_leads_to_the_console(client_of, base_url, goes_to):
    client = await client_of(fake_context(base_url=base_url))
    for path in ("/", "/console"):
        _, headers = await get(client, path, {}, 302)
        assert headers["Location"] == goes_to


@pytest.mark.parametrize(
    "path",
    [
        "/console/tickets/none",
        f"/console/tickets/{TICKET}",
        "/console/tickets/1%2F2",
        "/console/odd/er",
        "/console/tickets/%00",
    ],
)
async def test_what_is_not_there_is_a_page_that_says_so(stored, client_of, path):
    text, _ = await get(await client_of(fake_context()), path, status=404)
    assert "There is no such" in text


async def test_styles_are_kept_by_browsers_and_need_no_password(client_of):
    client = await client_of(fake_context(token=None))
    for name, kind in pages.STATIC.items():
        text, headers = await get(client, f"/console/static/{name}", {})
        assert headers["Content-Type"].startswith(kind)
        assert headers["Cache-Control"] == "public, max-age=86400"
        assert "url(" not in text
        assert "@import" not in text
    for name in ("..%2Fhandlers.py", "other.css", "%2Fetc%2Fpasswd"):
        await get(client, f"/console/static/{name}", {}, 404)


@pytest.mark.parametrize("path", PAGES)
async def test_nothing_can_be_changed_here(stored, client_of, path):
    client = await client_of(fake_context())
    response = await client.post(path, headers=password(TOKEN))
    assert response.status == 405


async def test_the_first_page_says_what_to_do(stored, client_of):
    text, _ = await get(await client_of(fake_context(sources=["shop"])), "/console/")
    assert "No tickets yet" in text
    assert "https://pointsman.example/intake/shop/<var>token</var>" in text
    text, _ = await get(await client_of(fake_context()), "/console/")
    assert "pointsman apply" in text
    text, _ = await get(await client_of(fake_context()), "/console/?status=open")
    assert "No ticket here fits these filters" in text


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", {"status": None, "kind": None, "before": None}),
        ("?status=closed&kind=support", {"status": 2, "kind": 2, "before": None}),
        ("?status=odd&kind=", {"status": None, "kind": None, "before": None}),
        (f"?cursor={TICKET}", {"status": None, "kind": None, "before": TICKET}),
        ("?cursor=%00nothing", {"status": None, "kind": None, "before": None}),
    ],
)
async def test_filters_and_cursor_are_read_and_nonsense_is_left_out(stored, client_of, query, asked):
    await get(await client_of(fake_context()), f"/console/{query}")
    assert {name: stored.asked[name] for name in asked} == asked


async def test_a_long_list_has_a_way_to_older_tickets_that_keeps_the_filter(stored, client_of):
    ids = [uuid.UUID(int=TICKET.int + n) for n in range(60)]
    stored.tickets = [listed_ticket(id=ticket_id) for ticket_id in ids]
    text, _ = await get(await client_of(fake_context()), f"/console/?status=open&cursor={TICKET}")
    links = {attrs["href"] for attrs in Tags(text).links()}
    assert f"?status=open&cursor={ids[49]}" in links
    assert f"tickets/{ids[49]}" in links
    assert f"tickets/{ids[50]}" not in links
    assert "?status=open" in links


async def test_the_list_shows_issues_with_their_state_and_who_needs_attention(stored, client_of):
    stored.tickets = [listed_ticket(occurrences=1482)]
    stored.links = [link_row(**LINKED), link_row(destination="jira", last_outcome="auth")]
    stored.destinations = [destination_row(), destination_row("jira", **FAILED)]
    text, _ = await get(await client_of(fake_context()), "/console/")
    tags = expect_harmless(text)
    visible_text = " ".join(tags.text.split())
    assert "shop/web#1 open at forge jira credentials refused" in visible_text
    assert "Needs attention: jira." in visible_text
    assert "1482" in visible_text
    assert "alert from shop" in visible_text


async def test_a_ticket_tells_its_whole_story(stored, client_of):
    stored.history = history_rows(
        [lane_row(**LINKED_LANE)],
        [delivery_row(state=1, done_at=at(1), last_outcome="done")],
        [attempt_row(0.5, "limited", "RateLimited: slow down", status=429), attempt_row(1, "done")],
        events=[event_row(code="Traceback", facts=[["Level", "error"]])],
        url="https://errors.example/1",
    )
    text, _ = await get(await client_of(fake_context()), f"/console/tickets/{TICKET}")
    tags = expect_harmless(text)
    for sentence in (
        "Ticket opened",
        "rate limited",
        "RateLimited: slow down (status 429)",
        "Traceback",
        "in sync",
    ):
        assert sentence in tags.text
    assert {"https://git.example/shop/web/issues/1", "https://errors.example/1"} <= {
        attrs["href"] for attrs in tags.links()
    }


async def test_a_ticket_without_a_route_says_why_there_is_no_issue(stored, client_of):
    stored.history = history_rows()
    stored.routes = [Route(1, Match(source="help"), (1,))]
    text, _ = await get(await client_of(fake_context()), f"/console/tickets/{TICKET}")
    assert "There is no issue: no route matched the ticket when it was opened." in text
    assert "Route 1 does not match: source: wanted help, got shop" in text


async def test_a_file_on_a_disk_is_shown_and_not_linked(stored, client_of):
    stored.history = history_rows(
        [lane_row(**LINKED_LANE | {"url": "file:///srv/issues/1.md", "remote_key": "1"})]
    )
    text, _ = await get(await client_of(fake_context()), f"/console/tickets/{TICKET}")
    assert "<code>file:///srv/issues/1.md</code>" in text
    expect_harmless(text)


async def test_destinations_show_failure_and_queue(stored, client_of):
    stored.destinations = [
        destination_row("jira", **FAILED, waiting_lanes=12, parked_lanes=3),
        destination_row("@mail", kind=2),
    ]
    text, _ = await get(await client_of(fake_context()), "/console/destinations")
    visible_text = " ".join(expect_harmless(text).text.split())
    assert (
        "7 failures in a row, the last at 2026-11-21 12:00:00 UTC AuthFailed: the token is refused"
        in visible_text
    )
    assert "<html>no</html>" in visible_text
    assert "pointsman doctor jira" in visible_text
    assert "12 3" in visible_text


async def test_a_destination_whose_plugin_is_missing_says_so(stored, client_of):
    stored.destinations = [destination_row("forge")]
    live = SimpleNamespace(slug="forge", problem="the plugin forgejo is not installed")
    text, _ = await get(await client_of(fake_context(live=[live])), "/console/destinations")
    assert "the plugin forgejo is not installed" in text


async def test_destinations_say_what_to_do_when_there_are_none(stored, client_of):
    stored.destinations = [destination_row("@mail", kind=2)]
    text, _ = await get(await client_of(fake_context()), "/console/destinations")
    assert "No destinations yet" in text


@pytest.mark.parametrize("evil", HOSTILE)
async def test_untrusted_texts_are_text_wherever_they_are_shown(stored, client_of, evil):
    texts = dict.fromkeys(("title", "description", "url", "level", "environment", "release"), evil)
    texts |= dict.fromkeys(("reporter_name", "reporter_email", "close_reason"), evil)
    stored.tickets = [listed_ticket(**texts)]
    stored.links = [
        link_row(**LINKED | {"issue_url": evil, "issue_key": evil}),
        link_row(lane_state=3, park_reason=evil, last_outcome=evil, last_error=evil),
    ]
    stored.history = history_rows(
        [
            lane_row(**LINKED_LANE | {"id": 6, "url": evil, "remote_key": evil}),
            lane_row(state=3, park_reason=evil),
        ],
        [delivery_row(last_outcome=evil, last_error=evil, template_problem=evil)],
        [attempt_row(0, evil, evil)],
        events=[
            event_row(1, "opened", text=evil, code=evil, facts=[[evil, evil]]),
            event_row(2, "commented", body=evil, author={"name": evil}),
            event_row(3, "closed", reason=evil, destination=evil, issue=evil, by=evil),
            event_row(4, evil),
        ],
        **texts,
    )
    stored.destinations = [
        destination_row(**FAILED | {"failure_type": evil, "failure_message": evil, "failure_excerpt": evil})
    ]
    client = await client_of(fake_context(sources=["shop"]))
    for path in ("/console/", f"/console/tickets/{TICKET}", "/console/destinations"):
        text, _ = await get(client, path)
        tags = expect_harmless(text)
        assert "49" not in tags.text
        assert "\u202e" not in text
        if path != "/console/destinations":
            shown = evil.replace("\u202e", "").replace("\u2066", "")
            assert shown in tags.text


async def test_a_ticket_says_why(client_of, stored):
    """What it waits for, what to do with its command, and what each current route says."""
    stored.history = history_rows(
        [lane_row(state=3, park_reason="refused", destination="<i>forge</i>")], [delivery_row()]
    )
    stored.routes = [Route(1, Match(level="<b>error</b>"), (1,))]
    client = await client_of(fake_context())
    text, _ = await get(client, f"/console/tickets/{TICKET}")
    assert "No issue at &lt;i&gt;forge&lt;/i&gt; yet: create 7/1 waits: its lane is parked (refused)" in text
    assert (
        "Next step at &lt;i&gt;forge&lt;/i&gt;: fix the cause that the error names, then run"
        " <code>pointsman replay 7/1</code>" in text
    )
    assert "Route 1 does not match: level: wanted &lt;b&gt;error&lt;/b&gt;" in text


async def test_a_lost_database_is_a_page_too(stored, client_of):
    stored.fails = ConnectionRefusedError("no")
    text, headers = await get(await client_of(fake_context()), "/console/", status=503)
    assert headers["Retry-After"] == "5"
    assert "Load this page again" in text


async def test_a_fault_of_ours_is_a_page_and_tells_nothing(stored, client_of):
    stored.fails = ZeroDivisionError("internals")
    text, _ = await get(await client_of(fake_context()), "/console/", status=500)
    assert "internals" not in text
