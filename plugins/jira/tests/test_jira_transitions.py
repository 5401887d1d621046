"""Which way an issue goes when it is closed or reopened, and what is sent with it."""

from __future__ import annotations

import datetime as dt

import pytest

from pointsman.plugin_api import Blocked, Conflict, Draft, Marker, Refused
from pointsman.testing.fake import Fault
from pointsman_jira import transitions
from pointsman_jira.testing import JiraTransition
from pointsman_jira.transitions import TransitionSettings


def way(number, name, category, to=None, **fields):
    target = {"name": to or name, "statusCategory": {"key": category}}
    return {"id": str(number), "name": name, "to": target, "fields": fields}


NEEDED = {"required": True, "hasDefaultValue": False}
RESOLUTION = {**NEEDED, "allowedValues": [{"id": "1", "name": "Done"}, {"id": "2", "name": "Won't Do"}]}
WORKFLOW = [
    way(1, "Start", "indeterminate"),
    way(2, "Done", "done"),
    way(3, "Won't do", "done"),
    way(4, "Back", "new"),
]


def chosen(ways, state, reason=None, preferred="", **wish):
    matching, fields = transitions.choose(
        transitions.read({"transitions": ways}),
        state,
        reason,
        TransitionSettings(preferred=preferred, **wish),
    )
    return matching.id, fields


@pytest.mark.parametrize(
    ("ways", "state", "reason", "preferred", "expected"),
    [
        (WORKFLOW, "closed", None, "", "2"),
        (WORKFLOW, "closed", "completed", "", "2"),
        (WORKFLOW[::-1], "closed", "completed", "", "2"),
        (WORKFLOW, "closed", "not_planned", "", "3"),
        (WORKFLOW, "closed", "duplicate", "", "3"),
        ([*WORKFLOW, way(5, "Duplicate", "done")], "closed", "duplicate", "", "5"),
        ([way(3, "Won't do", "done")], "closed", "completed", "", "3"),
        (WORKFLOW, "closed", "completed", "won't DO", "3"),
        (WORKFLOW, "open", None, "", "4"),
        (WORKFLOW[:3], "open", None, "", "1"),
        (WORKFLOW, "open", None, "start", "1"),
        ([way(6, "Resolve", "done", cf=NEEDED), way(7, "Finish", "done")], "closed", None, "", "7"),
        ([way(6, "Resolve", "done", cf={**NEEDED, "hasDefaultValue": True})], "closed", None, "", "6"),
        (
            [{**way(6, "Gone", "done"), "isAvailable": False}, way(7, "Finish", "done")],
            "closed",
            None,
            "",
            "7",
        ),
    ],
)
def test_the_fitting_transition_is_chosen(ways, state, reason, preferred, expected):
    assert chosen(ways, state, reason, preferred) == (expected, {})


def test_a_required_resolution_is_filled_in():
    ways = [way(8, "Resolve", "done", resolution=RESOLUTION)]
    assert chosen(ways, "closed", "completed") == ("8", {"resolution": {"id": "1"}})
    assert chosen(ways, "closed", "not_planned") == ("8", {"resolution": {"id": "2"}})


@pytest.mark.parametrize(
    ("ways", "says"),
    [
        ([], "Transition issues"),
        ([way(1, "Start", "indeterminate", "Doing")], r"there are: Start \(to Doing\)"),
        (
            [way(6, "Resolve", "done", cf=NEEDED)],
            "demands fields that have no default: cf. Name them in close_fields",
        ),
    ],
)
def test_no_way_says_what_there_is(ways, says):
    with pytest.raises(Blocked, match=says):
        chosen(ways, "closed")


GERMAN = {"completed": "Erledigt", "not_planned": "Verworfen", "duplicate": "Dublette"}


def test_reasons_lead_to_the_transitions_and_resolutions_that_the_settings_name():
    ways = [way(1, "Fertig", "done", "Erledigt"), way(2, "Verwerfen", "done", "Verworfen")]
    assert chosen(ways, "closed", "not_planned", reasons=GERMAN) == ("2", {})
    assert chosen(ways, "closed", "completed", reasons=GERMAN) == ("1", {})
    assert chosen(ways[::-1], "closed", None, reasons=GERMAN) == ("1", {})
    assert chosen(ways, "closed", "not_planned", "Erledigt", reasons=GERMAN) == ("1", {})
    allowed = [{"id": "7", "name": "Erledigt"}, {"id": "8", "name": "Dublette"}]
    screen = way(3, "Fertig", "done", resolution={"required": False, "allowedValues": allowed})
    assert chosen([screen], "closed", "duplicate", reasons=GERMAN) == ("3", {"resolution": {"id": "8"}})
    assert chosen([screen], "closed", "not_planned", reasons=GERMAN) == ("3", {})
    assert chosen([screen], "closed", None, reasons=GERMAN) == ("3", {})


def test_only_fields_of_the_screen_are_sent():
    """Jira refuses a field that is not on the transition's screen."""
    screen = way(3, "Done", "done", customfield_7=NEEDED)
    received = {"customfield_7": {"value": "Code"}, "customfield_8": "x"}
    assert chosen([screen], "closed", fields=received) == ("3", {"customfield_7": {"value": "Code"}})
    assert chosen([way(4, "Done", "done")], "closed", fields=received) == ("4", {})
    own = {"resolution": {"name": "Fixed"}}
    assert chosen([way(8, "Done", "done", resolution=RESOLUTION)], "closed", fields=own) == ("8", own)


@pytest.mark.parametrize(
    ("field", "sent"),
    [
        ({**NEEDED, "allowedValues": [{"id": "4", "name": "Only"}]}, {"cf": {"id": "4"}}),
        (
            {
                "required": True,
                "hasDefaultValue": True,
                "defaultValue": {"id": "5"},
                "allowedValues": [{"id": "4"}, {"id": "5"}],
            },
            {"cf": {"id": "5"}},
        ),
        ({"required": True, "hasDefaultValue": True, "allowedValues": [{"id": "4"}, {"id": "5"}]}, {}),
        ({"required": False, "allowedValues": [{"id": "4"}]}, {}),
    ],
)
def test_a_demanded_field_takes_its_default_or_the_only_value(field, sent):
    assert chosen([way(3, "Done", "done", cf=field)], "closed") == ("3", sent)


def test_nothing_is_guessed_among_several_values():
    field = {
        **NEEDED,
        "name": "Root cause",
        "allowedValues": [{"id": "4", "value": "Code"}, {"id": "5", "value": "Disk"}],
    }
    with pytest.raises(Blocked, match=r"cf \(Root cause\), one of Code, Disk. Name them in close_fields"):
        chosen([way(3, "Done", "done", cf=field)], "closed")


def test_reopening_clears_the_resolution_where_the_screen_has_it():
    optional = {"required": False, "allowedValues": RESOLUTION["allowedValues"]}
    assert chosen([way(4, "Back", "new", resolution=optional)], "open") == ("4", {"resolution": None})
    assert chosen([way(4, "Back", "new")], "open") == ("4", {})
    own = {"resolution": {"name": "Unresolved"}}
    assert chosen([way(4, "Back", "new", resolution=optional)], "open", fields=own) == ("4", own)


# -- against the double ----------------------------------------------------------------------------------------------


@pytest.fixture
async def ref(tracker):
    return await tracker.create_issue(Draft(title="Title", body="Text", marker=Marker("pm1-a-b")))


async def test_fields_of_the_settings_fill_the_screen(jira, make_tracker, ref):
    screen = {"customfield_7": {**NEEDED, "name": "Root cause"}}
    jira.transitions = [
        JiraTransition("5", "Resolve", "Done", screen),
        JiraTransition("6", "Back", "To Do", screen),
    ]
    tracker = make_tracker(
        close_fields={"customfield_7": {"value": "Code"}, "customfield_8": 1},
        reopen_fields={"customfield_7": {"value": "None"}},
    )
    await tracker.set_state(ref, "closed", "completed")
    assert jira.issues[ref.remote_id].more == {"customfield_7": {"value": "Code"}}
    await tracker.set_state(ref, "open", None)
    assert jira.issues[ref.remote_id].more == {"customfield_7": {"value": "None"}}
    with pytest.raises(Blocked, match="close_fields"):
        await make_tracker().set_state(ref, "closed", None)


async def test_a_closed_issue_says_why_in_the_words_of_the_settings(jira, make_tracker, ref):
    allowed = [{"id": "1", "name": "Erledigt"}, {"id": "2", "name": "Dublette"}]
    screen = {"resolution": {"required": False, "allowedValues": allowed}}
    jira.transitions = [
        JiraTransition("5", "Fertig", "Done", screen),
        JiraTransition("6", "Zurück", "To Do", screen),
    ]
    tracker = make_tracker(close_reasons={"duplicate": "Dublette"})
    seen = await tracker.set_state(ref, "closed", "duplicate")
    assert (seen.state, seen.close_reason) == ("closed", "duplicate")
    assert jira.issues[ref.remote_id].resolution == "Dublette"
    [listed] = await tracker.list_changes(dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1))
    assert listed.close_reason == "duplicate"


async def test_a_workflow_that_wants_to_clear_the_resolution_itself_may(jira, tracker, ref):
    screen = {"resolution": {"required": False, "allowedValues": []}}
    jira.transitions = [JiraTransition("5", "Done", "Done"), JiraTransition("6", "Back", "To Do", screen)]
    await tracker.set_state(ref, "closed", None)
    refusal = b'{"errorMessages": [], "errors": {"resolution": "can not be set to null"}}'
    jira.faults.append(Fault(match="POST /rest/api/3/issue/", status=400, body=refusal))
    assert (await tracker.set_state(ref, "open", None)).state == "open"


async def test_a_refused_transition_is_a_conflict_if_the_issue_moved_on_meanwhile(jira, tracker, ref):
    """Transition ids count for one status only. Jira says 400 then, in the account's language."""
    refusal = b'{"errorMessages": ["Ce n\'est pas possible"], "errors": {}}'
    jira.faults.append(
        Fault(match=f"POST /rest/api/3/issue/{ref.remote_id}/transitions", status=400, body=refusal)
    )
    with pytest.raises(Refused, match="pas possible"):
        await tracker.set_state(ref, "closed", None)

    class Meanwhile:
        """A colleague moves the issue just before our transition arrives."""

        def __init__(self, inner):
            self.inner = inner

        async def request(self, method, path, **given):
            if method == "POST":
                jira.issues[ref.remote_id].status = "In Progress"
                jira.faults.append(Fault(match="POST", status=400, body=refusal))
            return await self.inner.request(method, path, **given)

    tracker.client = Meanwhile(tracker.client)
    with pytest.raises(Conflict, match="somebody else moved the issue"):
        await tracker.set_state(ref, "closed", None)
