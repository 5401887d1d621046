"""Jira Data Center: the same tracker over API version 2, with texts in wiki markup."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.plugin_api import Actor, AuthFailed, Draft, Marker, Secret, UnknownOutcome
from pointsman.testing.fake import Fault
from pointsman_jira import JiraTracker, wiki
from pointsman_jira.settings import JiraSettings
from pointsman_jira.testing import FakeJira, JiraTransition

quick = settings(max_examples=200, deadline=None)
MARKER = Marker("pm1-a-b")


def draft(**changes):
    return Draft(**{"title": "Checkout fails", "body": "It **broke**.", "marker": MARKER, **changes})


def ago(minutes):
    return dt.datetime.now(dt.UTC) - dt.timedelta(minutes=minutes)


@pytest.fixture
async def site():
    async with FakeJira(data_center=True, api_token="personal-token") as running:
        yield running


@pytest.fixture
def make(site, make_tracker):
    def make_with(**changes):
        received = {
            "url": site.url,
            "email": "",
            "api_token": Secret("personal-token"),
            "deployment": "data-center",
        }
        return make_tracker(**{**received, **changes})

    return make_with


# -- the tracker -----------------------------------------------------------------------------------------------------


async def test_the_whole_way(site, make):
    site.assignable = {"dev"}
    site.fields = {"customfield_1": {}}
    tracker = make(assignee="dev", fields={"customfield_1": "{{ level }}"})
    ref = await tracker.create_issue(draft(facts={"level": "error"}, body="# Head\n\n- a *b*\n"))
    issue = site.issues[ref.remote_id]
    assert issue.description == "h1. Head\n\n* a b"
    assert issue.more == {"assignee": {"name": "dev"}, "customfield_1": "error"}
    comment = await tracker.add_comment(ref, "`code` again", MARKER)
    assert issue.comments[0].body == "{{code}} again"
    assert await tracker.find_comment(ref, MARKER, ago(1)) == [comment]
    site.show_comment_properties = False
    assert await tracker.find_comment(ref, MARKER, ago(1)) == [comment]
    assert await tracker.find_issue(MARKER, ago(1)) == [ref]
    await tracker.update_issue(ref, draft(body="1. one"))
    assert issue.description == "# one"
    assert (await tracker.set_state(ref, "closed", "not_planned")).state == "closed"
    assert (await tracker.set_state(ref, "open", None)).state == "open"
    assert {path.split("/")[3] for _, path in site.requests} == {"2"}


async def test_accounts_are_known_by_their_keys(site, make):
    tracker = make()
    ref = await tracker.create_issue(draft())
    assert await tracker.own_account() == Actor("account-bot", "Account-Bot")
    assert (await tracker.read_issue(ref)).author == await tracker.own_account()
    await site.open_issue("CLONE - Checkout fails", labels=(MARKER.text,), by="dev")
    assert await tracker.find_issue(MARKER, ago(1)) == [ref]


async def test_a_search_is_read_page_by_page(site, make):
    site.page_max = 2
    for number in range(5):
        await site.open_issue(f"Issue {number}")
    assert len(await make().list_changes(ago(10))) == 5


async def test_a_wrong_token_is_an_auth_failure(make):
    with pytest.raises(AuthFailed):
        await make(api_token=Secret("another-token")).create_issue(draft())


async def test_an_assignee_is_left_out_and_said_here_too(make):
    [note] = (await make(assignee="gone").create_issue(draft())).notes
    assert "User 'gone' cannot be assigned" in note


async def test_a_refused_text_is_repeated_as_plain_text(site, make):
    texts = b'{"errorMessages": [], "errors": {"description": "Operation value must be a string"}}'
    site.faults.append(Fault(match="POST", status=400, body=texts))
    ref = await make().create_issue(draft(body="# Head\n\n*a*"))
    assert site.issues[ref.remote_id].description == "\\# Head\n\n\\*a\\*"


async def test_a_page_of_a_proxy_is_no_success(site, make):
    tracker = make()
    ref = await tracker.create_issue(draft())
    for doing in (lambda: tracker.update_issue(ref, draft()), lambda: tracker.set_state(ref, "closed", None)):
        site.faults += [
            Fault(match="PUT", status=200, body=b"<html>Sign in"),
            Fault(
                match=f"POST /rest/api/2/issue/{ref.remote_id}/transitions", status=200, body=b"<html>Sign in"
            ),
        ]
        with pytest.raises(UnknownOutcome):
            await doing()


async def test_the_check_asks_the_same_of_data_center(site, make):
    tracker = make()
    await tracker.create_issue(draft())
    matching = await tracker.check()
    assert {finding.level for finding in matching} == {"ok"}
    assert not [finding for finding in matching if "API token" in finding.message]
    site.page_max = 2
    site.required_fields = {"customfield_1"}
    site.transitions = [JiraTransition("21", "Start", "In Progress")]
    assert [finding.message[:22] for finding in await tracker.check() if finding.level == "error"] == [
        "the field customfield_",
        "OPS-1 can't be closed:",
    ]


async def test_texts_of_any_length_are_taken(site, make):
    tracker = make()
    for body in (
        "word " * 20000,
        "*" * 60000,
        "[x](" * 20000,
        "{" * 60000,
        "```\n" + "{" * 60000 + "\n```",
        "- " * 9000,
    ):
        ref = await tracker.create_issue(draft(body=body))
        assert 0 < len(site.issues[ref.remote_id].description) <= 32767


def test_settings_fit_the_deployment():
    good = {
        "url": "https://jira.corp/jira",
        "api_token": Secret("t"),
        "project_key": "OPS",
        "deployment": "data-center",
    }
    created = JiraSettings(**good)
    assert (created.base, created.authorization.reveal()) == ("https://jira.corp/jira", "Bearer t")
    assert JiraTracker.connection(created).headers == {"Authorization": Secret("Bearer t")}
    with pytest.raises(ValueError, match="api_url is for Jira Cloud"):
        JiraSettings(**good, api_url="https://api.atlassian.com/ex/jira/1")
    with pytest.raises(ValueError, match="email must be"):
        JiraSettings(**{**good, "deployment": "cloud"})


# -- wiki markup -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("markdown", "markup"),
    [
        ("Plain, with snake_case and 2026-03-01.", "Plain, with snake_case and 2026-03-01."),
        ("## Head\n\nText", "h2. Head\n\nText"),
        ("**bold** *soft* ~~gone~~", "bold soft gone"),
        ("- a\n  - b\n- c", "* a\n** b\n* c"),
        ("1. a\n   - b", "# a\n#* b"),
        ("- \n", "* &nbsp;"),
        ("```python\nx = [1]*2\n```", "{code:python}\nx = [1]*2\n{code}"),
        ("```\nplain\n```", "{code}\nplain\n{code}"),
        ("```\na {code} b\n```", "{noformat}\na {code} b\n{noformat}"),
        ("```\n{code}{noformat}\n```", "{noformat}\n{code}{ noformat}\n{noformat}"),
        ("`a{b}`", "{{a\\{b\\}}}"),
        ("> quoted", "{quote}\nquoted\n{quote}"),
        ("---", "----"),
        ("|a|b|\n|-|-|\n|1||", "||a||b||\n|1| |"),
        ("[text](https://a.example/x_y)", "[text|https://a.example/x_y]"),
        ("[a|b](https://a.example/?q=[1]|2)", "[a\\|b|https://a.example/?q=%5B1%5D%7C2]"),
        ("(see https://a.example/x_y?a=b_), ok", "\\(see [https://a.example/x_y?a=b_]\\), ok"),
        ("[x](javascript:alert)", "\\[x\\]\\(javascript:alert\\)"),
        ("[x](ftp://a.example)", "x \\(ftp://a.example\\)"),
        ("a  \nb", "a\nb"),
        ("[~admin] hello", "\\[\\~admin\\] hello"),
        ("!https://x.example/a.png!", "\\![https://x.example/a.png]\\!"),
        ("{html}<b>{html}", "\\{html\\}<b>\\{html\\}"),
        ("C:\\temp", "C:&#92;temp"),
        ("a & b &amp; &#42;", "a & b & \\*"),
        ("`&#42;`", "{{&amp;#42;}}"),
        ("h1. not a head", "&#104;1. not a head"),
        ("bq. not a quote", "&#98;q. not a quote"),
        ("\\# no list", "\\# no list"),
        ("a -struck- b", "a \\-struck\\- b"),
        (":D and (x)", "&#58;D and \\(x\\)"),
    ],
)
def test_markdown_becomes_wiki_markup(markdown, markup):
    assert wiki.text(markdown) == markup


def test_a_number_sign_starts_no_list():
    assert wiki.plain("# one\n# two") == "\\# one\n\n\\# two"
    assert wiki.escaped("* one") == "\\* one"
    assert wiki.escaped("- one") == "\\- one"


@quick
@given(st.text(alphabet="{}[]|!~^*_-+?#\\&;:()hb1. aé\n`<>@", max_size=80))
def test_untrusted_text_makes_no_macro_mention_or_image(text):
    created = wiki.escaped(text)
    bare = re.sub(r"&#?\w+;|\\.", "", created, flags=re.DOTALL)
    assert not set("{}[]|!?") & set(bare)
    assert "\\\\" not in created
    for markdown in (text, "> " + text, "- " + text, "# " + text):
        assert isinstance(wiki.text(markdown), str)
        assert isinstance(wiki.plain(markdown), str)
