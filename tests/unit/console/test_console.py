"""Test the console's pages through a test client, with stubs in place of storage."""

from __future__ import annotations

import uuid
from types import SimpleNamespace

import pytest

from console_pages import Tags, expect_harmless, fake_services, get
from pointsman.domain.routing import Match, Route
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


async def test_the_first_page_says_what_to_do(stored, client_of):
    text, _ = await get(await client_of(fake_services(sources=["shop"])), "/console/")
    assert "No tickets yet" in text
    assert "https://pointsman.example/intake/shop/<var>token</var>" in text
    text, _ = await get(await client_of(fake_services()), "/console/")
    assert "pointsman apply" in text
    text, _ = await get(await client_of(fake_services()), "/console/?status=open")
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
    await get(await client_of(fake_services()), f"/console/{query}")
    assert {name: stored.asked[name] for name in asked} == asked


async def test_a_long_list_has_a_way_to_older_tickets_that_keeps_the_filter(stored, client_of):
    ids = [uuid.UUID(int=TICKET.int + n) for n in range(60)]
    stored.tickets = [listed_ticket(id=ticket_id) for ticket_id in ids]
    text, _ = await get(await client_of(fake_services()), f"/console/?status=open&cursor={TICKET}")
    links = {attrs["href"] for attrs in Tags(text).links()}
    assert f"?status=open&cursor={ids[49]}" in links
    assert f"tickets/{ids[49]}" in links
    assert f"tickets/{ids[50]}" not in links
    assert "?status=open" in links


async def test_the_list_shows_issues_with_their_state_and_who_needs_attention(stored, client_of):
    stored.tickets = [listed_ticket(occurrences=1482)]
    stored.links = [link_row(**LINKED), link_row(destination="jira", last_outcome="auth")]
    stored.destinations = [destination_row(), destination_row("jira", **FAILED)]
    text, _ = await get(await client_of(fake_services()), "/console/")
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
    text, _ = await get(await client_of(fake_services()), f"/console/tickets/{TICKET}")
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
    text, _ = await get(await client_of(fake_services()), f"/console/tickets/{TICKET}")
    assert "There is no issue: no route matched the ticket when it was opened." in text
    assert "Route 1 does not match: source: wanted help, got shop" in text


async def test_a_file_on_a_disk_is_shown_and_not_linked(stored, client_of):
    stored.history = history_rows(
        [lane_row(**LINKED_LANE | {"url": "file:///srv/issues/1.md", "remote_key": "1"})]
    )
    text, _ = await get(await client_of(fake_services()), f"/console/tickets/{TICKET}")
    assert "<code>file:///srv/issues/1.md</code>" in text
    expect_harmless(text)


async def test_destinations_show_failure_and_queue(stored, client_of):
    stored.destinations = [
        destination_row("jira", **FAILED, waiting_lanes=12, parked_lanes=3),
        destination_row("@mail", kind=2),
    ]
    text, _ = await get(await client_of(fake_services()), "/console/destinations")
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
    text, _ = await get(await client_of(fake_services(live=[live])), "/console/destinations")
    assert "the plugin forgejo is not installed" in text


async def test_destinations_say_what_to_do_when_there_are_none(stored, client_of):
    stored.destinations = [destination_row("@mail", kind=2)]
    text, _ = await get(await client_of(fake_services()), "/console/destinations")
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
    client = await client_of(fake_services(sources=["shop"]))
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
    client = await client_of(fake_services())
    text, _ = await get(client, f"/console/tickets/{TICKET}")
    assert "No issue at &lt;i&gt;forge&lt;/i&gt; yet: create 7/1 waits: its lane is parked (refused)" in text
    assert (
        "Next step at &lt;i&gt;forge&lt;/i&gt;: fix the cause that the error names, then run"
        " <code>pointsman replay 7/1</code>" in text
    )
    assert "Route 1 does not match: level: wanted &lt;b&gt;error&lt;/b&gt;" in text


async def test_a_lost_database_is_a_page_too(stored, client_of):
    stored.fails = ConnectionRefusedError("no")
    text, headers = await get(await client_of(fake_services()), "/console/", status=503)
    assert headers["Retry-After"] == "5"
    assert "Load this page again" in text


async def test_a_fault_of_ours_is_a_page_and_tells_nothing(stored, client_of):
    stored.fails = ZeroDivisionError("internals")
    text, _ = await get(await client_of(fake_services()), "/console/", status=500)
    assert "internals" not in text
