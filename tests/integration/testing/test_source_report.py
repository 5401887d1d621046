"""The report card of a kind of source: a grade with its reasons, from one process or several."""

from __future__ import annotations

import json

import pytest

from pointsman.plugin_api import PluginSettings, Report, Source, SourceCapabilities
from pointsman.testing.conformance import SourceCase, SourceConformanceSuite, SourceExample
from pointsman.testing.conformance.source_facts import describe_source
from pointsman.testing.report import write_report
from pointsman.testing.source_report import SourceCard, SourceRun, SourceRuns, source_table

pytest_plugins = ["pytester"]

PLUGINS = ("-p", "no:asyncio", "-p", "no:aiohttp", "--pointsman-report=card.json", "-q")
TESTS = [name for name in dir(SourceConformanceSuite) if name.startswith("test_")]


class Settings(PluginSettings, frozen=True, kw_only=True):
    pass


class Plain(Source):
    kind, title, api_version, ticket_kind, Settings = "plain", "Plain", 1, "alert", Settings

    def read_report(self, headers, body, decoded):
        raise ValueError("nothing is read here")


class Signed(Plain):
    def verify(self, headers, body):
        return True


class Able(Plain):
    capabilities = SourceCapabilities(backfill=True, set_state=True)


class Perhaps(Plain):
    async def backfill(self, since, known):
        raise NotImplementedError

    async def add_comment(self, problem, text, marker):
        raise NotImplementedError


class Owner(Plain):
    owns_tickets = True


def tried(source=Plain, *, failed=(), seen=("test_a", "test_b"), **more) -> SourceRun:
    reported = describe_source(
        SourceCase(source=source, examples=[SourceExample(name="one", body={})], **more)
    )
    created = SourceRun(frozenset({"test_a", "test_b"}), "plain", reported)
    created.seen, created.failed, created.passed = set(seen), list(failed), set(seen)
    return created


def card(*cases: SourceRun) -> SourceCard:
    return SourceCard("test_it.py::TestIt", cases)


@pytest.mark.parametrize(
    ("report_card", "grade", "remarks"),
    [
        (card(tried()), "A", []),
        (card(tried(Signed)), "B", ["not shown: signature; no case has `sign`"]),
        # what one case shows need not be shown by the others
        (card(tried(Signed), tried(Signed, sign=lambda secret, body: {})), "A", []),
        (
            card(tried(Able)),
            "B",
            [f"not shown: {name}; the suite asks no API" for name in ("backfill", "set_state")],
        ),
        (card(tried(failed=["test_a"])), "F", ["failed: test_a"]),
        (card(tried(failed=["test_a"], seen=["test_a"])), "F", ["failed: test_a"]),
        (card(tried(seen=["test_a"])), "?", ["not graded: 1 tests of the suite were left out"]),
        (card(tried(), tried(seen=[])), "?", ["not graded: 2 tests of the suite were left out"]),
    ],
)
def test_a_grade_has_its_reasons(report_card, grade, remarks):
    assert (report_card.grade, report_card.remarks()) == (grade, remarks)


def test_a_repeat_that_no_example_shows_is_said():
    reported = tried()
    reported.facts = {**reported.facts, "declared": ["dedupe"]}
    assert (card(reported).grade, card(reported).remarks()) == (
        "B",
        ["not shown: dedupe; no example has `later`"],
    )


def test_the_table_shows_what_is_pulled_and_written_back():
    created = [card(tried(item)) for item in (Able, Perhaps, Owner)]
    created.append(card(tried(failed=["test_a"])))
    assert source_table(created)[:5] == [
        "source  authenticated  deduplicated     pulled       written back  tests   skipped  grade",
        "plain   token          -                yes          state         2 of 2  0        B",
        "plain   token          -                by settings  by settings   2 of 2  0        B",
        "plain   token          Idempotency-Key  no           it asks       2 of 2  0        A",
        "plain   token          -                no           no            1 of 2  0        F",
    ]


def test_a_card_says_the_most_that_any_case_says():
    cases = [tried(Plain), tried(Perhaps), tried(Plain)]
    assert (card(*cases).can("backfill"), card(*cases).written_back) == ("by settings", "by settings")
    assert card(*cases, tried(Able)).can("backfill") == "yes"


def test_who_owns_tickets_may_name_its_reports_too():
    class Naming(Owner):
        def read_report(self, headers, body, decoded):
            payload = [decoded.pop() for _ in range(3)]
            return [Report(action="opened", fingerprint="", title="x", dedupe=item) for item in payload]

    example = SourceExample(name="one", body=["x", "", None])
    reported = describe_source(SourceCase(source=Naming, examples=[example]))
    assert reported["deduplicated"] == ["dedupe", "Idempotency-Key", "never"]
    assert example.body == ["x", "", None]


def test_a_source_that_never_came_to_light_has_the_name_of_its_class():
    book = SourceRuns()
    book.open("test_it.py::TestIt", "", ["test_a"], {"": ""}).failed.append("test_a")
    [created] = book.cards()
    assert (created.kind, created.grade, created.as_json()["class"]) == ("test_it.py::TestIt", "F", None)


def test_a_file_without_sources_is_as_it_was(tmp_path):
    write_report(str(tmp_path / "card.json"), [])
    assert json.loads((tmp_path / "card.json").read_text("utf-8")) == {
        "pointsman_conformance": 1,
        "trackers": [],
    }


# -- a run of the suite ----------------------------------------------------------------------------------------------

SUITE = """
import hmac
from typing import Annotated
import pytest
from msgspec import Meta
from pointsman.plugin_api import PluginSettings, Report, Secret, Source, Unreadable, hmac_sha256_matches
from pointsman.testing.conformance import SourceCase, SourceConformanceSuite, SourceExample

class BellSettings(PluginSettings, frozen=True, kw_only=True):
    door: Annotated[str, Meta(description="Which door")] = "front"
    signing_secret: Annotated[Secret | None, Meta(description="Demands a signature")] = None

class Bell(Source):
    kind, title, api_version, ticket_kind, Settings = "bell", "A bell", 1, "alert", BellSettings

    def verify(self, headers, body):
        secret = self.settings.signing_secret
        given = headers.get("x-signature")
        return secret is None or hmac_sha256_matches(body, given, [secret.reveal().encode()])

    def read_report(self, headers, body, decoded):
        if not isinstance(decoded, dict) or not isinstance(decoded.get("at"), int):
            raise Unreadable("is missing", field="at")
        return [Report(action="opened", fingerprint=self.settings.door, title="Ding", dedupe=str(decoded["at"]))]

class FormSettings(PluginSettings, frozen=True, kw_only=True):
    pass

class Form(Source):
    kind, title, api_version, ticket_kind, Settings = "form", "A form", 1, "support", FormSettings

    def read_report(self, headers, body, decoded):
        return [Report(action="opened", fingerprint="", title={title})]

def bell(door):
    return SourceCase(
        source=Bell, settings={{"door": door}},
        examples=[SourceExample(name="one", body={{"at": 1}}, later={{"at": 2}}, needed=("at",))],
        secret="a", other_secret="b", signing={{"signing_secret": "a"}},
        sign=lambda secret, body: {{"x-signature": hmac.new(secret.encode(), body, "sha256").hexdigest()}},
    )

FORM = SourceCase(source=Form, examples=[SourceExample(name="one", body={{}})])

@pytest.fixture(params={params})
def source_case(request):
    {fixture}

class TestSources(SourceConformanceSuite):
    @pytest.mark.parametrize("more", [1, 2])
    def test_of_its_own(self, source_case, more):
        assert source_case.source.kind
"""
ALL = '[bell("front"), bell("back"), FORM], ids=["front", "back", "form"]'


@pytest.fixture
def run(pytester):
    """Run the suite; gives the cards by kind."""

    def run(*options, title='"A question"', params=ALL, fixture="return request.param"):
        pytester.makepyfile(test_it=SUITE.format(title=title, params=params, fixture=fixture))
        result = pytester.runpytest_inprocess(*PLUGINS, *options)
        whole = json.loads((pytester.path / "card.json").read_text("utf-8"))
        assert whole["trackers"] == []
        return {card["kind"]: card for card in whole["sources"]}, result

    return run


def test_a_suite_gives_one_card_for_each_kind(run):
    cards, result = run()
    assert result.ret == 0
    bell, form = cards["bell"], cards["form"]
    assert (bell["grade"], bell["remarks"], bell["title"]) == ("A", [], "A bell")
    assert (bell["authenticated"], bell["deduplicated"]) == (["token", "signature"], ["dedupe"])
    assert (bell["pulled"], bell["written_back"]) == ("no", "no")
    assert (form["grade"], form["authenticated"], form["deduplicated"]) == ("A", ["token"], ["body"])
    # two tests of its own, and the suite's: for each door, and for the form
    assert bell["tests"]["passed"] + len(bell["tests"]["skipped"]) == 2 * (len(TESTS) + 2)
    assert form["tests"]["passed"] + len(form["tests"]["skipped"]) == len(TESTS) + 2
    assert form["tests"]["skipped"]["test_signatures_decide[form]"] == "this kind verifies no signatures"
    result.stdout.fnmatch_lines(
        [
            "*Pointsman: conformance of sources*",
            "source *authenticated *deduplicated *pulled *written back *tests *skipped *grade",
            "bell * token, signature * dedupe * no * no * of * A",
            "form * token * body * no * no * of * A",
            "report: card.json",
        ]
    )
    assert "conformance of trackers" not in result.stdout.str()


def test_the_cards_are_the_same_from_several_processes(run):
    few = ("-k", "names or read or signatures")
    cards, _ = run(*few, title='""')
    spread, _ = run(*few, "-n", "2", title='""')
    assert spread == cards


@pytest.mark.parametrize("options", [("-k", "names"), ("-k", "front or form and names")])
def test_a_run_that_leaves_tests_out_is_not_graded(run, options):
    """A case that is left out, too."""
    cards, result = run(*options)
    assert result.ret == 0
    assert {card["grade"] for card in cards.values()} == {"?"}
    result.stdout.fnmatch_lines(["bell: not graded: * tests of the suite were left out"])


def test_a_kind_that_is_chosen_whole_is_graded(run):
    cards, _ = run("-k", "front or back")
    assert {kind: card["grade"] for kind, card in cards.items()} == {"bell": "A"}


@pytest.mark.parametrize(
    ("mark", "grade", "remark"),
    [
        ("skip", "?", f"not graded: {len(TESTS)} tests of the suite were left out"),
        ("xfail", "F", "failed: test_examples_are_read[none]"),
    ],
)
def test_a_mark_makes_no_grade(run, mark, grade, remark):
    """What a mark skips was left out, and what is expected to fail fails."""
    params = f'[pytest.param(SourceCase(source=Form, examples=[]), marks=pytest.mark.{mark}), FORM], ids=["none", "form"]'
    cards, result = run(params=params)
    assert result.ret == 0
    assert cards["form"]["grade"] == grade
    assert remark in cards["form"]["remarks"]


def test_a_wrong_source_fails(run):
    cards, result = run("-k", "not bell and not any and not changed", title='""')
    assert result.ret == 1
    assert {kind: card["grade"] for kind, card in cards.items()} == {"bell": "?", "form": "F"}
    assert cards["form"]["tests"]["failed"] == ["test_examples_are_read[form]"]
    assert cards["form"]["remarks"] == ["failed: test_examples_are_read[form]"]


def test_a_fixture_that_fails_is_a_failure_of_its_kind(run):
    cards, _ = run("-k", "names", fixture='raise ValueError("no case today")', params=ALL)
    assert {kind: card["grade"] for kind, card in cards.items()} == {"bell": "F", "form": "F"}
    [name] = cards["form"]["tests"]["failed"]
    assert name == "test_the_class_has_names[form]"
