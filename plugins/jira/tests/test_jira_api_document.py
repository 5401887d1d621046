"""What the tracker sends, held against Atlassian's own description of the API."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from pointsman.plugin_api import Draft, Marker
from pointsman_jira import JiraTracker
from pointsman_jira.testing import JiraTransition

DOCUMENT = Path(__file__).parents[4] / "shared/data/openapi/jira-cloud-v3.json"


class Noting:
    """A client that notes what passes through it."""

    def __init__(self, inner):
        self.inner = inner
        self.noted = []

    async def request(self, method, path, **given):
        answer = await self.inner.request(method, path, **given)
        self.noted.append((method, path, given, answer))
        return answer


def operation(document, method, path):
    """The description of a call; a path with fewer placeholders comes first."""
    fitting = [
        name
        for name, methods in document["paths"].items()
        if method.lower() in methods and re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", name), path)
    ]
    return document["paths"][min(fitting, key=lambda name: name.count("{"))][method.lower()]


def problems(document, method, path, sent, answer):
    described = operation(document, method, path)
    known = {parameter["name"] for parameter in described.get("parameters", ())}
    yield from (f"{name} is no parameter" for name in sent.get("params") or {} if name not in known)
    if str(answer.status) not in described["responses"]:
        yield f"{answer.status} is no answer"
    if sent.get("json") is not None:
        schema = described["requestBody"]["content"]["application/json"]["schema"]
        validator = Draft7Validator({**schema, "components": document["components"]})
        yield from (error.message for error in validator.iter_errors(sent["json"]))


async def test_every_call_is_one_that_the_document_describes(jira, make_tracker):
    if not DOCUMENT.exists():
        pytest.skip("the API document of Jira Cloud is not here")
    document = json.loads(DOCUMENT.read_text())
    jira.fields = {"customfield_1": {}, "customfield_2": {}, "environment": {}}
    jira.assignable = {"dev"}
    screen = {"resolution": {"required": False, "allowedValues": [{"id": "1", "name": "Done"}]}}
    jira.transitions = [
        JiraTransition("5", "Done", "Done", screen),
        JiraTransition("6", "Back", "To Do", screen),
    ]
    tracker: JiraTracker = make_tracker(
        priority="High",
        assignee="dev",
        fields={
            "customfield_1": {"value": "{{ level }}"},
            "customfield_2": 3,
            "environment": "{{ environment }}",
        },
    )
    tracker.client = noting = Noting(tracker.client)
    marker, since = Marker("pm1-a-b"), dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1)
    draft = Draft(
        title="Title",
        body="# Head\n\n- a\n",
        marker=marker,
        labels=("x",),
        facts={"level": "error", "environment": "live"},
    )
    ref = await tracker.create_issue(draft)
    await tracker.add_comment(ref, "text", marker)
    await tracker.set_state(ref, "closed", "completed")
    await tracker.set_state(ref, "open", None)
    await tracker.update_issue(ref, draft)
    await tracker.read_issue(ref)
    await tracker.find_issue(marker, since)
    await tracker.find_comment(ref, marker, since)
    await tracker.list_changes(since)
    await tracker.check()
    assert len(noting.noted) > 20
    matching = {f"{call[0]} {call[1]}": list(problems(document, *call)) for call in noting.noted}
    assert {call: payload for call, payload in matching.items() if payload} == {}
