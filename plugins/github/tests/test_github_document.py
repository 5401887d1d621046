"""Requests are what GitHub's own description of its API allows, and calls are ones that it knows."""

from __future__ import annotations

import re

import jsonschema
import pytest

from pointsman.plugin_api import Secret
from pointsman_github import webhook_registration, wire

HOOK = {"config": {"url": "https://pointsman.example/x", "insecure_ssl": "1"}, "events": ["push"]}

REQUESTS = [
    ("/issues", "post", lambda draft: wire.issue_body(draft, ["bug"], ["dev"])),
    ("/issues", "post", lambda draft: wire.issue_body(draft, [], [])),
    ("/issues/{issue_number}", "patch", wire.edit_body),
    ("/issues/{issue_number}", "patch", lambda _: wire.state_body("closed", "completed")),
    ("/issues/{issue_number}", "patch", lambda _: wire.state_body("closed", "duplicate")),
    ("/issues/{issue_number}", "patch", lambda _: wire.state_body("closed", "not_planned")),
    ("/issues/{issue_number}", "patch", lambda _: wire.state_body("open", None)),
    ("/issues/{issue_number}/comments", "post", lambda draft: wire.comment_body("x", draft.marker)),
    ("/hooks", "post", lambda _: webhook_registration.new_body("https://pointsman.example/x", Secret("s"))),
    (
        "/hooks/{hook_id}",
        "patch",
        lambda _: webhook_registration.repair_body(HOOK, "https://pointsman.example/x", Secret("s")),
    ),
]


def closed(schema, document):
    """The schema, refusing what it does not know."""
    return {
        **schema,
        "components": document.get("components", {}),
        "additionalProperties": False,
    }


def request_schema(document, path, method):
    operation = document["paths"]["/repos/{owner}/{repo}" + path][method]
    return closed(operation["requestBody"]["content"]["application/json"]["schema"], document)


@pytest.mark.parametrize(("path", "method", "body"), REQUESTS)
def test_requests_are_what_github_describes(api_document, helpers, path, method, body):
    created = body(helpers.draft())
    jsonschema.validate(created, request_schema(api_document, path, method))
    assert "assignee" not in created


def test_the_configuration_of_a_webhook_holds_what_github_describes(api_document):
    schema = closed(api_document["components"]["schemas"]["webhook-config"], api_document)
    jsonschema.validate(
        webhook_registration.new_body("https://pointsman.example/x", Secret("s"))["config"], schema
    )


def test_the_schema_would_refuse_what_is_wrong(api_document):
    schema = request_schema(api_document, "/issues/{issue_number}", "patch")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"state": "resolved"}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"status": "closed"}, schema)


# Of our own making, for where the document is not at hand.
SAMPLES = {
    "issues": (
        {
            "title": "Checkout fails",
            "body": "What happened.\n\n<!-- pointsman: M -->",
            "labels": ["bug"],
            "assignees": ["dev"],
        },
        lambda draft: wire.issue_body(draft, ["bug"], ["dev"]),
    ),
    "edit": (
        {"title": "Checkout fails", "body": "What happened.\n\n<!-- pointsman: M -->"},
        wire.edit_body,
    ),
    "comment": (
        {"body": "It happened again.\n\n<!-- pointsman: M -->"},
        lambda draft: wire.comment_body("It happened again.", draft.marker),
    ),
    "close": (
        {"state": "closed", "state_reason": "not_planned"},
        lambda _: wire.state_body("closed", "not_planned"),
    ),
    "reopen": ({"state": "open", "state_reason": "reopened"}, lambda _: wire.state_body("open", None)),
    "webhook": (
        {
            "name": "web",
            "active": True,
            "events": ["issues", "issue_comment"],
            "config": {
                "url": "https://pointsman.example/x",
                "content_type": "json",
                "secret": "s",
                "insecure_ssl": "0",
            },
        },
        lambda _: webhook_registration.new_body("https://pointsman.example/x", Secret("s")),
    ),
    "webhook mended": (
        {
            "active": True,
            "events": ["issue_comment", "issues", "push"],
            "config": {
                "url": "https://pointsman.example/x",
                "content_type": "json",
                "secret": "s",
                "insecure_ssl": "1",
            },
        },
        lambda _: webhook_registration.repair_body(HOOK, "https://pointsman.example/x", Secret("s")),
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_requests_are_as_in_the_samples(helpers, name):
    sample, make = SAMPLES[name]
    draft = helpers.draft()
    created = make(draft)
    if "body" in created:
        created["body"] = created["body"].replace(draft.marker.text, "M")
    assert created == sample


async def test_every_call_is_one_that_github_describes(
    api_document, make_tracker, make_app_tracker, github, helpers
):
    """The document is an excerpt: what signs in has to be told apart."""
    app = make_app_tracker(app={"permissions": {"issues": "write", "repository_hooks": "write"}})
    for tracker in (make_tracker(assignees=(github.bot,)), app):
        draft = helpers.draft()
        issue = await tracker.create_issue(draft)
        await tracker.add_comment(issue, "x", helpers.marker())
        await tracker.set_state(issue, "closed", None)
        await tracker.update_issue(issue, draft)
        await tracker.read_issue(issue)
        await tracker.find_issue(draft.marker, helpers.long_ago)
        await tracker.find_comment(issue, draft.marker, helpers.long_ago)
        await tracker.list_changes(helpers.long_ago)
        await tracker.ensure_webhook("https://pointsman.example/webhooks/github/x", Secret("s"))
        next(iter(github.hooks.values())).active = False
        await tracker.ensure_webhook("https://pointsman.example/webhooks/github/x", Secret("s"))
        await tracker.check()
    known = [
        (method.upper(), re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), operation)
        for path, methods in api_document["paths"].items()
        for method, operation in methods.items()
    ]
    left_out = {"/app", "/users/pointsman%5Bbot%5D"}
    for method, address in github.requests:
        path, _, query = address.partition("?")
        if path in left_out:
            continue
        [operation] = [
            matching for verb, pattern, matching in known if verb == method and pattern.fullmatch(path)
        ]
        named = {_resolved(api_document, item)["name"] for item in operation.get("parameters", [])}
        assert {part.partition("=")[0] for part in query.split("&") if part} <= named, address


def _resolved(document, parameter):
    reference = parameter.get("$ref")
    return document["components"]["parameters"][reference.rpartition("/")[2]] if reference else parameter
