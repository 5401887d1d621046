"""Fingerprints by template: the same report the same fingerprint, and no report lost to a template."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.content.fingerprint_template import (
    MAX_LENGTH,
    VARIABLES,
    FingerprintResult,
    check,
    compute_fingerprint,
    render,
)
from pointsman.domain.routing import Match, Options, Route
from pointsman.plugin_api import Report

REPORT = Report(
    action="opened",
    fingerprint="abc-1",
    title="KeyError:  'basket'",
    text="It broke",
    level="error",
    environment="production",
    release="1.2",
    problem_id="p-7",
    facts=(("service", "pay"), ("Where it was", "/basket"), ("service", "ship")),
)


def say(template, report=REPORT):
    return render(template, "shop", "alert", report)


def rule(position, template=None, name=""):
    return Route(position, Match(), (), options=Options(name=name, fingerprint=template))


def test_a_template_sees_the_report():
    names = [variable for variable in VARIABLES if variable != "tags"]
    assert say("|".join(f"{{{{ {name} }}}}" for name in names)) == (
        "route:shop|alert|KeyError: 'basket'|It broke|error|production|1.2|p-7|abc-1"
    )


def test_tags_are_found_by_name_and_several_stand_side_by_side():
    assert say("{{ source }}/{{ tags.service }}") == "route:shop/pay, ship"
    assert say("{{ tags['Where it was'] }}") == "route:/basket"
    assert say("{{ tags.no_such }}-{{ tags.no.such.thing }}{{ title }}") == "route:-KeyError: 'basket'"
    assert say("{{ tags.no_such or 'none' }}") == "route:none"


def test_templates_may_decide():
    assert (
        say("{% if level == 'error' %}{{ title | lower }}{% else %}rest{% endif %}")
        == "route:keyerror: 'basket'"
    )
    assert say("{{ title | replace(\"'basket'\", '') | trim }}") == "route:KeyError:"


def test_a_long_one_keeps_its_beginning_and_what_tells_it_apart():
    long = [
        say("{{ title }}", Report(action="opened", fingerprint="", title="x" * 5000 + end)) for end in "ab"
    ]
    assert long[0] != long[1]
    assert all(
        fingerprint.startswith("route:" + "x" * MAX_LENGTH) and len(fingerprint) < 500 for fingerprint in long
    )
    assert long[0] == say("{{ title }}", Report(action="opened", fingerprint="", title="x" * 5000 + "a"))


def test_white_space_tells_nothing_apart():
    assert say("{{ title }}", Report(action="opened", fingerprint="", title=" a\n\tb ")) == "route:a b"


@pytest.mark.parametrize(
    ("template", "line", "cause"),
    [
        ("{{ title", 1, "end of print statement"),
        ("{{ title }}\n{% if %}", 2, "Expected an expression"),
        ("{{ souce }}", 1, "there is no 'souce'; there are source, kind, title"),
        ("a\n{% for x in title %}{% endfor %}", 2, "For is not for fingerprints"),
        ("{% include 'x' %}", 1, "Include is not"),
        ("{% macro a() %}{% endmacro %}", 1, "Macro is not"),
        ("{{ title * 1000 }}", 1, "Mul is not"),
        ("{{ [1, 2] | random }}", 1, "No filter named 'random'"),
        ("{{ range(9) }}", 1, "there is no 'range'"),
        ("{{ lipsum() }}", 1, "there is no 'lipsum'"),
        ("{% set x %}{% endset %}{{ title | nofilter }}", 1, "No filter named 'nofilter'"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", 1, "nested too deeply"),
    ],
)
def test_a_template_that_can_not_be_used_is_refused_with_line_and_cause(template, line, cause):
    with pytest.raises(ValueError) as caught:
        check(template)
    assert str(caught.value).startswith(f"line {line}: ")
    assert cause in str(caught.value)


@pytest.mark.parametrize(
    ("template", "cause"),
    [
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{{ title.upper }}", "function"),
        ("{{ tags }}", "tags.service"),
        ("{{ title | list }}", "list"),
        ("{{ tags._facts }}", "empty"),
        ("{{ title.__class__.__mro__ }}", "empty"),
        ("{{ tags.no_such }}", "empty"),
        ("{{ tags.no_such }} / -", "empty"),
        ("", "empty"),
    ],
)
def test_a_template_that_fails_leaves_the_fingerprint_of_the_kind_and_says_why(template, cause):
    result = compute_fingerprint([rule(3, template, "mine")], "shop", "alert", REPORT)
    assert (result.fingerprint, result.position, result.name) == ("abc-1", 3, "mine")
    assert cause in result.problem


def test_the_first_rule_with_a_template_gives_it():
    some = [rule(1), rule(2, "{{ level }}", "by level"), rule(3, "{{ title }}")]
    assert compute_fingerprint(some, "shop", "alert", REPORT) == FingerprintResult(
        "route:error", 2, "by level"
    )
    assert compute_fingerprint([rule(1)], "shop", "alert", REPORT) == FingerprintResult("abc-1")
    assert compute_fingerprint([], "shop", "alert", REPORT) == FingerprintResult("abc-1")


texts = st.text(max_size=20) | st.just("\ud800\x00") | st.text(min_size=500, max_size=600)
snippets = st.lists(
    st.sampled_from(
        [
            "{{",
            "}}",
            "{%",
            "%}",
            " title ",
            "tags.",
            "tags",
            "[",
            "]",
            "|",
            "lower",
            "if ",
            "endif",
            "a",
            "'",
            "~",
            "/",
            "1",
            "__class__",
            "(",
            ")",
            "\n",
        ]
    ),
    max_size=12,
).map("".join)
TEMPLATES = [
    "{{ title }}",
    "{{ tags.a }}{{ tags['é'] }}",
    "{{ text[:3] }}/{{ fingerprint }}",
    "{{ 1 // (title | length) }}",
]


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(TEMPLATES) | snippets | st.text(max_size=20),
    texts,
    texts,
    st.lists(st.tuples(st.sampled_from(["a", "é"]) | texts, texts), max_size=3).map(tuple),
)
def test_no_template_and_no_text_raises(template, title, own, facts):
    report = Report(action="opened", fingerprint=own, title=title, text=own, facts=facts)
    result = compute_fingerprint([rule(1, template)], "shop", "alert", report)
    assert result == compute_fingerprint([rule(1, template)], "shop", "alert", report)
    if result.problem:
        assert result.fingerprint == own
    else:
        assert result.fingerprint.startswith("route:") and len(result.fingerprint) <= MAX_LENGTH + 71
        result.fingerprint.encode()
        assert "\x00" not in result.fingerprint
