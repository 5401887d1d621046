"""Convert between the contract's values and GitHub's JSON, as pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pointsman.plugin_api import (
    Actor,
    CloseReason,
    CommentRef,
    Draft,
    IssueRef,
    IssueState,
    Marker,
    State,
    helpers,
)
from pointsman.plugin_api.helpers import find_markers, parse_time, short_text

TITLE_CHARACTERS = 255
"""GitHub answers 422 "title is too long" somewhere above."""
BODY_CHARACTERS = 65536
"""GitHub answers 422 "body is too long (maximum is 65536 characters)" above, for issues and comments."""
LABEL_CHARACTERS = 50

_REASONS: dict[object, CloseReason] = {
    "completed": "completed",
    "not_planned": "not_planned",
    "duplicate": "duplicate",
}


# -- texts -------------------------------------------------------------------------------------------------------


def title(text: str) -> str:
    """Return the text as a title within the limit."""
    return helpers.title_line(text, TITLE_CHARACTERS)


def marked_text(text: str, marker: Marker) -> str:
    """Return the text with the marker in an HTML comment, which GitHub keeps and does not show."""
    return helpers.embed_marker(text, marker, BODY_CHARACTERS)


def label_names(*groups: Iterable[str]) -> tuple[str, ...]:
    """Return the label names that GitHub accepts, without repetitions in another case."""
    return helpers.label_names(*groups, limit=LABEL_CHARACTERS)


# -- request bodies: https://docs.github.com/en/rest/issues/issues ------------------------------------------------


def issue_body(draft: Draft, labels: Sequence[str], assignees: Sequence[str]) -> dict[str, Any]:
    """Return the body that creates an issue. GitHub creates unknown labels itself if the account may push."""
    body: dict[str, Any] = edit_body(draft)
    names = label_names(labels, draft.labels)
    if names:
        body["labels"] = list(names)
    if assignees:
        body["assignees"] = list(assignees)
    return body


def edit_body(draft: Draft) -> dict[str, Any]:
    """Return the body that replaces title and text. It has no labels: they would replace what people set."""
    return {"title": title(draft.title), "body": marked_text(draft.body, draft.marker)}


def comment_body(text: str, marker: Marker) -> dict[str, Any]:
    """Return the body that adds a comment."""
    return {"body": marked_text(text, marker)}


def state_body(state: State, reason: CloseReason | None) -> dict[str, Any]:
    """Return the body that closes or reopens. GitHub ignores the reason if the state does not change."""
    if state == "open":
        return {"state": "open", "state_reason": "reopened"}
    return {"state": "closed", "state_reason": reason or "completed"}


# -- responses -----------------------------------------------------------------------------------------------------


def issue_ref(raw: object) -> IssueRef | None:
    """Return the reference of an issue, None if the object is no issue.

    The number is used and not ``id``: the API's paths take the number, and it never changes in a repository.
    """
    return helpers.issue_ref(raw, "number", "html_url")


def comment_ref(raw: object) -> CommentRef | None:
    """Return the reference of a comment, None if the object is no comment."""
    return helpers.comment_ref(raw, "html_url")


def issue_state(raw: object, *, changed_by: Actor | None = None) -> IssueState | None:
    """Return the state of an issue, None if the object is no issue. GitHub lists pull requests among the issues."""
    ref = issue_ref(raw)
    if ref is None or not isinstance(raw, dict) or raw.get("pull_request") is not None:
        return None
    state: State = "closed" if raw.get("state") == "closed" else "open"
    return IssueState(
        ref=ref,
        state=state,
        close_reason=_REASONS.get(short_text(raw.get("state_reason"))) if state == "closed" else None,
        version=parse_time(raw.get("updated_at")),
        actor=changed_by,
        author=author(raw),
        markers=find_markers(raw.get("body")),
    )


def author(raw: object) -> Actor | None:
    """Return the author of an issue or a comment."""
    return account(raw.get("user")) if isinstance(raw, dict) else None


def account(raw: object) -> Actor | None:
    """Return an account: its id, and its login as the name."""
    return helpers.account(raw, "login")


# -- what was left out -------------------------------------------------------------------------------------------


def notes(
    raw: object, requested: Mapping[str, Sequence[str]], sent: Mapping[str, Any], refusal: str
) -> tuple[str, ...]:
    """Return notes about labels and assignees that were refused and not sent again, or silently dropped."""
    lines = []
    for key, name, verb in (("assignees", "login", "assigned to"), ("labels", "name", "labeled")):
        refused = [label for label in requested[key] if label not in sent.get(key, ())]
        if refused:
            lines.append(f"not {verb} {', '.join(refused)}: GitHub refused that ({refusal})")
        dropped = _left_out(raw, key, name, sent.get(key, ()))
        if dropped:
            lines.append(
                f"not {verb} {', '.join(dropped)}: GitHub dropped that silently, as it does when the account"
                " may not push to the repository; give it the role Write"
            )
    return tuple(lines)


def without(
    body: Mapping[str, Any], refused: Mapping[str, Sequence[str]], *, remove_all: bool
) -> dict[str, Any]:
    """Return the body of a new issue without the assignees and labels that a 422 names, or without any if it names none."""
    reduced = dict(body)
    for key in ("assignees", "labels"):
        if key in refused and key in body:
            named = {name.casefold() for name in refused[key]}
            remaining = [name for name in body[key] if name.casefold() not in named]
            if remove_all or remaining == body[key] or not remaining:
                del reduced[key]
            else:
                reduced[key] = remaining
    return reduced


def _left_out(raw: object, key: str, name: str, wanted: Iterable[str]) -> list[str]:
    """Return the labels or assignees that the issue lacks, compared in folded case.

    A response that does not list them proves nothing.
    """
    items = raw.get(key) if isinstance(raw, dict) else None
    if not isinstance(items, list):
        return []
    names = [item.get(name) if isinstance(item, dict) else item for item in items]
    present = {text.casefold() for text in names if isinstance(text, str)}
    return [text for text in wanted if text.casefold() not in present]
