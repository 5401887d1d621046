"""Requests: what the server describes of itself, and samples of our own where its description is not at hand."""

from __future__ import annotations

import jsonschema
import pytest

from pointsman.plugin_api import Secret
from pointsman_forgejo import webhook_registration, wire
from pointsman_forgejo.labels import label_body

URL = "https://pointsman.example/webhooks/forgejo/shop"
HOOK = webhook_registration.Webhook(3, URL, "gitea", False, "form", frozenset(), "main", "Bearer x")
SECRET = Secret("hush")


def swagger_schema(document, name):
    """A definition of a Swagger 2.0 document as JSON Schema; a misspelt field is an error, ``x-`` words say nothing."""
    schema = {**document["definitions"][name], "definitions": document["definitions"]}
    if "properties" in schema:
        schema["additionalProperties"] = False
    return schema


def fits(document, name):
    """What says whether a body fits a definition. The document itself is not examined each time: that takes half a second."""
    return jsonschema.Draft202012Validator(swagger_schema(document, name))


def bodies(draft, marker):
    """Every body that leaves here, by the definition it has to fit."""
    return [
        ("CreateIssueOption", wire.issue_body(draft, [1, 2], ["dev"])),
        ("CreateIssueOption", wire.issue_body(draft, [], [])),
        ("EditIssueOption", wire.edit_body(draft)),
        ("EditIssueOption", wire.state_body("closed")),
        ("EditIssueOption", wire.state_body("open")),
        ("EditIssueOption", {}),
        ("CreateIssueCommentOption", wire.comment_body("x", marker)),
        ("CreateLabelOption", label_body("bug")),
        ("CreateHookOption", webhook_registration.create_body(URL, SECRET)),
        ("EditHookOption", webhook_registration.repair_body(HOOK, URL, SECRET)),
    ]


@pytest.mark.parametrize("number", range(10))
def test_requests_are_what_the_server_describes(api_document, helpers, number):
    definition, body = bodies(helpers.draft(), helpers.marker())[number]
    fits(api_document, definition).validate(body)


@pytest.mark.parametrize(
    ("definition", "body"),
    [
        ("CreateIssueOption", {"body": "no title"}),
        ("CreateIssueOption", {"title": "x", "labels": ["by name"]}),
        ("CreateIssueOption", {"title": "x", "assignees": "dev"}),
        ("CreateIssueOption", {"title": "x", "asignees": ["dev"]}),
        ("EditIssueOption", {"labels": [1]}),
        ("CreateHookOption", {"type": "gitea"}),
        ("CreateHookOption", {"type": "web", "config": {}}),
        ("EditHookOption", {"config": {"active": True}}),
        ("CreateLabelOption", {"name": "bug"}),
    ],
)
def test_the_description_tells_wrong_requests(api_document, definition, body):
    with pytest.raises(jsonschema.ValidationError):
        fits(api_document, definition).validate(body)


def test_every_path_that_is_asked_for_is_described(api_document):
    described = {
        "/version": "get",
        "/user": "get",
        "/orgs/{org}/labels": "get",
        "/repos/{owner}/{repo}": "get",
        "/repos/{owner}/{repo}/assignees": "get",
        "/repos/{owner}/{repo}/hooks": "get post",
        "/repos/{owner}/{repo}/hooks/{id}": "patch",
        "/repos/{owner}/{repo}/labels": "get post",
        "/repos/{owner}/{repo}/issues": "get post",
        "/repos/{owner}/{repo}/issues/{index}": "get patch",
        "/repos/{owner}/{repo}/issues/{index}/comments": "get post",
    }
    for path, methods in described.items():
        assert set(methods.split()) <= api_document["paths"][path].keys()


def test_samples_of_our_own(helpers):
    draft = helpers.draft(title="T", body="B")
    tail = f"<!-- pointsman: {draft.marker.text} -->"
    assert wire.issue_body(draft, [1], ["dev"]) == {
        "title": "T",
        "body": f"B\n\n{tail}",
        "labels": [1],
        "assignees": ["dev"],
    }
    assert wire.issue_body(draft, [], []) == wire.edit_body(draft) == {"title": "T", "body": f"B\n\n{tail}"}
    assert wire.comment_body("C", draft.marker) == {"body": f"C\n\n{tail}"}
    assert wire.state_body("closed") == {"state": "closed"}
    assert wire.state_body("open") == {"state": "open"}
    assert label_body("bug") == {"name": "bug", "color": "#6b7280"}
    config = {"url": URL, "content_type": "json", "secret": "hush"}
    assert webhook_registration.create_body(URL, SECRET) == {
        "type": "gitea",
        "active": True,
        "branch_filter": "*",
        "events": ["issues_only", "issue_comment"],
        "config": config,
    }
    assert webhook_registration.repair_body(HOOK, URL, SECRET) == {
        "active": True,
        "branch_filter": "main",
        "authorization_header": "Bearer x",
        "events": ["issues_only", "issue_comment"],
        "config": config,
    }
