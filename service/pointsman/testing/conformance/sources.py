"""The suite for kinds of sources: subclass it in a test module that has a fixture ``source_case``."""

from __future__ import annotations

import copy
import json
import re
from types import ModuleType
from typing import Any, ClassVar, get_args, get_type_hints

import pytest

from pointsman.config.secrets import secret_fields
from pointsman.plugin_api import (
    API_VERSION,
    MAX_REPORTS,
    Action,
    PluginSettings,
    Report,
    Unreadable,
    hookimpl,
)
from pointsman.plugin_host.registry import Registry
from pointsman.testing.conformance.hostile_texts import BODIES, HEADER_VALUES, TEXTS
from pointsman.testing.conformance.source_case import (
    UNUSUAL_VALUES,
    SourceCase,
    SourceExample,
    parse_path,
    paths_in,
    value_at,
    with_value,
    without_value,
)
from pointsman.testing.conformance.tests_contract import LIKE_A_SECRET, description

LONGEST_FINGERPRINT = 2000
"""The most bytes that fit into the index."""


def read(case: SourceCase, example: SourceExample, body: Any = None) -> list[Report]:
    """Return the reports that the source reads from a request."""
    body = example.body if body is None else body
    return list(case.make().read_report(example.headers, json.dumps(body).encode(), copy.deepcopy(body)))


def decide(case: SourceCase, example: SourceExample, body: Any) -> list[Report] | ValueError:
    """Return the reports of any body, or the refusal; nothing else is a decision."""
    try:
        reports = read(case, example, body) if body is not None else _read_null(case, example)
    except ValueError as error:
        if isinstance(error, Unreadable):
            assert str(error), "an Unreadable says nothing: name what is wrong, and the cure"  # noqa: PT017
        return error
    for report in reports:
        check(report)
    return reports


def _read_null(case: SourceCase, example: SourceExample) -> list[Report]:
    return list(case.make().read_report(example.headers, b"null", None))


def check(report: Report) -> None:
    """Check that the core can accept a report."""
    assert type(report) is Report
    assert report.action in get_args(Action), f"{report.action!r} is no action"
    for name in (
        "fingerprint",
        "title",
        "text",
        "code",
        "url",
        "level",
        "environment",
        "release",
        "problem_id",
    ):
        assert type(getattr(report, name)) is str, f"{name} is no text"
    assert len(report.fingerprint.encode("utf-8", "replace")) <= LONGEST_FINGERPRINT, (
        "the fingerprint does not fit into the index: keep its beginning, and a digest of the rest"
    )
    assert report.dedupe is None or type(report.dedupe) is str, "dedupe is neither a text nor None"
    for fact in report.facts:
        assert len(fact) == 2, f"the fact {fact!r} is no pair"
        assert all(type(part) is str for part in fact), f"the fact {fact!r} is not of texts"
    assert report.seen_at is None or report.seen_at.tzinfo is not None, "seen_at has no zone"


class SourceConformanceSuite:
    """Every test that a kind of source has to pass. The tests have no parameters of their own: those of an item are
    the case's.
    """

    pointsman_source_conformance: ClassVar[bool] = True
    """The report card recognizes the suite's tests by this."""

    # -- the class -----------------------------------------------------------------------------------------------

    def test_the_core_accepts_the_class(self, source_case: SourceCase) -> None:
        """Registered through the hook, the class is taken: kind, API version, settings and methods fit."""
        module = ModuleType("plugin_under_test")

        def register_sources(register: Any) -> None:
            register(source_case.source)

        module.pointsman_register_sources = hookimpl(  # type: ignore[attr-defined]
            register_sources, specname="pointsman_register_sources"
        )
        registry = Registry()
        registry.add("plugin under test", "?", "?", module)
        assert not registry.statuses[0].refused, registry.statuses[0].refused
        assert source_case.source.api_version == API_VERSION

    def test_the_class_has_names(self, source_case: SourceCase) -> None:
        """The kind is one lower-case word; the title is one line, for people; kept headers are in lower case."""
        kind, title = source_case.source.kind, source_case.source.title
        assert re.fullmatch(r"[a-z][a-z0-9_-]*", kind), f"kind {kind!r} is no lower-case word"
        assert title, "the title is empty"
        assert title.strip() == title, f"title {title!r} has spaces around it"
        assert title.isprintable(), f"title {title!r} is not one line of text"
        assert source_case.source.ticket_kind in ("alert", "support")
        for name in source_case.source.kept_headers:
            assert re.fullmatch(r"[a-z0-9-]+\*?", name), f"the kept header {name!r} is not in lower case"
            assert not re.search(r"authorization|cookie|signature|token", name), f"{name} holds a credential"

    def test_settings_are_described_and_strict(self, source_case: SourceCase) -> None:
        """Each setting has a help text, a misspelt one is an error, and credentials are Secrets."""
        kind = source_case.source.Settings
        hints = get_type_hints(kind, include_extras=True)
        lacking = [name for name in kind.__struct_fields__ if not description(hints[name])]
        assert not lacking, f"settings without msgspec.Meta(description=...): {', '.join(lacking)}"
        assert issubclass(kind, PluginSettings)
        assert kind.__struct_config__.forbid_unknown_fields, (
            "declare the settings with forbid_unknown_fields=True"
        )
        assert kind.__struct_config__.frozen, "declare the settings with frozen=True"
        secret = secret_fields(kind)
        plain = [name for name in kind.__struct_fields__ if LIKE_A_SECRET.search(name) and name not in secret]
        assert not plain, f"settings that should be of type Secret: {', '.join(plain)}"

    # -- what it reads -------------------------------------------------------------------------------------------

    def test_examples_are_read(self, source_case: SourceCase) -> None:
        """Each example holds the reports that it says, each with a title."""
        assert source_case.examples, "there are no examples"
        for example in source_case.requests():
            reports = read(source_case, example)
            assert tuple(report.action for report in reports) == example.actions, example.name
            assert len(reports) <= MAX_REPORTS, example.name
            for report in reports:
                check(report)
                assert report.title.strip(), f"{example.name}: a report has no title"

    def test_the_test_button_makes_no_ticket(self, source_case: SourceCase) -> None:
        """What the sender's test button posts has the action test."""
        if source_case.test is None:
            pytest.skip("the sender has no test button")
        assert {report.action for report in read(source_case, source_case.test)} == {"test"}

    def test_reading_is_pure(self, source_case: SourceCase) -> None:
        """The same request is the same reports, by another instance too, and what it was given stays as it was."""
        for example in source_case.requests():
            body, headers = copy.deepcopy(example.body), dict(example.headers)
            source = source_case.make()
            first = list(source.read_report(headers, example.raw, body))
            assert (body, headers) == (example.body, dict(example.headers)), f"{example.name} was changed"
            assert list(source.read_report(headers, example.raw, body)) == first == read(source_case, example)

    def test_the_same_problem_later_is_the_same_problem(self, source_case: SourceCase) -> None:
        """Fingerprints hold nothing that changes with time, and a later report is no repeat of the first."""
        repeatable = [example for example in source_case.examples if example.later is not None]
        named = [
            report.fingerprint for example in source_case.examples for report in read(source_case, example)
        ]
        if not any(named):
            pytest.skip("each report is a problem of its own")
        assert repeatable, "no example has `later`: the same problems, reported again"
        for example in repeatable:
            first, later = read(source_case, example), read(source_case, example, example.later)
            fingerprints = [report.fingerprint for report in first]
            assert fingerprints == [report.fingerprint for report in later], example.name
            for report, repetition in zip(first, later, strict=True):
                assert report.fingerprint, f"{example.name}: an empty fingerprint names no problem"
                assert not report.dedupe or report.dedupe != repetition.dedupe, (
                    f"{example.name}: the later report is taken for a repeat"
                )

    def test_reports_of_one_request_are_told_apart(self, source_case: SourceCase) -> None:
        """Several reports of one request are not repeats of each other."""
        for example in source_case.examples:
            keys = [report.dedupe for report in read(source_case, example) if report.dedupe]
            assert len(set(keys)) == len(keys), f"{example.name}: two reports have the same dedupe"

    def test_fields_that_are_not_known_are_ignored(self, source_case: SourceCase) -> None:
        """A later version of the sender may say more."""
        if not source_case.lenient:
            pytest.skip("this kind is strict on purpose")
        for example in source_case.requests():
            for path in paths_in(example.body):
                if isinstance(value_at(example.body, path), dict):
                    more = {**value_at(example.body, path), "zz_new_in_the_next_version": {"a": [1]}}
                    reports = read(source_case, example, with_value(example.body, path, more))
                    read_again = [(report.action, report.fingerprint) for report in reports]
                    known = [(report.action, report.fingerprint) for report in read(source_case, example)]
                    assert read_again == known, f"{example.name}: {path}"

    def test_what_is_needed_is_asked_for_by_name(self, source_case: SourceCase) -> None:
        """Without a field that it needs the request is Unreadable, and the sender is told which."""
        for example in source_case.examples:
            for dotted in example.needed:
                decision = decide(source_case, example, without_value(example.body, parse_path(dotted)))
                assert isinstance(decision, Unreadable), f"{example.name} was read without {dotted}"
                assert decision.field, f"{example.name}: Unreadable names no field for {dotted}"

    # -- whatever comes ------------------------------------------------------------------------------------------

    def test_any_json_gets_a_decision(self, source_case: SourceCase) -> None:
        """Reports, Unreadable, or a ValueError that parks the body; nothing else comes out."""
        empty = SourceExample(name="anything", body={})
        for body in BODIES:
            try:
                decoded = json.loads(body)
            except (ValueError, RecursionError):
                continue
            for example in [empty, *source_case.requests()]:
                decide(source_case, example, decoded)

    def test_examples_with_one_place_changed_get_a_decision(self, source_case: SourceCase) -> None:
        """Any value may stand anywhere, and anything may be missing."""
        for example in source_case.requests():
            for path in paths_in(example.body):
                for odd in UNUSUAL_VALUES:
                    decide(source_case, example, with_value(example.body, path, odd))
                if path:
                    decide(source_case, example, without_value(example.body, path))

    def test_hostile_texts_are_taken(self, source_case: SourceCase) -> None:
        """Texts are untrusted; the core escapes them."""
        for example in source_case.requests():
            for path in paths_in(example.body):
                if isinstance(value_at(example.body, path), str):
                    for text in TEXTS.values():
                        decide(source_case, example, with_value(example.body, path, text))

    def test_headers_may_hold_anything(self, source_case: SourceCase) -> None:
        """The headers that it keeps too."""
        for example in source_case.requests():
            for name in {*example.headers, *source_case.source.kept_headers, "content-type"}:
                for value in HEADER_VALUES:
                    headers = {**example.headers, name.replace("*", "x"): value[:1000]}
                    decide(source_case, SourceExample(name="h", body={}, headers=headers), example.body)

    # -- who sent it ---------------------------------------------------------------------------------------------

    def test_without_a_secret_the_token_decides(self, source_case: SourceCase) -> None:
        """A kind that verifies nothing, or was told no secret, takes any body."""
        source = source_case.make()
        assert source.verify({}, b"") is True
        assert source.verify({"x-signature": "\udcff"}, b"\xff") is True

    def test_signatures_decide(self, source_case: SourceCase) -> None:
        """Signed with the secret: taken. Another secret, another body, no signature, nonsense: not, without an error."""
        if source_case.sign is None:
            own = [name for name in source_case.source.Settings.__struct_fields__ if "signing_secret" in name]
            assert not own, "the settings have a signing secret: give the case `sign`, `secret` and `signing`"
            pytest.skip("this kind verifies no signatures")
        source = source_case.make(source_case.signing)
        for example in source_case.requests():
            good = {**example.headers, **source_case.sign(source_case.secret, example.raw)}
            assert source.verify(good, example.raw) is True, f"{example.name}: a right signature is refused"
            assert source.verify(good, example.raw + b" ") is False, "a changed body is taken"
            assert source.verify({}, example.raw) is False, "a body without a signature is taken"
            wrong = source_case.sign(source_case.other_secret, example.raw)
            assert source.verify({**example.headers, **wrong}, example.raw) is False, (
                "another secret is taken"
            )
        for name in source_case.sign(source_case.secret, b"{}"):
            for value in HEADER_VALUES:
                headers = {**source_case.sign(source_case.secret, b"{}"), name: value}
                assert source.verify(headers, b"{}") is False, f"{name}: {value[:40]!r} is taken"
        for body in BODIES:
            assert source.verify(source_case.sign(source_case.secret, body), body) is True
            assert source.verify({}, body) is False
