"""The refusals of a Jira site and their messages; the few forms of JQL that the double understands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from pointsman_jira.testing.model import JiraIssue, plain_text

TOO_LONG = "The entered text is too long. It exceeds the allowed limit of 32,767 characters."
OFF_SCREEN = "Field '{}' cannot be set. It is not on the appropriate screen, or unknown."
_CLAUSE = re.compile(r'(\w+) (=|>=|!=) (?:"((?:[^"\\]|\\.)*)"|(\d+))')
_DONE_ID = "3"


def refusal(status: int, *messages: str, **errors: str) -> web.HTTPException:
    """Return a refusal in Jira's format."""
    body = json.dumps({"errorMessages": list(messages), "errors": errors})
    kinds = {400: web.HTTPBadRequest, 403: web.HTTPForbidden, 404: web.HTTPNotFound}
    return kinds[status](text=body, content_type="application/json")


async def json_object(request: web.Request) -> dict[str, Any]:
    """Return the body of a request."""
    try:
        payload = json.loads(await request.read())
    except ValueError as error:
        raise refusal(
            400, "There was an error parsing JSON. Check that your request body is valid."
        ) from error
    if not isinstance(payload, dict):
        raise refusal(400, "Invalid request payload. Refer to the REST API documentation and try again.")
    return payload


def summary_problem(summary: Any) -> dict[str, str]:
    """Return what is wrong with a summary."""
    if not isinstance(summary, str) or "\n" in summary:
        return {"summary": "The summary is invalid because it contains newline characters."}
    return {"summary": "Summary can't exceed 255 characters."} if len(summary) > 255 else {}


def label_problem(labels: list[str]) -> dict[str, str]:
    """Return what is wrong with labels."""
    spaced = [label for label in labels if " " in label]
    return {"labels": f"The label '{spaced[0]}' contains spaces which is invalid."} if spaced else {}


def text_problem(text: Any, *, plain_only: bool, documents: bool) -> str:
    """Return what is wrong with a multi-line text: version 3 takes only documents, version 2 only strings."""
    if not documents:
        if not isinstance(text, str):
            return "Operation value must be a string"
        return TOO_LONG if len(text) > 32767 else ""
    if not isinstance(text, dict) or text.get("type") != "doc" or text.get("version") != 1:
        return "Operation value must be an Atlassian Document (see the Atlassian Document Format)"
    if not _is_valid(text) or (plain_only and not _is_plain(text)):
        return "INVALID_INPUT"
    return TOO_LONG if len(plain_text(text)) > 32767 else ""


def _is_valid(node: Any) -> bool:
    """Check the rules that are broken most: every node has a type, no text is empty, no quote contains a heading."""
    if (
        not isinstance(node, dict)
        or not node.get("type")
        or (node["type"] == "text" and not node.get("text"))
    ):
        return False
    if node["type"] == "blockquote" and any(
        child.get("type") == "heading" for child in node.get("content", ())
    ):
        return False
    return all(_is_valid(child) for child in node.get("content", ()))


def _is_plain(document: dict[str, Any]) -> bool:
    return all(node["type"] == "paragraph" for node in document["content"]) and '"marks"' not in json.dumps(
        document
    )


def marker_of(properties: dict[str, Any]) -> str:
    """Return the marker in entity properties."""
    value = properties.get("pointsman")
    return str(value.get("marker", "")) if isinstance(value, dict) else ""


def marker_label(labels: list[str]) -> str:
    """Return the marker among labels."""
    return next((label for label in labels if label.startswith("pm1-")), "")


def query(
    jql: str, projects: set[str], statuses: Mapping[str, tuple[int, str]], now: float
) -> Callable[[JiraIssue], bool]:
    """Return the conditions of a query: project, labels, updated, issuetype, statusCategory."""
    tests: list[Callable[[JiraIssue], bool]] = []
    for clause in re.split(r"\s+AND\s+", jql.partition(" ORDER BY ")[0].strip()):
        match = _CLAUSE.fullmatch(clause)
        if not match:
            raise refusal(400, f"Unbounded JQL queries are not allowed here, or not understood: {clause}")
        tests.append(_test(match[1], match[2], match[3] or match[4] or "", projects, statuses, now))
    return lambda issue: all(test(issue) for test in tests)


def _test(
    name: str,
    sign: str,
    value: str,
    projects: set[str],
    statuses: Mapping[str, tuple[int, str]],
    now: float,
) -> Callable[[JiraIssue], bool]:
    minutes = re.fullmatch(r"-(\d+)m", value)
    if name == "project" and value.upper() in projects:
        return lambda issue: issue.project == value.upper()
    if name == "labels":
        return lambda issue: value in issue.labels
    if name == "issuetype":
        return lambda issue: issue.issue_type == value
    if name == "updated" and minutes:
        since = now - 60 * int(minutes[1])
        return lambda issue: issue.updated >= since
    if name == "statusCategory" and value == _DONE_ID:
        return lambda issue: (statuses[issue.status][1] == "done") == (sign == "=")
    raise refusal(400, f"The value '{value}' does not exist for the field '{name}'.")
