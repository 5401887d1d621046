"""The operator's console: its timeline and its words as values, its pages through a test client."""

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
from pointsman.console import status as standing
from pointsman.console.messages import DOES, FAILURES, OUTCOMES, web_url
from pointsman.console.timeline import timeline
from pointsman.crypto import sha256
from pointsman.domain.retry_policy import Class
from pointsman.domain.routing import Facts, Match, Route
from pointsman.domain.ticket import Kind
from pointsman.operations.explain.model import Place, Rule, Story
from pointsman.web.admission import Doors
from pointsman.web.metrics import Metrics
from pointsman.web.routes import application
from ticket_rows import (
    FAILED,
    LINKED,
    NOON,
    TICKET,
    at,
    attempt_row,
    delivery_row,
    event_row,
    link_row,
    standing_row,
    ticket_row,
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


# -- the timeline --------------------------------------------------------------------------------------------------


def test_the_timeline_is_one_story_in_order_of_time():
    entries = timeline(
        [event_row(), event_row(2, "commented", 2, body="me too", author={"name": "Ada"})],
        [
            delivery_row(2, 2, 2, state=1, done_at=at(3), last_class="done"),
            delivery_row(1, 1, 0, state=1, done_at=at(1.5), last_class="found"),
        ],
        [
            attempt_row(1, "unknown", "UnknownOutcome: cut off"),
            attempt_row(1.5, "found"),
            attempt_row(3, "done", kind=2),
        ],
    )
    assert [(entry.sort, entry.title, entry.label) for entry in entries] == [
        ("event", "Ticket opened", ""),
        ("delivery", "Delivery to forge: create an issue", "found"),
        ("attempt", "Attempt at forge: create an issue", "in doubt"),
        ("attempt", "Attempt at forge: create an issue", "found"),
        ("event", "Comment by Ada", ""),
        ("delivery", "Delivery to forge: add a comment", "done"),
        ("attempt", "Attempt at forge: add a comment", "done"),
    ]
    assert entries[4].said == "me too"
    assert entries[2].error == "UnknownOutcome: cut off"


def test_at_the_same_time_the_event_comes_before_its_delivery_and_that_before_its_attempt():
    entries = timeline([event_row()], [delivery_row()], [attempt_row(0, "done")])
    assert [entry.sort for entry in entries] == ["event", "delivery", "attempt"]


def test_attempts_that_ended_alike_are_one_entry():
    down = [attempt_row(n, "unavailable", "Unavailable: refused") for n in range(50)]
    entries = timeline([], [], [*down, attempt_row(60, "done"), attempt_row(61, "done", kind=2)])
    assert [(entry.label, entry.times) for entry in entries] == [
        ("can't be reached", 50),
        ("done", 1),
        ("done", 1),
    ]
    assert entries[0].at == at(0)
    assert entries[0].until == at(49)


def test_attempts_at_two_destinations_stay_apart():
    entries = timeline([], [], [attempt_row(n, "auth", destination=f"forge-{n % 2}") for n in range(4)])
    assert [entry.times for entry in entries] == [1, 1, 1, 1]


def test_an_attempt_tells_its_status_once():
    told, untold = timeline(
        [],
        [],
        [attempt_row(0, "refused", "answered 422", status=422), attempt_row(1, "refused", "no", status=422)],
    )
    assert (told.error, untold.error) == ("answered 422", "no (status 422)")


def test_an_attempt_whose_delivery_is_gone_is_still_told():
    (entry,) = timeline([], [], [attempt_row(0, "done", kind=None)])
    assert entry.title == "Attempt at forge: deliver"


def test_a_closed_ticket_says_who_closed_which_issue():
    (entry,) = timeline(
        [event_row(3, "closed", reason="not_planned", destination="forge", issue="a#1", by="mira")], [], []
    )
    assert (entry.title, entry.sentence) == (
        "Closed: not planned",
        "The issue a#1 at forge was closed by mira.",
    )


def test_a_ticket_reopened_by_an_operator_or_its_application_says_so():
    by_operator, by_source = timeline(
        [event_row(1, "reopened", by="operator"), event_row(2, "reopened", by="shop")], [], []
    )
    assert by_operator.sentence == "An operator asked for it."
    assert by_source.sentence == "shop asked for it."


def test_an_unknown_event_and_an_unknown_outcome_are_shown_and_not_fatal():
    event, attempt = timeline(
        [event_row(1, "sublimated", facts=["odd", ["a", "b"]])], [], [attempt_row(1, "vanished")]
    )
    assert event.title == "Event: sublimated"
    assert event.facts == (("a", "b"),)
    assert attempt.label == "vanished"


@pytest.mark.parametrize(
    ("words", "label", "command"),
    [
        ({}, "waits", ""),
        ({"lane_state": 2}, "on its way", ""),
        ({"last_class": "auth"}, "to be tried again", ""),
        ({"in_doubt": True, "last_class": "unknown"}, "in doubt", ""),
        ({"lane_state": 3, "parked_why": "orphan"}, "parked", "pointsman replay 7/1"),
        ({"state": 2, "last_class": "refused"}, "dead letter", "pointsman replay 7/1"),
        ({"state": 1, "last_class": "done", "done_at": NOON}, "done", ""),
        ({"state": 3}, "skipped", ""),
    ],
)
def test_each_delivery_says_how_it_stands_and_what_can_be_done(words, label, command):
    (entry,) = timeline([], [delivery_row(**words)], [])
    assert (entry.label, entry.command) == (label, command)


def test_a_delivery_behind_another_says_that_it_waits_for_it():
    first, second = timeline(
        [], [delivery_row(1, last_class="auth"), delivery_row(2, 2, 1, last_class=None)], []
    )
    assert first.label == "to be tried again"
    assert second.sentence == "Waits for the delivery before it: their order is kept."


def test_deliveries_behind_a_dead_letter_wait_for_it():
    parked = {"lane_state": 3, "parked_why": "refused"}
    dead, waiting = timeline(
        [], [delivery_row(1, state=2, last_class="refused", **parked), delivery_row(2, 2, 1, **parked)], []
    )
    assert dead.label == "dead letter"
    assert (waiting.label, waiting.command) == ("waits", "")


# -- words ---------------------------------------------------------------------------------------------------------


def test_every_outcome_and_every_kind_of_delivery_has_words():
    assert {one.value for one in Class} <= set(OUTCOMES)
    assert set(DOES) == set(Kind)
    assert set(FAILURES.values()) <= set(OUTCOMES)


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


# -- how issues and destinations stand -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "place", "label", "tone"),
    [
        (LINKED, {}, "in step", "good"),
        (LINKED | {"state": 2}, {}, "orphaned", "bad"),
        ({"lane_state": 3, "parked_why": "refused"}, {}, "parked", "bad"),
        ({"last_class": "auth"}, {}, "credentials refused", "bad"),
        ({"last_class": "unavailable"}, {}, "can't be reached", "wait"),
        ({}, {"paused_why": "operator"}, "paused", "wait"),
        ({}, {"paused_why": "retired", "retired": True}, "retired", "calm"),
        ({}, {"paused_why": "its plugin blocks the event loop"}, "paused", "bad"),
        ({}, {"blocked_until": at(5)}, "held back", "wait"),
        ({}, {"breaker": 2, "open_until": at(5)}, "held back", "wait"),
        ({}, {"breaker": 1, "open_until": at(5)}, "waits", "wait"),
        ({}, {"blocked_until": at(-5)}, "waits", "wait"),
        ({"lane_state": 2}, {}, "on its way", "wait"),
        ({"lane_state": 0, "head_state": None}, {}, "no issue", "wait"),
    ],
)
def test_why_there_is_an_issue_or_none(words, place, label, tone):
    found = standing.issue(link_row(**words), standing_row(**place), NOON)
    assert (found.words.label, found.words.tone) == (label, tone)


def test_a_parked_issue_names_the_delivery_to_replay():
    parked = {"lane_state": 3, "parked_why": "refused"}
    lane = [delivery_row(2, 2, **parked), delivery_row(1, state=2, last_class="refused", **parked)]
    link = link_row(**parked, last_class="refused", last_error="Refused: title: too long", head_state=2)
    found = standing.issue(link, None, NOON, lane)
    assert found.command == "pointsman replay 7/1"
    assert found.error == "Refused: title: too long"


def test_an_issue_gone_names_the_pending_delivery_to_replay():
    parked = {"lane_state": 3, "parked_why": "orphan"}
    lane = [delivery_row(1, state=1), delivery_row(2, 2, **parked), delivery_row(3, 2, **parked)]
    found = standing.issue(link_row(**LINKED | parked | {"head_state": 0, "state": 2}), None, NOON, lane)
    assert found.command == "pointsman replay 7/2"


def test_a_delivery_that_is_tried_again_says_when():
    lane = [delivery_row(1, due_at=at(3))]
    assert standing.issue(link_row(last_class="limited"), None, NOON, lane).next_at == at(3)
    assert standing.issue(link_row(last_class="limited"), None, at(4), lane).next_at is None


def test_a_ticket_without_a_destination_says_what_each_route_asked():
    routes = [
        Route(1, Match(environment="production"), (1,)),
        Route(2, Match(release="2"), (1,)),
        Route(3, Match(), ()),
        Route(4, Match(kind="alert"), (1,)),
    ]
    assert standing.no_issue(routes, Facts("shop", "alert", environment="staging")) == [
        "Route 1 takes only environment production, and this ticket's is staging.",
        "Route 2 takes only release 2, and this ticket has none.",
        "Route 3 takes everything, to no destination.",
        "Route 4 would take it, had it been there when the ticket was opened.",
    ]
    assert standing.no_issue([], Facts("shop", "alert")) == ["No route is configured."]


@pytest.mark.parametrize(
    ("words", "label", "attention"),
    [
        ({}, "working", False),
        (FAILED, "credentials refused", True),
        ({"failed_at": NOON, "failures": 1, "failure_type": "Unavailable"}, "can't be reached", False),
        ({"failed_at": NOON, "failures": 3, "failure_type": "Unavailable"}, "can't be reached", True),
        ({"failed_at": NOON, "failures": 1, "failure_type": "ZeroDivisionError"}, "plugin failed", True),
        ({"parked_lanes": 2}, "parked lanes", True),
        ({"blocked_until": at(1)}, "held back", False),
        ({"paused_why": "operator"}, "paused", False),
        ({"retired": True, "paused_why": "retired"}, "retired", False),
    ],
)
def test_how_a_destination_stands(words, label, attention):
    found = standing.destination(standing_row(**words), NOON)
    assert (found.words.label, found.needs_attention) == (label, attention)


def test_a_destination_that_cannot_be_used_says_why():
    found = standing.destination(standing_row(), NOON, problem="the plugin forgejo is not installed")
    assert found.words.sentence == "the plugin forgejo is not installed"


def test_mail_without_a_server_is_off_and_alarms_only_if_a_mail_waits():
    row = standing_row("@mail", kind=2, tracker="mail")
    assert not standing.destination(row, NOON, mail_off=True).needs_attention
    assert standing.destination(row | {"waiting_lanes": 1}, NOON, mail_off=True).needs_attention
    assert standing.destination(row, NOON).words.label == "working"


# -- pages ---------------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def links(self) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.found if tag == "a"]


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
    for tag, attrs in tags.found:
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
    """What the stubs of storage answer, and what they were asked."""

    def __init__(self) -> None:
        self.tickets: list[dict] = []
        self.links: list[dict] = []
        self.events: list[dict] = []
        self.deliveries: list[dict] = []
        self.attempts: list[dict] = []
        self.standing: list[dict] = []
        self.why = Story()
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

    async def ticket(_, ticket_id):
        return next((row for row in stored.tickets if row["id"] == ticket_id), None)

    def rows(name):
        async def answer(*_, **__):
            return getattr(stored, name)

        return answer

    monkeypatch.setattr(handlers.store, "page", page)
    monkeypatch.setattr(handlers.store, "ticket", ticket)
    monkeypatch.setattr(handlers.store, "links", rows("links"))
    monkeypatch.setattr(handlers.store, "events", rows("events"))
    monkeypatch.setattr(handlers.lanes, "deliveries", rows("deliveries"))
    monkeypatch.setattr(handlers.lanes, "attempts_of", rows("attempts"))
    monkeypatch.setattr(handlers.places, "standing", rows("standing"))
    monkeypatch.setattr(handlers.investigate, "of_ticket", rows("why"))
    return stored


def fake_context(
    *, token: str | None = TOKEN, base_url="https://pointsman.example", sources=(), routes=(), live=()
):
    catalog = SimpleNamespace(
        sources=dict.fromkeys(sources), destinations=dict(enumerate(live)), routes=routes
    )
    return SimpleNamespace(
        settings=Settings(
            data_dir=Path("unused"), admin_token_sha256=sha256(token.encode()) if token is not None else None
        ),
        base_url=base_url,
        database=object(),
        reads=object(),
        doors=Doors(100, pool=10, webhook_bytes=1, per_address=0),
        connections=SimpleNamespace(of=lambda _: None, draining=False),
        draining=False,
        metrics=Metrics(),
        catalog=SimpleNamespace(current=catalog),
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
    stored.tickets = [ticket_row(title="a secret title")]
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
    stored.tickets = [ticket_row(id=one) for one in ids]
    text, _ = await get(await client_of(fake_context()), f"/console/?status=open&cursor={TICKET}")
    links = {attrs["href"] for attrs in Tags(text).links()}
    assert f"?status=open&cursor={ids[49]}" in links
    assert f"tickets/{ids[49]}" in links
    assert f"tickets/{ids[50]}" not in links
    assert "?status=open" in links


async def test_the_list_shows_issues_with_their_state_and_who_needs_attention(stored, client_of):
    stored.tickets = [ticket_row(occurrences=1482)]
    stored.links = [link_row(**LINKED), link_row(destination="jira", last_class="auth")]
    stored.standing = [standing_row(), standing_row("jira", **FAILED)]
    text, _ = await get(await client_of(fake_context()), "/console/")
    tags = expect_harmless(text)
    words = " ".join(tags.text.split())
    assert "shop/web#1 open at forge jira credentials refused" in words
    assert "Needs attention: jira." in words
    assert "1482" in words
    assert "alert from shop" in words


async def test_a_ticket_tells_its_whole_story(stored, client_of):
    stored.tickets = [ticket_row(url="https://errors.example/1")]
    stored.links = [link_row(**LINKED)]
    stored.events = [event_row(code="Traceback", facts=[["Level", "error"]])]
    stored.deliveries = [delivery_row(state=1, done_at=at(1), last_class="done", lane_state=0)]
    stored.attempts = [
        attempt_row(0.5, "limited", "RateLimited: slow down", status=429),
        attempt_row(1, "done"),
    ]
    text, _ = await get(await client_of(fake_context()), f"/console/tickets/{TICKET}")
    tags = expect_harmless(text)
    for words in (
        "Ticket opened",
        "asked to wait",
        "RateLimited: slow down (status 429)",
        "Traceback",
        "in step",
    ):
        assert words in tags.text
    assert {"https://git.example/shop/web/issues/1", "https://errors.example/1"} <= {
        attrs["href"] for attrs in tags.links()
    }


async def test_a_ticket_without_a_route_says_why_there_is_no_issue(stored, client_of):
    stored.tickets = [ticket_row()]
    ctx = fake_context(routes=[Route(1, Match(source="help"), (1,))])
    text, _ = await get(await client_of(ctx), f"/console/tickets/{TICKET}")
    assert "Route 1 takes only source help, and this ticket&#39;s is shop." in text


async def test_a_file_on_a_disk_is_shown_and_not_linked(stored, client_of):
    stored.tickets = [ticket_row()]
    stored.links = [link_row(**LINKED | {"url": "file:///srv/issues/1.md", "remote_key": "1"})]
    text, _ = await get(await client_of(fake_context()), f"/console/tickets/{TICKET}")
    assert "<code>file:///srv/issues/1.md</code>" in text
    expect_harmless(text)


async def test_destinations_show_failure_and_queue(stored, client_of):
    stored.standing = [
        standing_row("jira", **FAILED, waiting_lanes=12, parked_lanes=3),
        standing_row("@mail", kind=2),
    ]
    text, _ = await get(await client_of(fake_context()), "/console/destinations")
    words = " ".join(expect_harmless(text).text.split())
    assert (
        "7 failures in a row, the last at 2026-11-21 12:00:00 UTC AuthFailed: the token is refused" in words
    )
    assert "<html>no</html>" in words
    assert "pointsman doctor jira" in words
    assert "12 3" in words


async def test_a_destination_whose_plugin_is_missing_says_so(stored, client_of):
    stored.standing = [standing_row("forge")]
    live = SimpleNamespace(slug="forge", problem="the plugin forgejo is not installed")
    text, _ = await get(await client_of(fake_context(live=[live])), "/console/destinations")
    assert "the plugin forgejo is not installed" in text


async def test_destinations_say_what_to_do_when_there_are_none(stored, client_of):
    stored.standing = [standing_row("@mail", kind=2)]
    text, _ = await get(await client_of(fake_context()), "/console/destinations")
    assert "No destinations yet" in text


@pytest.mark.parametrize("evil", HOSTILE)
async def test_strangers_texts_are_text_wherever_they_stand(stored, client_of, evil):
    stored.tickets = [
        ticket_row(
            title=evil,
            description=evil,
            url=evil,
            level=evil,
            environment=evil,
            release=evil,
            reporter_name=evil,
            reporter_email=evil,
            close_reason=evil,
        )
    ]
    stored.links = [
        link_row(**LINKED | {"url": evil, "remote_key": evil}),
        link_row(lane_state=3, parked_why=evil, last_class=evil, last_error=evil),
    ]
    stored.events = [
        event_row(1, "opened", text=evil, code=evil, facts=[[evil, evil]]),
        event_row(2, "commented", body=evil, author={"name": evil}),
        event_row(3, "closed", reason=evil, destination=evil, issue=evil, by=evil),
        event_row(4, evil),
    ]
    stored.deliveries = [delivery_row(lane_state=3, parked_why=evil, last_class=evil)]
    stored.attempts = [attempt_row(0, evil, evil)]
    stored.standing = [
        standing_row(**FAILED | {"failure_type": evil, "failure_message": evil, "failure_excerpt": evil})
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
    """What stands in the way, what to do with its command, and what each route of today says."""
    stored.tickets = [ticket_row()]
    stored.why = Story(
        because=("No issue at forge yet: create 7/1 waits: its lane is parked (refused).",),
        routes=(
            Rule(
                position=1, matches=False, says="does not match: level <b>error</b>, and the ticket has none"
            ),
        ),
        places=(
            Place(
                destination="forge",
                tracker="forgejo",
                issue="",
                url="",
                because="",
                waits_for=(),
                next="mend <i>it</i>, then run `pointsman replay 7/1`",
                deliveries=(),
            ),
        ),
    )
    client = await client_of(fake_context())
    text, _ = await get(client, f"/console/tickets/{TICKET}")
    assert "No issue at forge yet: create 7/1 waits" in text
    assert (
        "What to do about forge: mend &lt;i&gt;it&lt;/i&gt;, then run <code>pointsman replay 7/1</code>"
        in text
    )
    assert "Route 1 does not match: level &lt;b&gt;error&lt;/b&gt;" in text


async def test_a_lost_database_is_a_page_too(stored, client_of):
    stored.fails = ConnectionRefusedError("no")
    text, headers = await get(await client_of(fake_context()), "/console/", status=503)
    assert headers["Retry-After"] == "5"
    assert "Load this page again" in text


async def test_a_fault_of_ours_is_a_page_and_tells_nothing(stored, client_of):
    stored.fails = ZeroDivisionError("internals")
    text, _ = await get(await client_of(fake_context()), "/console/", status=500)
    assert "internals" not in text
