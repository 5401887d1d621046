"""Drafts are filtered as a whole, rendered once, and count the redactions in them."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import threading
import uuid
from types import SimpleNamespace
from unittest import mock

import pytest

from pointsman.bus.signals import Signals, TextRedacted
from pointsman.content.redaction.outgoing_filter import PROFILES, OutgoingFilter, redaction_summary
from pointsman.content.template_selection import NO_RULE, Rule, rule_for
from pointsman.delivery.attempt import Attempt
from pointsman.delivery.draft import DraftRenderer, draft_of, email_draft_of, facts_of
from pointsman.domain.routing import Match, Options, Route, TemplateSet
from pointsman.domain.states import DeliveryKind, DestinationKind
from pointsman.plugin_host.instances import LiveDestination
from pointsman.storage.queue_values import Lane, NextDelivery
from pointsman.storage.ticket_throttle import ThrottledTickets

KEY = b"key of the tests"
AWS = "AKIAQ7XN2LDPZ4RTWE6V"
PAGE = "https://pointsman.example"
NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)


def delivery(data=None, **fields):
    values = {
        "lane_id": 1,
        "lease_id": uuid.UUID(int=1),
        "seq": 1,
        "event_n": 1,
        "kind": DeliveryKind.CREATE,
        "marker": uuid.UUID(int=2),
        "attempts": 0,
        "outcome_unknown": False,
        "verify_attempts": 0,
        "draft": None,
        "first_sent_at": None,
        "coalesced_count": 0,
        "created_at": NOW,
        "verify_after_seconds": 0.0,
        "expired": False,
        "verify_writes": False,
        "ticket_id": uuid.UUID(int=7),
        "ticket_kind": 1,
        "title": "KeyError",
        "description": "",
        "ticket_url": "",
        "level": "",
        "environment": "",
        "release": "",
        "reporter_email": "",
        "reporter_name": "",
        "close_reason": None,
        "occurrences": 3,
        "source": "shop",
        "event_kind": "opened",
        "event_data": json.dumps(data or {}),
        "event_at": NOW,
        "remote_id": None,
        "remote_key": None,
        "issue_url": None,
        "link_state": None,
    }
    return NextDelivery(**values | fields)


def attempt(row, kind=DeliveryKind.CREATE, *, destination_kind=DestinationKind.TRACKER, redact="normal"):
    return Attempt(
        lane=Lane(1, 1, uuid.UUID(int=1), row.ticket_id, 1, 0.0),
        delivery=row,
        kind=kind,
        destination=LiveDestination(1, "forge", destination_kind, "forgejo", redact=redact),
        started_at=NOW,
        started_monotonic=0.0,
        outcome_unknown=False,
    )


def rendered(
    data=None,
    kind=DeliveryKind.CREATE,
    *,
    redact="normal",
    listed=None,
    more=None,
    destination_kind=DestinationKind.TRACKER,
    rule=NO_RULE,
    **fields,
):
    row = delivery(data, **fields)
    current_attempt = attempt(row, kind, destination_kind=destination_kind)
    return draft_of(
        current_attempt,
        PAGE,
        OutgoingFilter(KEY, PROFILES[redact], person=rule.options.requester),
        listed,
        more,
        rule,
    )


def drafts(**more):
    reloader = SimpleNamespace(current=SimpleNamespace(mask_key=KEY, routes=[]))
    return DraftRenderer(None, reloader, PAGE, **more)


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        ({"text": f"it was {AWS}"}, {}),
        ({"code": f"aws = '{AWS}'"}, {}),
        ({"url": f"https://shop.example/?k={AWS}"}, {}),
        ({"facts": [["Server", f"web {AWS}"]]}, {}),
        ({"facts": [[f"{AWS}", "x"]]}, {}),
        ({"level": AWS}, {}),
        ({"release": AWS}, {}),
        ({}, {"title": f"Refused: {AWS}"}),
        ({}, {"level": f"error {AWS}"}),
        ({}, {"environment": AWS}),
        ({}, {"release": AWS}),
        ({}, {"ticket_url": f"https://shop.example/?k={AWS}"}),
    ],
)
@pytest.mark.parametrize("kind", [DeliveryKind.CREATE, DeliveryKind.UPDATE])
def test_no_field_of_an_issue_bypasses_the_filter(data, fields, kind):
    draft = rendered(data, kind, **fields)
    assert AWS not in repr(draft)
    unmasked = rendered(data, kind, redact="off", **fields)
    assert AWS in repr(unmasked), "the case says nothing: the field does not leave at all"


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("commented", {"body": AWS, "author": {"name": "Ada"}}),
        ("commented", {"body": "x", "author": {"name": f"Ada {AWS}"}}),
        ("regressed", {"text": AWS}),
        ("regressed", {"facts": [["Server", AWS]]}),
        ("regressed", {"url": f"https://shop.example/?k={AWS}"}),
        ("details", {"code": AWS}),
    ],
)
def test_no_field_of_a_comment_bypasses_the_filter(event, data):
    draft = rendered(data, DeliveryKind.COMMENT, event_kind=event, ticket_kind=2)
    assert AWS not in repr(draft)
    assert draft["masked"] == {"aws-key": 1}
    assert AWS in repr(rendered(data, DeliveryKind.COMMENT, redact="off", event_kind=event, ticket_kind=2))


def test_details_of_a_source_and_throttled_tickets_are_filtered_too():
    more = {"code": AWS, "facts": [["User", AWS]], "level": AWS}
    assert AWS not in repr(rendered({"text": "x"}, more=more))
    listed = ThrottledTickets(2, [("1", f"No {AWS}"), ("2", "fine")])
    draft = rendered({"throttle": {"allowed": 1}}, listed=listed)
    assert AWS not in repr(draft) and "fine" in draft["body"]
    assert AWS not in repr(
        rendered(
            {"throttle": {"allowed": 1}}, DeliveryKind.COMMENT, listed=listed, event_kind="throttle_continued"
        )
    )


def test_feedback_to_a_source_is_filtered_and_otherwise_unchanged():
    data = {"destination": "forge", "key": "12", "url": "https://git.example/acme/shop/issues/12"}
    draft = rendered(data, DeliveryKind.COMMENT, destination_kind=DestinationKind.SOURCE, event_kind="linked")
    assert draft == {"body": "Tracked as forge 12: https://git.example/acme/shop/issues/12"}
    data["url"] = f"https://git:{AWS}@git.example/issues/12"
    assert AWS not in repr(
        rendered(data, DeliveryKind.COMMENT, destination_kind=DestinationKind.SOURCE, event_kind="linked")
    )


def test_masked_before_it_is_cut():
    """A secret that spans the cut would otherwise leave a part of itself."""
    text = "x " * 5990 + f"\npassword = 'correct-horse-{'7' * 80}'"
    body = rendered({"text": text})["body"]
    assert "correct" not in body and "777" not in body


def test_clean_comes_first():
    hidden = AWS[:6] + "\u200b" + AWS[6:]
    draft = rendered({"text": hidden, "facts": [["a", hidden]]}, title=hidden)
    assert draft["masked"] == {"aws-key": 2}
    assert AWS not in repr(draft).replace("\\u200b", "")


def test_what_is_ours_stays():
    url = "https://bugsink.example.com/issues/issue/6f0d2a51-3c5e-4a0e-9c55-0d6f6c2f6a01/event/last/"
    for redact in PROFILES:
        draft = rendered(
            {"url": url, "release": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b"}, redact=redact, ticket_url=url
        )
        assert f"{PAGE}/console/tickets/{uuid.UUID(int=7)}" in draft["body"]
        assert f"]({url})" in draft["body"]
        assert draft["facts"]["url"] == url
        assert draft["facts"]["ticket"] == str(uuid.UUID(int=7))
        assert "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b" in draft["facts"]["release"]
        assert "masked" not in draft


def test_the_same_secret_has_the_same_placeholder_and_in_another_installation_another():
    first, second = rendered({"text": AWS})["body"], rendered({"text": f"again {AWS}"})["body"]
    word = first.partition("aws-key ")[2][:6]
    assert f"aws-key {word}" in second
    row = delivery({"text": AWS})
    assert (
        f"aws-key {word}"
        not in draft_of(attempt(row), PAGE, OutgoingFilter(b"another", PROFILES["normal"]))["body"]
    )


def test_addresses_of_people_stay_inside():
    comment = {"body": "x", "author": {"name": "ada@customer.example", "email": "ada@customer.example"}}
    for redact in PROFILES:
        draft = rendered(comment, DeliveryKind.COMMENT, redact=redact, event_kind="commented", ticket_kind=2)
        assert "ada" not in repr(draft)
        assert "The customer wrote" in draft["body"]
    named = {"body": "x", "author": {"name": "Ada"}}
    assert "Ada" in rendered(named, DeliveryKind.COMMENT, event_kind="commented", ticket_kind=2)["body"]
    assert (
        "Ada"
        not in rendered(named, DeliveryKind.COMMENT, redact="strict", event_kind="commented", ticket_kind=2)[
            "body"
        ]
    )


def test_a_mail_greets_its_owner_by_name_and_holds_no_secret():
    row = delivery(event_kind="closed", title=f"My {AWS}", reporter_name="Ada", ticket_kind=2)
    draft = email_draft_of(row, PAGE, OutgoingFilter(KEY, PROFILES["normal"], person=True))
    assert AWS not in repr(draft) and "Hello Ada," in draft["body"]
    assert draft["masked"] == {"aws-key": 1}


def test_counts_are_shown_as_text():
    assert redaction_summary({"token": 2, "aws-key": 1}) == "1 aws-key, 2 token"


async def test_a_draft_is_rendered_once_and_counted_once():
    seen = []
    signals = Signals()
    signals.subscribe(TextRedacted, lambda signal: seen.append(signal.counts))
    makes = drafts(signals=signals)
    first = await makes.render(attempt(delivery({"text": AWS})))
    second = await makes.render(attempt(delivery({"text": "something else"}, draft=json.dumps(first))))
    assert second == first
    assert seen == [{"aws-key": 1}]
    mail = await makes.render_email(delivery(event_kind="closed", title=AWS))
    assert await makes.render_email(delivery(draft=json.dumps(mail))) == mail
    assert len(seen) == 2


@pytest.mark.parametrize(("size", "inline"), [(100, True), (60_000, False)])
async def test_long_texts_are_masked_in_a_thread(monkeypatch, size, inline):
    threads = set()
    monkeypatch.setattr(
        OutgoingFilter, "event", lambda self, data: threads.add(threading.current_thread()) or dict(data)
    )
    await drafts().render(attempt(delivery({"text": "x" * size})))
    assert (threads == {threading.main_thread()}) is inline


async def test_the_loop_goes_on_while_a_long_text_is_masked():
    iterations = 0

    async def count():
        nonlocal iterations
        while True:
            iterations += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await drafts().render(attempt(delivery({"text": "password = something; " * 8_000})))
    counting.cancel()
    assert iterations > 3


# -- templates ----------------------------------------------------------------------------------------------------

TEMPLATES = TemplateSet(
    title="T {{ title }}",
    body="B {{ text }}",
    comment="C {{ text }}{{ earlier }}",
    mail_subject="S",
    mail_body="M",
)
MINE = Rule("mine", Options(templates=TEMPLATES))


def plain(text):
    return text.replace("\u2060", "")


def test_each_text_has_its_template_or_else_the_built_in_text():
    draft = rendered({"text": "broke"}, rule=MINE)
    assert (plain(draft["title"]), plain(draft["body"])) == ("T KeyError", "B broke")
    assert draft["facts"]["title"] == "KeyError"
    comment = rendered(
        {"text": "back"}, DeliveryKind.COMMENT, rule=MINE, event_kind="recurred", coalesced_count=4
    )
    assert plain(comment["body"]) == "C back4"
    row = delivery(event_kind="closed")
    mail = email_draft_of(row, PAGE, OutgoingFilter(KEY, PROFILES["normal"], person=True), MINE)
    assert (mail["subject"], mail["body"]) == ("S", "M")
    some = Rule("some", Options(templates=TemplateSet(title="only {{ level }}")))
    draft = rendered({"text": "broke", "level": "error"}, rule=some)
    assert plain(draft["title"]) == "only error" and "Reported through" in draft["body"]


def test_texts_that_no_template_knows_stay_built_in():
    listed = ThrottledTickets(1, [("1", "fine")])
    data = {"throttle": {"allowed": 1}}
    assert "More than 1 new problems" in rendered(data, listed=listed, rule=MINE)["body"]
    assert (
        "are listed by now"
        in rendered(data, DeliveryKind.COMMENT, listed=listed, event_kind="throttle_continued", rule=MINE)[
            "body"
        ]
    )
    assert (
        "x = 1" in rendered({"code": "x = 1"}, DeliveryKind.COMMENT, event_kind="details", rule=MINE)["body"]
    )
    linked = {"destination": "forge", "key": "12", "url": "https://git.example/12"}
    details = rendered(
        linked, DeliveryKind.COMMENT, destination_kind=DestinationKind.SOURCE, event_kind="linked", rule=MINE
    )
    assert details["body"].startswith("Tracked as")


def test_a_template_that_fails_costs_its_own_text_alone_and_is_named():
    broken = TemplateSet(title="{{ title | truncate(level) }}", body="B {{ text }}", comment="{% if %}")
    rule = Rule("bad", Options(templates=broken))
    draft = rendered({"text": "broke"}, rule=rule)
    assert draft["title"] == "KeyError" and plain(draft["body"]) == "B broke"
    assert draft["problem"] == (
        "template title of route bad failed: line 1: TypeError: truncate needs a number of characters: truncate(100)"
    )
    comment = rendered({"text": "back"}, DeliveryKind.COMMENT, rule=rule, event_kind="recurred")
    assert (
        "come back" in comment["body"]
        and "template comment of route bad failed: line 1" in comment["problem"]
    )


def test_secrets_are_masked_before_a_template_sees_them():
    every = TemplateSet(
        body="{{ text }} {{ title }} {{ tags }} {{ code }} {{ url | link }} {{ url }} {{ level }} {{ release }} {{ environment }}"
    )
    data = {"text": AWS, "code": AWS, "facts": [["a", AWS]], "url": f"https://x.test/{AWS}", "level": AWS}
    fields = {"title": AWS, "release": AWS, "environment": AWS, "ticket_url": f"https://y.test/{AWS}"}
    draft = rendered(data, rule=Rule("x", Options(templates=every)), **fields)
    assert "x.test" in draft["body"]
    known = rendered({}, rule=Rule("x", Options(templates=every)), **fields)
    assert "y.test" in known["body"] and AWS not in repr(known)
    assert AWS not in repr(draft) and "problem" not in draft


def test_the_requester_is_named_for_support_alone_and_where_the_rule_says_so():
    asked = Rule("asked", Options(requester=True))
    requester = {"reporter_name": "Ada", "reporter_email": "ada@customer.example"}
    for redact in PROFILES:
        assert "ada@" not in repr(rendered({"text": "x"}, ticket_kind=2, redact=redact, **requester))
        draft = rendered({"text": "x"}, ticket_kind=2, redact=redact, rule=asked, **requester)
        assert "- **Requester:** `Ada <ada@customer.example>`" in draft["body"]
    assert "ada@" not in repr(rendered({"text": "x"}, rule=asked, **requester))
    templates = TemplateSet(body="{{ requester.name }} {{ requester.address }} {{ tags }}.")
    shown = rendered(
        {}, ticket_kind=2, rule=Rule("x", Options(templates=templates, requester=True)), **requester
    )
    assert "Ada" in shown["body"] and "customer" in shown["body"]
    hidden = rendered({}, ticket_kind=2, rule=Rule("x", Options(templates=templates)), **requester)
    assert plain(hidden["body"]) == "."


def test_the_first_rule_that_fits_and_names_the_destination_says_it():
    def route(position, destinations=(1,), name="", **match):
        return Route(position, Match(**match), tuple(destinations), options=Options(name=name))

    row = delivery({}, title="KeyError: basket", level="")
    facts = facts_of(row, {"level": "error", "facts": [["service", "basket"]]})
    rules = [
        route(1, [2], "elsewhere"),
        route(2, level="fatal"),
        route(3, tags={"service": "cart"}),
        route(4, name="fits", tags={"service": "basket"}, level="error", occurrences=9, within="1h"),
        route(5),
    ]
    assert rule_for(rules, facts, 1).name == "fits"
    assert rule_for(rules, facts, None).name == "elsewhere"
    assert rule_for(rules[:3], facts, 1) is NO_RULE
    assert rule_for(rules[4:], facts, 1).name == "number 5"


async def test_without_templates_nothing_is_asked_and_with_them_the_opening_event(monkeypatch):
    asked = []

    async def opening(database, ticket_id):
        asked.append(ticket_id)
        return json.dumps({"facts": [["service", "basket"]]})

    monkeypatch.setattr("pointsman.storage.tickets.read_opening_event", opening)
    reloader = SimpleNamespace(current=SimpleNamespace(mask_key=KEY, routes=[Route(1, Match(), (1,))]))
    database = SimpleNamespace(fetchrow=mock.AsyncMock(return_value={"count": 1, "since": None}))
    makes = DraftRenderer(database, reloader, PAGE)
    row = delivery({"text": "back"}, event_kind="recurred", event_n=5, seq=3)
    await makes.render(attempt(row, DeliveryKind.COMMENT))
    assert not asked
    match = Match(tags={"service": "basket"})
    reloader.current.routes = [Route(1, match, (1,), options=Options(templates=TEMPLATES))]
    draft = await makes.render(attempt(row, DeliveryKind.COMMENT))
    notice, _, body = draft["body"].partition("\n\n")
    assert plain(body) == "C back0" and asked == [row.ticket_id]
    assert notice.startswith("_One update could not")


async def test_a_change_of_state_has_no_text():
    for kind in (DeliveryKind.CLOSE, DeliveryKind.REOPEN):
        assert await drafts().render(attempt(delivery({"text": AWS}), kind)) == {}
