"""Convert between the contract's values and GitLab's JSON, as pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pointsman.plugin_api import (
    Actor,
    CommentRef,
    Draft,
    IssueRef,
    IssueRemoved,
    IssueState,
    Marker,
    State,
    helpers,
)
from pointsman.plugin_api.helpers import find_markers, parse_time, positive_int, short_text, text_at

TITLE_CHARACTERS = 255
BODY_CHARACTERS = 1_000_000
"""The limit of a comment; a description may have 1,048,576. https://docs.gitlab.com/administration/instance_limits/"""
LABEL_CHARACTERS = 255

_QUICK_ACTION = re.compile(r"^/(?=[A-Za-z_]+(?:\s|$))", re.MULTILINE)
_WORD_JOINER = "\u2060"
_STATES: dict[str, State] = {"opened": "open", "reopened": "open", "closed": "closed"}


# -- texts ---------------------------------------------------------------------------------------------------------


def title(text: str) -> str:
    """Return the text as a title within the limit."""
    return helpers.title_line(text, TITLE_CHARACTERS)


def disarm_quick_actions(text: str) -> str:
    """Return the text with an invisible word joiner before each quick action.

    GitLab executes a line such as ``/close`` in descriptions and comments, those of the API too, and removes it from the
    text. It spares code, but recognizes less code than Markdown does: no fence of four backticks, no ``~~~``, no open
    fence. So quick actions are disarmed everywhere. https://docs.gitlab.com/user/project/quick_actions/
    """
    return _QUICK_ACTION.sub(f"{_WORD_JOINER}/", text)


def marked_text(text: str, marker: Marker) -> str:
    """Return the text with the marker in an HTML comment, which GitLab keeps and does not show."""
    # a lone carriage return begins a line in GitLab
    lines = helpers.clean_text(text).replace("\r\n", "\n").replace("\r", "\n")
    return helpers.embed_marker(disarm_quick_actions(lines), marker, BODY_CHARACTERS)


def label_names(*groups: Iterable[str]) -> tuple[str, ...]:
    """Return the label names that GitLab accepts. They are sent as one list with commas."""
    return helpers.label_names(*groups, limit=LABEL_CHARACTERS, key=str, fits=lambda name: "," not in name)


# -- request bodies: https://docs.gitlab.com/api/issues/ -----------------------------------------------------------


def issue_body(
    draft: Draft, labels: Sequence[str], assignee_ids: Sequence[int], *, confidential: bool
) -> dict[str, Any]:
    """Return the body that creates an issue. GitLab creates labels that do not exist."""
    body = edit_body(draft)
    if labels:
        body["labels"] = ",".join(labels)
    if assignee_ids:
        body["assignee_ids"] = list(assignee_ids)
    if confidential:
        body["confidential"] = True
    return body


def edit_body(draft: Draft) -> dict[str, Any]:
    """Return the body that replaces title and text of an issue."""
    return {"title": title(draft.title), "description": marked_text(draft.body, draft.marker)}


def state_body(state: State) -> dict[str, str]:
    """Return the body that closes or reopens; an issue that is already in that state is not changed."""
    return {"state_event": "close" if state == "closed" else "reopen"}


# -- responses -----------------------------------------------------------------------------------------------------


def issue_ref(raw: object) -> IssueRef | None:
    """Return the reference of an issue, None if the object is no issue.

    The number within the project (``iid``) is used and not ``id``: the API's paths take it, and it never changes.
    """
    return helpers.issue_ref(raw, "iid", "web_url", "url", prefix="#")


def comment_ref(raw: object, issue: IssueRef) -> CommentRef | None:
    """Return the reference of a comment, None if the object is none. Its page is a part of the issue's page."""
    number = positive_int(raw, "id")
    if number is None:
        return None
    return CommentRef(remote_id=str(number), url=f"{issue.url}#note_{number}" if issue.url else "")


def issue_state(raw: object, *, changed_by: Actor | None = None) -> IssueState | None:
    """Return the state of an issue, None if the object is no issue."""
    ref, state = issue_ref(raw), _STATES.get(text_at(raw, "state"))
    if ref is None or state is None or not isinstance(raw, dict):
        return None
    return IssueState(
        ref=ref,
        state=state,
        close_reason="duplicate" if state == "closed" and _is_duplicate(raw) else None,
        version=parse_time(raw.get("updated_at")),
        actor=changed_by,
        author=account(raw.get("author")) or _author_by_id(raw),
        markers=find_markers(raw.get("description")),
    )


def issue_removed(raw: object, *, changed_by: Actor | None = None) -> IssueRemoved | None:
    """Return the move of an issue to another project, None if it was not moved. The old issue stays, closed."""
    ref, new_id = issue_ref(raw), positive_int(raw, "moved_to_id")
    if ref is None or new_id is None:
        return None
    return IssueRemoved(ref=ref, moved_to=f"the issue with the id {new_id}", actor=changed_by)


def _is_duplicate(raw: Mapping[str, Any]) -> bool:
    """Return whether an issue was closed as a duplicate: the API says so in a link, a webhook with an id."""
    links = raw.get("_links")
    linked = isinstance(links, dict) and bool(links.get("closed_as_duplicate_of"))
    return linked or positive_int(raw, "duplicated_to_id") is not None


def _author_by_id(raw: object) -> Actor | None:
    """Return the author where only the account's id is given, as in webhooks."""
    number = positive_int(raw, "author_id")
    return Actor(str(number)) if number is not None else None


def account(raw: object) -> Actor | None:
    """Return an account: its id does not change with its username."""
    return helpers.account(raw, "username") if positive_int(raw, "id") is not None else None


# -- what was left out ---------------------------------------------------------------------------------------------


def notes_of_draft(draft: Draft) -> list[str]:
    """Return notes about the parts of a draft that GitLab does not accept."""
    body = marked_text(draft.body, draft.marker)
    notes = helpers.cut_notes(draft, body, title_limit=TITLE_CHARACTERS, body_limit=BODY_CHARACTERS)
    rejected = [label for label in draft.labels if not label_names([label])]
    return notes + [
        f"label {short_text(label, 60) or '(empty)'!r} left out: a name without commas" for label in rejected
    ]


def notes_of_response(raw: object, labels: Sequence[str], assignees: Mapping[str, int]) -> list[str]:
    """Return notes about what GitLab silently left out: it answers 201 all the same."""
    notes = []
    present = {str(label).casefold() for label in _list_at(raw, "labels")}
    if dropped := [name for name in labels if name.casefold() not in present]:
        notes.append(
            f"GitLab left out the labels {', '.join(dropped)}: the account needs the role Planner or Reporter"
        )
    ids = {positive_int(user, "id") for user in _list_at(raw, "assignees")}
    dropped = [name for name, number in assignees.items() if number not in ids]
    if dropped and len(dropped) < len(assignees):
        notes.append(f"not assigned to {', '.join(dropped)}: without a licence an issue has one assignee")
    elif dropped:
        notes.append(f"not assigned to {', '.join(dropped)}: no members, or the account may not assign")
    return notes


def _list_at(raw: object, key: str) -> list[Any]:
    items = raw.get(key) if isinstance(raw, dict) else None
    return items if isinstance(items, list) else []
