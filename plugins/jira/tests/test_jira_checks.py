"""What the check of a destination finds, and what it tells people to do."""

from __future__ import annotations

import pytest

from pointsman.plugin_api import Draft, Marker
from pointsman.testing.fake import Fault
from pointsman_jira import screens
from pointsman_jira.testing import JiraTransition

NEEDED = {"required": True, "hasDefaultValue": False}
DRAFT = Draft(title="Title", body="Text", marker=Marker("pm1-a-b"))


async def levels(tracker):
    return [(finding.level, finding.message) for finding in await tracker.check()]


async def test_all_is_well(jira, tracker):
    matching = await tracker.check()
    assert {finding.level for finding in matching} == {"ok"}
    assert any("Account-Bot" in finding.message for finding in matching)
    assert jira.effects == []


async def test_the_check_names_what_is_missing(jira, make_tracker):
    jira.lacking = {"TRANSITION_ISSUES"}
    jira.required_fields = {"customfield_1"}
    jira.off_screen = {"labels"}
    jira.page_max = 2
    errors = [subject for level, subject in await levels(make_tracker()) if level == "error"]
    assert errors == [
        "the account lacks TRANSITION_ISSUES",
        "the field labels can't be set",
        "the field customfield_1 is required and has no default",
    ]
    [error] = [
        matching for matching in await make_tracker(issue_type="Nope").check() if "Nope" in matching.message
    ]
    assert error.remedy == "set issue_type to one of: Task, Bug"


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"project_key": "NOPE"}, "NOPE could not be read"), ({"email": "x@y.test"}, "token")],
)
async def test_the_check_stops_at_what_is_broken(make_tracker, changes, says):
    *_, last = await levels(make_tracker(**changes))
    assert last[0] == "error"
    assert says in last[1]


async def test_the_check_says_when_the_site_is_down(jira, tracker):
    async with jira.down():
        [(level, _)] = await levels(tracker)
        assert level == "error"


async def findings_of_level(tracker, level):
    return [finding for finding in await tracker.check() if finding.level == level]


async def test_the_check_asks_and_never_writes(jira, tracker):
    ref = await tracker.create_issue(DRAFT)
    await tracker.set_state(ref, "closed", None)
    before = len(jira.effects)
    asked = len(jira.requests)
    await tracker.check()
    assert len(jira.effects) == before
    kinds = {(method, path.partition("?")[0]) for method, path in jira.requests[asked:] if method != "GET"}
    assert kinds == {("POST", "/rest/api/3/search/jql")}


async def test_a_finding_that_is_not_well_says_what_breaks_and_how_to_mend_it(jira, make_tracker):
    jira.lacking = {"EDIT_ISSUES", "ASSIGN_ISSUES"}
    jira.fields = {"customfield_1": {"name": "Team", **NEEDED}}
    jira.off_screen = {"labels", "assignee"}
    tracker = make_tracker(assignee="dev", priority="Urgent", fields={"customfield_9": "x"})
    bad = [finding for finding in await tracker.check() if finding.level != "ok"]
    assert len(bad) == 7
    assert all(finding.message and finding.impact and finding.remedy for finding in bad)


async def test_the_end_of_the_token_is_called_to_mind(tracker):
    [hint] = [finding for finding in await tracker.check() if "a year" in finding.message]
    assert (hint.level, "id.atlassian.com" in hint.remedy) == ("ok", True)


async def test_each_permission_is_named_with_what_breaks(jira, tracker, make_tracker):
    jira.lacking = {"BROWSE_PROJECTS", "CREATE_ISSUES", "ADD_COMMENTS", "TRANSITION_ISSUES", "EDIT_ISSUES"}
    lacking = {
        finding.message.split()[-1]: finding.impact for finding in await findings_of_level(tracker, "error")
    }
    assert lacking.keys() == jira.lacking
    assert lacking["ADD_COMMENTS"] == "comments can't be made"
    jira.lacking = {"ASSIGN_ISSUES"}
    assert await findings_of_level(tracker, "warning") == []  # nobody is to be assigned
    [warning] = await findings_of_level(make_tracker(assignee="dev"), "warning")
    assert warning.message == "the account lacks ASSIGN_ISSUES"
    jira.faults.append(Fault(match="mypermissions", status=200, body=b'{"permissions": {}}'))
    assert len(await findings_of_level(tracker, "warning")) == 5


async def test_required_fields_are_named_until_the_settings_cover_them(jira, make_tracker):
    jira.page_max = 3
    jira.fields = {
        "customfield_1": {"name": "Team", **NEEDED, "allowedValues": [{"value": "Shop"}, {"value": "Mail"}]},
        "customfield_2": {"name": "Points", **NEEDED, "schema": {"type": "number"}},
        "customfield_3": {"name": "Region", "required": True, "hasDefaultValue": True},
        "customfield_4": {"name": "Note", "required": False},
        "reporter": {"name": "Reporter", **NEEDED},
    }
    errors = await findings_of_level(make_tracker(), "error")
    assert [error.message for error in errors] == [
        "the field customfield_1 (Team), one of Shop, Mail is required and has no default",
        "the field customfield_2 (Points) is required and has no default",
    ]
    assert 'fields.customfield_1 = { value = "Shop" }.' in errors[0].remedy
    assert "fields.customfield_2 = 1." in errors[1].remedy
    covered = make_tracker(fields={"customfield_1": {"value": "Shop"}, "customfield_2": 3})
    assert await findings_of_level(covered, "error") == []
    assert (await covered.create_issue(DRAFT)).key == "OPS-1"


async def test_settings_that_the_screen_does_not_take_are_named(jira, make_tracker):
    jira.fields = {"customfield_1": {"name": "Team"}}
    tracker = make_tracker(priority="Urgent", fields={"Team": "x", "customfield_7": "x"})
    errors = {error.message: error.remedy for error in await findings_of_level(tracker, "error")}
    assert errors == {
        "fields.Team is a field's name, and Jira knows fields by their ids": "write fields.customfield_1",
        "the field customfield_7 can't be set": "put the field customfield_7 on the project's create screen",
        "there is no priority Urgent": "set priority to one of: High, Medium, Low",
    }
    assert await findings_of_level(make_tracker(priority="high"), "error") == []


@pytest.mark.parametrize(
    ("field", "example"),
    [
        ({"schema": {"type": "string"}}, '"..."'),
        ({"schema": {"type": "date"}}, '"2026-03-01"'),
        ({"schema": {"type": "user"}}, '{ id = "the account id" }'),
        ({"schema": {"type": "array", "items": "string"}}, '["..."]'),
        (
            {"schema": {"type": "array", "items": "component"}, "allowedValues": [{"name": "API"}]},
            '[{ name = "API" }]',
        ),
        ({"schema": {"type": "priority"}, "allowedValues": [{"name": "High"}]}, '{ name = "High" }'),
        ({}, '"..."'),
    ],
)
def test_how_a_missing_field_is_written(make_tracker, field, example):
    shown = [{"fieldId": name} for name in ("labels", "description")]
    [finding] = screens.check(make_tracker().settings, [*shown, {"fieldId": "cf", **NEEDED, **field}])
    assert f"fields.cf = {example}." in finding.remedy


async def test_ways_to_close_and_reopen_are_tried_on_the_newest_issues(jira, tracker):
    unknown = [finding.message for finding in await tracker.check() if "unknown" in finding.message]
    assert len(unknown) == 2
    assert "no open Bug" in unknown[0]
    ref = await tracker.create_issue(DRAFT)
    await tracker.set_state(await tracker.create_issue(DRAFT), "closed", None)
    whats = [finding.message for finding in await tracker.check()]
    assert f"{ref.key} could be closed by Done (to Done)" in whats
    assert "OPS-2 could be reopened by To Do (to To Do)" in whats


async def test_a_workflow_without_a_way_is_an_error(jira, tracker):
    await tracker.create_issue(DRAFT)
    await tracker.set_state(await tracker.create_issue(DRAFT), "closed", None)
    screen = {"customfield_7": {**NEEDED, "name": "Root cause"}}
    jira.transitions = [JiraTransition("5", "Resolve", "Done", screen)]
    closing, reopening = await findings_of_level(tracker, "error")
    assert "OPS-1 can't be closed: every transition" in closing.message
    assert "customfield_7 (Root cause)" in closing.message
    assert "close_fields" in closing.remedy
    assert "no transition leads to an open status" in reopening.message
    jira.transitions = []
    assert all("Transition issues" in error.message for error in await findings_of_level(tracker, "error"))


async def test_a_question_without_an_answer_does_not_stop_the_others(jira, tracker):
    jira.lacking = {"ADD_COMMENTS"}
    jira.faults.append(Fault(match="createmeta", status=500))
    errors = [error.message for error in await findings_of_level(tracker, "error")]
    assert errors[0] == "the account lacks ADD_COMMENTS"
    assert errors[1].startswith("the issue types could not be read")
    jira.faults.append(
        Fault(match="search/jql", status=400, body=b'{"errorMessages": ["Bad JQL"], "errors": {}}')
    )
    [_, error] = await findings_of_level(tracker, "error")
    assert "Bad JQL" in error.message
