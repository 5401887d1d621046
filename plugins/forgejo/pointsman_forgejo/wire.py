"""Convert between the contract's values and Forgejo's JSON, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pointsman.plugin_api import Actor, CommentRef, Draft, IssueRef, IssueState, Marker, State, helpers
from pointsman.plugin_api.helpers import (
    find_markers,
    objects_at,
    parse_time,
    positive_int,
    short_text,
    utf8_size,
)

TITLE_BYTES = 255
"""Forgejo silently cuts a longer title, at bytes and not at characters. It is cut here instead, visibly."""
BODY_BYTES = 2**20
"""Forgejo documents no limit for a body. A mebibyte is more than anybody reads."""
LABEL_CHARACTERS = 50
"""The longest label name that the web form accepts."""


# -- texts -------------------------------------------------------------------------------------------------------


def title(text: str) -> str:
    """Return the text as a title within the limit."""
    return helpers.title_line(text, TITLE_BYTES, utf8_size)


def marked_text(text: str, marker: Marker) -> str:
    """Return the text with the marker in an HTML comment, which Forgejo keeps and does not show."""
    return helpers.embed_marker(text, marker, BODY_BYTES, utf8_size)


def label_names(*groups: Iterable[str]) -> tuple[str, ...]:
    """Return the label names that Forgejo accepts, without repetitions in another case."""
    return helpers.label_names(*groups, limit=LABEL_CHARACTERS)


# -- request bodies: https://forgejo.org/docs/latest/user/api-usage/ --------------------------------------------------------


def issue_body(draft: Draft, label_ids: Sequence[int], assignees: Sequence[str]) -> dict[str, Any]:
    """Return the body that creates an issue. Labels are sent by id: a name is answered with 422."""
    body: dict[str, Any] = edit_body(draft)
    if label_ids:
        body["labels"] = list(label_ids)
    if assignees:
        body["assignees"] = list(assignees)
    return body


def edit_body(draft: Draft) -> dict[str, Any]:
    """Return the body that replaces title and text of an issue."""
    return {"title": title(draft.title), "body": marked_text(draft.body, draft.marker)}


def comment_body(text: str, marker: Marker) -> dict[str, Any]:
    """Return the body that adds a comment."""
    return {"body": marked_text(text, marker)}


def state_body(state: State) -> dict[str, Any]:
    """Return the body that closes or reopens. Any text but exactly ``closed`` would reopen."""
    return {"state": "closed" if state == "closed" else "open"}


# -- responses -----------------------------------------------------------------------------------------------------


def issue_ref(raw: object) -> IssueRef | None:
    """Return the reference of an issue, None if the object is no issue.

    The number is used and not ``id``: the API's paths take the number, and it never changes in a repository.
    """
    return helpers.issue_ref(raw, "number", "html_url")


def comment_ref(raw: object) -> CommentRef | None:
    """Return the reference of a comment, None if the object is no comment."""
    return helpers.comment_ref(raw, "html_url")


class DescendingNumbers:
    """Checks that the issues of a list have descending numbers; an issue that is listed again changes nothing.

    A single issue has no order yet.
    """

    def __init__(self) -> None:
        self._lowest: float = math.inf
        self._numbers: set[int] = set()
        self._descending = True

    def holds_with(self, ref: IssueRef | None) -> bool:
        """Add the next issue of the list and return whether the numbers are still descending."""
        number = int(ref.remote_id) if ref is not None else -1
        if number not in self._numbers:
            self._descending = self._descending and 0 < number < self._lowest
            self._numbers.add(number)
            self._lowest = number
        return self._descending and len(self._numbers) > 1


def issue_state(raw: object, *, changed_by: Actor | None = None) -> IssueState | None:
    """Return the state of an issue, None if the object is a pull request or no issue."""
    ref = issue_ref(raw)
    if ref is None or not isinstance(raw, dict) or raw.get("pull_request") is not None:
        return None
    return IssueState(
        ref=ref,
        state="closed" if raw.get("state") == "closed" else "open",
        version=parse_time(raw.get("updated_at")),
        actor=changed_by,
        author=account(raw.get("user") or raw.get("poster")),
        markers=find_markers(raw.get("body")),
    )


def author_id(raw: object) -> int | None:
    """Return the account id of the author of an issue or a comment."""
    return positive_int(raw.get("user"), "id") if isinstance(raw, dict) else None


def account(raw: object) -> Actor | None:
    """Return an account: its id does not change with its login."""
    return helpers.account(raw, "login", "username")


# -- what was left out -------------------------------------------------------------------------------------------


def notes_of_draft(draft: Draft) -> list[str]:
    """Return notes about the parts of a draft that Forgejo does not accept."""
    notes = helpers.cut_notes(
        draft,
        marked_text(draft.body, draft.marker),
        title_limit=TITLE_BYTES,
        body_limit=BODY_BYTES,
        unit="bytes",
        size=utf8_size,
    )
    for label in draft.labels:
        if not label_names([label]):
            shown = short_text(label, 60) or "(empty)"
            notes.append(f"label {shown!r} left out: names have 1 to {LABEL_CHARACTERS} characters")
    return notes


def dropped_labels(raw: object, label_ids: Mapping[str, int]) -> list[str]:
    """Return the names of labels that were sent with a create and are missing in the response."""
    present = {label.get("id") for label in objects_at(raw, "labels")}
    return [name for name, number in label_ids.items() if number not in present]


def dropped_assignees(raw: object, assignees: Sequence[str]) -> list[str]:
    """Return the logins that were sent with a create and are missing in the response."""
    present = logins(objects_at(raw, "assignees"))
    return [login for login in assignees if login.casefold() not in present]


def title_differs(raw: object, title: str) -> bool:
    """Return whether the server stored another title than it was sent. A response without a title tells nothing."""
    stored = raw.get("title") if isinstance(raw, dict) else None
    return isinstance(stored, str) and stored.strip() != title.strip()


def logins(accounts: Iterable[dict[str, Any]]) -> set[str]:
    """Return the logins of accounts in folded case."""
    return {login.casefold() for account in accounts if isinstance(login := account.get("login"), str)}
