"""Further fields of an issue: templates over a ticket's facts, priority, assignee."""

from __future__ import annotations

import datetime as dt
import json
import re
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.plugin_api import Draft, Marker, Misconfigured, PluginSettings, Refused, Secret
from pointsman.testing.fake import Fault
from pointsman_jira import adf, templates
from pointsman_jira.settings import JiraSettings

quick = settings(max_examples=200, deadline=None)
MARKER = Marker("pm1-a-b")
FACTS = {
    "ticket": "0190c2a4",
    "kind": "alert",
    "source": "shop",
    "title": "Checkout fails",
    "level": "error",
    "environment": "production",
    "release": "",
    "url": "https://bugs.example/7",
}
GOOD = {
    "url": "https://acme.atlassian.net",
    "email": "bot@acme.test",
    "api_token": Secret("t"),
    "project_key": "OPS",
}


def draft(**facts):
    return Draft(title="Checkout fails", body="It broke.", marker=MARKER, facts={**FACTS, **facts})


def filled(template, **facts):
    return templates.fill("fields", {"cf": template}, {**FACTS, **facts}).get("cf")


# -- templates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "made"),
    [
        ("{{ level }}", "error"),
        ("{{ level | upper }}: {{ title }}", "ERROR: Checkout fails"),
        ('{{ release or "none" }}', "none"),
        ('{{ release | default("none", true) }}', "none"),
        ('{% if level in ["error", "fatal"] %}High{% else %}Low{% endif %}', "High"),
        ("{{ title | truncate(9, true, '...', 0) }}", "Checko..."),
        ("{{ release }}", None),
        (3, 3),
        (False, False),
        (None, None),
        (
            {"value": "{{ environment }}", "child": {"value": "x"}},
            {"value": "production", "child": {"value": "x"}},
        ),
        (["{{ source }}", {"name": "{{ kind }}"}, 1.5], ["shop", {"name": "alert"}, 1.5]),
        ({"value": "{{ release }}"}, {"value": ""}),
    ],
)
def test_any_json_may_refer_to_the_facts(template, made):
    assert filled(template) == made


def test_untrusted_text_is_never_a_template():
    evil = "{{ 7 * 7 }}{% for a in title %}x{% endfor %}{# #}"
    assert filled("{{ title }}", title=evil) == evil
    assert filled({"value": "<{{ title }}>"}, title="{{ title }}") == {"value": "<{{ title }}>"}


def test_facts_are_short_lines():
    assert filled("{{ title }}", title=" a\r\n\tb\x00 ") == "a b\ufffd"
    assert len(filled("{{ title }}", title="x" * 9000)) == templates.FACT_LIMIT


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ title", "line 1 of the template: unexpected end"),
        ("a\nb\n{% if %}", "line 3 of the template"),
        ("{{ titel }}", "no fact titel; facts: environment, kind"),
        ("{{ range }}", "no fact range"),
        ("{{ title | pprint }}", "No filter named 'pprint'"),
        ("{% include 'x' %}", "include another"),
        ("a\n{{ title.upper() }}", r"line 2 of the template: nothing can be called"),
        ("{% macro a() %}{{ a() }}{% endmacro %}", "nothing can be called"),
        ("x" * 4001, "4000 characters at most"),
        ("{{" + "(" * 3000 + "1" + ")" * 990 + "}}", "line 1|can't be read"),
        (dt.date(2026, 3, 1), "write a date as a text"),
        (float("nan"), "no number"),
        (object(), "must be a text"),
    ],
)
def test_what_cannot_be_is_refused_at_settings_time_by_the_fields_name(template, says):
    with pytest.raises(ValueError, match=f"^fields.cf: .*({says})"):
        JiraSettings(**GOOD, fields={"cf": template})


def test_the_place_inside_a_field_is_named():
    with pytest.raises(ValueError, match=r"^fields.cf\.value\[1\]: line 1"):
        JiraSettings(**GOOD, fields={"cf": {"value": ["ok", "{{"]}})
    deep: object = "x"
    for _ in range(12):
        deep = [deep]
    with pytest.raises(ValueError, match="more than 10 deep"):
        JiraSettings(**GOOD, fields={"cf": deep})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fields", {"summary": "x"}),
        ("fields", {"project": {"key": "X"}}),
        ("fields", {"labels": ["x"]}),
        ("fields", {"description": "x"}),
        ("fields", {"issuetype": {"name": "x"}}),
        ("close_fields", {"cf": "{{ title }}"}),
        ("reopen_fields", {"cf": "{{"}),
        ("close_reasons", {"completed": " "}),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=rf"^{field}\.{next(iter(value))}"):
        JiraSettings(**GOOD, **{field: value})


def test_a_field_that_is_set_twice_is_refused():
    for name in ("priority", "assignee"):
        with pytest.raises(ValueError, match=f"fields.{name}"):
            JiraSettings(**GOOD, **{name: "x", "fields": {name: {"name": "y"}}})


def test_settings_come_out_of_a_file_as_they_stand_there():
    assert issubclass(JiraSettings, PluginSettings)
    received = {
        **GOOD,
        "api_token": Secret("t"),
        "fields": {"cf": [{"value": "{{ level }}"}]},
        "close_reasons": {"duplicate": "Dup"},
    }
    created = msgspec.convert(received, JiraSettings)
    assert created.fields == received["fields"]
    assert created.reasons == {"completed": "Done", "not_planned": "Won't Do", "duplicate": "Dup"}
    with pytest.raises(msgspec.ValidationError, match="close_reasons"):
        msgspec.convert({**received, "close_reasons": {"solved": "Done"}}, JiraSettings)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ title.__class__ }}", "attribute '__class__'"),
        ("{{ title.upper }}", "upper"),
        ("{{ 'x' * 999999999 }}", r"operator \* is not available"),
        ("{{ 9 ** 99999999 }}", r"operator \*\* is not available"),
        ("{{ '%999999999d' % 1 }}", "operator % is not available"),
        ("a\nb\n{{ title + 1 }}", "fields.cf, line 3 of the template"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ ((title,) | first)['x'] + 'a' }}", "no attribute|undefined"),
        (
            "{% for a in title %}{% for b in title %}{{ title }}{% endfor %}{% endfor %}",
            "more than 10000 characters",
        ),
    ],
)
def test_a_template_that_fails_names_field_line_and_cause(template, says):
    JiraSettings(**GOOD, fields={"cf": template})
    with pytest.raises(Refused, match=says) as caught:
        filled(template, title="x" * 500)
    assert caught.value.fields.keys() == {"cf"}
    assert caught.value.message.startswith("fields.cf")


def test_a_fact_that_the_draft_lacks_is_an_error_and_no_empty_text():
    with pytest.raises(Refused, match="'level' is undefined"):
        templates.fill("fields", {"cf": "{{ level }}"}, {"title": "x"})


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(alphabet="{}%# titleab|+.'\n", max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@quick
@given(json_values, st.dictionaries(st.sampled_from(sorted(FACTS)), st.text(max_size=40)))
def test_any_setting_is_refused_or_makes_json(value, facts):
    try:
        templates.check("fields", {"cf": value})
        created = templates.fill("fields", {"cf": value}, facts)
    except (ValueError, Refused):
        return
    json.dumps(created, allow_nan=False)


# -- issues ----------------------------------------------------------------------------------------------------------


async def test_an_issue_has_the_fields_of_the_settings(jira, make_tracker):
    jira.fields = {"customfield_1": {"required": True}, "customfield_2": {}, "customfield_3": {}}
    jira.assignable = {"dev"}
    tracker = make_tracker(
        priority="High",
        assignee="dev",
        fields={
            "customfield_1": {"value": "{{ environment }}"},
            "customfield_2": "{{ release }}",
            "customfield_3": [{"name": "{{ source }}"}],
        },
    )
    ref = await tracker.create_issue(draft())
    assert jira.issues[ref.remote_id].more == {
        "priority": {"name": "High"},
        "assignee": {"id": "dev"},
        "customfield_1": {"value": "production"},
        "customfield_3": [{"name": "shop"}],
    }
    assert ref.notes == ()


async def test_facts_that_a_draft_leaves_out_are_empty_but_a_draft_without_any_is_refused(jira, make_tracker):
    jira.fields = {"customfield_1": {}}
    tracker = make_tracker(fields={"customfield_1": "{{ source }}/{{ level or 'none' }}"})
    few = Draft(title="Title", body="Text", marker=MARKER, facts={"source": "doctor"})
    ref = await tracker.create_issue(few)
    assert jira.issues[ref.remote_id].more == {"customfield_1": "doctor/none"}
    with pytest.raises(Refused, match="'source' is undefined"):
        await tracker.create_issue(Draft(title="Title", body="Text", marker=MARKER))
    assert jira.issues_created() == 1


async def test_a_template_that_fails_sends_nothing(jira, make_tracker):
    tracker = make_tracker(fields={"customfield_1": "{{ 1 / 0 }}"})
    with pytest.raises(Refused, match=r"fields.customfield_1, line 1 of the template: division by zero"):
        await tracker.create_issue(draft())
    assert jira.requests == []


async def test_an_assignee_whom_jira_refuses_is_left_out_and_said(jira, make_tracker):
    tracker = make_tracker(assignee="gone")
    ref = await tracker.create_issue(draft())
    assert jira.issues_created() == 1
    assert "assignee" not in jira.issues[ref.remote_id].more
    assert ref.notes == (
        "made without its assignee, whom Jira refused: User 'gone' cannot be assigned issues.",
    )
    assert len(jira.requests) == 2


async def test_a_missing_right_to_assign_is_no_reason_to_make_nothing(jira, make_tracker):
    texts = b'{"errorMessages": ["You do not have permission to assign issues."], "errors": {}}'
    jira.faults.append(Fault(match="POST", status=400, body=texts))
    [note] = (await make_tracker(assignee="dev").create_issue(draft())).notes
    assert "permission to assign" in note


async def test_an_assignee_is_left_out_once_only(jira, make_tracker):
    """A project that wants every issue assigned refuses the second try too."""
    texts = b'{"errorMessages": [], "errors": {"assignee": "Issues must be assigned."}}'
    jira.faults.append(Fault(match="POST", status=400, body=texts, times=9))
    with pytest.raises(Misconfigured, match="must be assigned"):
        await make_tracker(assignee="dev").create_issue(draft())
    assert len(jira.requests) == 2
    jira.requests.clear()
    with pytest.raises(Misconfigured, match="must be assigned"):
        await make_tracker().create_issue(draft())
    assert len(jira.requests) == 1


async def test_a_text_of_several_lines_becomes_a_document_where_jira_wants_one(jira, make_tracker):
    jira.fields = {"environment": {}, "customfield_5": {}, "customfield_6": {}}
    jira.text_areas |= {"customfield_5"}
    jira.refuse_rich = True
    tracker = make_tracker(
        assignee="gone",
        fields={
            "environment": "{{ environment }}",
            "customfield_5": "Level: {{ level }}",
            "customfield_6": "{{ level }}",
        },
    )
    ref = await tracker.create_issue(draft())
    created = jira.issues[ref.remote_id]
    assert created.more == {
        "environment": adf.plain_document("production"),
        "customfield_5": adf.plain_document("Level: error"),
        "customfield_6": "error",
    }
    assert len(ref.notes) == 1
    assert len(jira.requests) == 2  # all of it was mended at once


async def test_what_is_known_to_want_a_document_is_one_at_once(jira, make_tracker):
    jira.fields = {"environment": {}}
    await make_tracker(fields={"environment": "live"}).create_issue(draft())
    assert len(jira.requests) == 1


async def test_plain_text_is_tried_once_only(jira, tracker):
    texts = b'{"errorMessages": [], "errors": {"description": "INVALID_INPUT"}}'
    jira.faults.append(Fault(match="POST", status=400, body=texts, times=9))
    with pytest.raises(Refused, match="INVALID_INPUT"):
        await tracker.create_issue(draft())
    assert len(jira.requests) == 2


async def test_what_cannot_be_mended_is_not_repeated(jira, make_tracker):
    jira.fields = {"customfield_1": {"required": True}}
    tracker = make_tracker(assignee="gone", priority="Nope")
    with pytest.raises(Misconfigured) as caught:
        await tracker.create_issue(draft())
    assert all(name in caught.value.message for name in ("customfield_1", "priority", "assignee"))
    assert len(jira.requests) == 1


# -- the README ------------------------------------------------------------------------------------------------------

README = Path(__file__).parents[1] / "README.md"


def examples():
    blocks = re.findall(r"^```toml\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [tomllib.loads(block)["destination"]["settings"] for block in blocks]


async def test_the_readmes_example_makes_an_issue(jira, make_tracker):
    more, closing = examples()
    jira.fields = {name: {} for name in more["fields"]}
    jira.assignable = {more["assignee"]}
    ref = await make_tracker(**more).create_issue(draft(environment="live"))
    created = jira.issues[ref.remote_id].more
    assert created["customfield_10020"] == "shop: https://bugs.example/7"
    assert created["customfield_10021"] == {"value": "Production"}
    assert created["customfield_10022"] == "unknown"
    assert ref.notes == ()
    assert make_tracker(**closing).settings.reasons["duplicate"] == "Duplikat"


def test_the_readme_names_every_setting():
    named = set(re.findall(r"^\| `(\w+)` \|", README.read_text("utf-8"), re.MULTILINE))
    assert named == set(JiraSettings.__struct_fields__)
