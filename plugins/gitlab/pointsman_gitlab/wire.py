"""What goes to GitLab and what comes from it, as pure functions: text, request bodies, values of answers."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pointsman.plugin_api import Actor, CommentRef, Draft, IssueRef, IssueRemoved, IssueState, Marker, State

TITLE_CHARACTERS = 255
BODY_CHARACTERS = 1_000_000
"""The limit of a comment; a description may have 1,048,576. https://docs.gitlab.com/administration/instance_limits/"""
LABEL_CHARACTERS = 255

_CUT = "\n\n*(The text was longer and is cut here.)*"
_FENCE = re.compile(r"^ {0,3}(`{3,64}|~{3,64})", re.MULTILINE)
_MARKER = re.compile(r"<!-- pointsman: (pm1-[0-9A-Za-z-]{1,120}) -->")
_MARKERS_READ = 16
_QUICK_ACTION = re.compile(r"^/(?=[A-Za-z_]+(?:\s|$))", re.MULTILINE)
_JOINER = "\u2060"
_STATES: dict[str, State] = {"opened": "open", "reopened": "open", "closed": "closed"}


# -- text ----------------------------------------------------------------------------------------------------------


def clean(text: str) -> str:
    """The text without NUL and halves of surrogate pairs, its lines ended by a line feed alone."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    return plain.encode("utf-8", "replace").decode()


def title_line(text: str) -> str:
    """One line of at most 255 characters; where it had to be cut it ends in an ellipsis."""
    line = _one_line(text)
    return line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1].rstrip() + "…"


def _one_line(text: str) -> str:
    return " ".join(clean(text).split()) or "(no title)"


def inert(text: str) -> str:
    """The text without quick actions: an invisible joiner stands before each.

    GitLab obeys a line such as ``/close`` in descriptions and comments, those of the API too, and takes it out of the
    text. What it counts as code, where it does not, is less than Markdown does: no fence of four backticks, no
    ``~~~``, no fence left open. So it is done everywhere. https://docs.gitlab.com/user/project/quick_actions/
    """
    return _QUICK_ACTION.sub(f"{_JOINER}/", text)


def marked(text: str, marker: Marker) -> str:
    """The text with the marker as its last line, in an HTML comment, which GitLab keeps and does not show.

    Markers already in the text came along in a quotation, and are taken out. A code fence left open is closed, or the
    marker would show as code; too long a text is cut and says so.
    """
    tail = f"\n\n<!-- pointsman: {marker.text} -->"
    text = inert(_MARKER.sub("(marker)", clean(text)).rstrip())
    room = BODY_CHARACTERS - len(tail) - 70
    if len(text) > room:
        text = text[: room - len(_CUT)].rstrip()
        text += _closing(text) + _CUT
    return text + _closing(text) + tail


def _closing(text: str) -> str:
    """What closes the code fence that the text leaves open, empty if there is none."""
    fence = ""
    for match in _FENCE.finditer(text):
        if not fence:
            fence = match[1]
        elif match[1][0] == fence[0] and len(match[1]) >= len(fence):
            fence = ""
    return f"\n{fence}" if fence else ""


def markers_in(text: object) -> tuple[str, ...]:
    """The markers in an issue's or a comment's text, in order, each once."""
    if not isinstance(text, str):
        return ()
    return tuple(dict.fromkeys(match[1] for match in itertools.islice(_MARKER.finditer(text), _MARKERS_READ)))


def label_names(*groups: Iterable[str]) -> tuple[str, ...]:
    """Names of labels that GitLab can have, each once. Labels go over the wire in one list with commas."""
    names: dict[str, None] = {}
    for group in groups:
        for given in group:
            name = " ".join(clean(given).split())
            if 0 < len(name) <= LABEL_CHARACTERS and "," not in name:
                names.setdefault(name)
    return tuple(names)


def word(value: object, limit: int = 100) -> str:
    """A short piece of a stranger's text, fit to be shown in a sentence; empty for what is no text."""
    if not isinstance(value, str):
        return ""
    return "".join(c for c in clean(value[: limit * 2]) if c.isprintable())[:limit]


# -- request bodies: https://docs.gitlab.com/api/issues/ -----------------------------------------------------------


def issue_body(
    draft: Draft, labels: Sequence[str], assignee_ids: Sequence[int], *, confidential: bool
) -> dict[str, Any]:
    """What creates an issue. Labels that are not there yet are made by GitLab."""
    body = edit_body(draft)
    if labels:
        body["labels"] = ",".join(labels)
    if assignee_ids:
        body["assignee_ids"] = list(assignee_ids)
    if confidential:
        body["confidential"] = True
    return body


def edit_body(draft: Draft) -> dict[str, Any]:
    """What replaces title and text of an issue."""
    return {"title": title_line(draft.title), "description": marked(draft.body, draft.marker)}


def state_body(state: State) -> dict[str, str]:
    """What closes or reopens; an issue that stands so already stays as it is."""
    return {"state_event": "close" if state == "closed" else "reopen"}


# -- answers -------------------------------------------------------------------------------------------------------


def number(raw: object, key: str) -> int | None:
    """A positive number in an object, None for anything else."""
    found = raw.get(key) if isinstance(raw, dict) else None
    fits = isinstance(found, int) and not isinstance(found, bool) and 0 < found < 2**63
    return found if fits else None


def issue_ref(raw: object) -> IssueRef | None:
    """Which issue a JSON object speaks of, None if it is no issue.

    The number within the project (``iid``) is used and not ``id``: addresses of the API take it, and it never changes.
    """
    iid = number(raw, "iid")
    if iid is None or not isinstance(raw, dict):
        return None
    return IssueRef(remote_id=str(iid), key=f"#{iid}", url=_address(raw.get("web_url") or raw.get("url")))


def comment_ref(raw: object, issue: IssueRef) -> CommentRef | None:
    """Which comment a JSON object speaks of, None if it is none. GitLab does not name its page: it is the issue's."""
    found = number(raw, "id")
    if found is None:
        return None
    return CommentRef(remote_id=str(found), url=f"{issue.url}#note_{found}" if issue.url else "")


def issue_seen(raw: object, *, by: Actor | None = None) -> IssueState | None:
    """How an issue stands, None for what is no issue. ``by``: who made the news."""
    ref = issue_ref(raw)
    state = raw.get("state") if isinstance(raw, dict) else None
    if ref is None or not isinstance(raw, dict) or not isinstance(state, str) or state not in _STATES:
        return None
    return IssueState(
        ref=ref,
        state=_STATES[state],
        close_reason="duplicate" if _STATES[state] == "closed" and _is_duplicate(raw) else None,
        version=moment(raw.get("updated_at")),
        actor=by,
        author=actor(raw.get("author")) or _by_number(raw),
        markers=markers_in(raw.get("description")),
    )


def issue_gone(raw: object, *, by: Actor | None = None) -> IssueRemoved | None:
    """That an issue was moved to another project, None if it was not. Its old self stays, closed."""
    ref, there = issue_ref(raw), number(raw, "moved_to_id")
    if ref is None or there is None:
        return None
    return IssueRemoved(ref=ref, moved_to=f"the issue with the id {there}", actor=by)


def _is_duplicate(raw: Mapping[str, Any]) -> bool:
    """Whether it was closed as a duplicate: the API says so in a link, a webhook with an id."""
    links = raw.get("_links")
    linked = isinstance(links, dict) and bool(links.get("closed_as_duplicate_of"))
    return linked or number(raw, "duplicated_to_id") is not None


def _by_number(raw: object) -> Actor | None:
    """The author where only a number says who it is, as in webhooks."""
    found = number(raw, "author_id")
    return Actor(str(found)) if found is not None else None


def actor(raw: object) -> Actor | None:
    """An account: by its id, which a change of the username leaves alone."""
    found = number(raw, "id")
    if found is None or not isinstance(raw, dict):
        return None
    return Actor(account_id=str(found), name=word(raw.get("username")))


def moment(text: object) -> dt.datetime | None:
    """A time of the API's or, written otherwise (``2017-09-15 16:50:55 UTC``), of a webhook's; None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        found = dt.datetime.fromisoformat(text.removesuffix(" UTC"))
        return found.astimezone(dt.UTC) if found.tzinfo is not None else found.replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError):
        return None


def timestamp(at: dt.datetime) -> str:
    """ISO 8601 in UTC, as the API's own times are."""
    return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _address(value: object) -> str:
    if isinstance(value, str) and value.startswith(("https://", "http://")) and len(value) <= 2000:
        return clean(value)
    return ""


# -- what was left out ---------------------------------------------------------------------------------------------


def notes_of_draft(draft: Draft) -> list[str]:
    """What of a draft GitLab can't have, in words."""
    notes = []
    if len(_one_line(draft.title)) > TITLE_CHARACTERS:
        notes.append(f"the title was longer than {TITLE_CHARACTERS} characters and is cut")
    if _CUT in marked(draft.body, draft.marker) and _CUT not in draft.body:
        notes.append(f"the text was longer than {BODY_CHARACTERS} characters and is cut")
    odd = [label for label in draft.labels if not label_names([label])]
    return notes + [f"label {word(one, 60) or '(empty)'!r} left out: a name without commas" for one in odd]


def notes_of_answer(raw: object, labels: Sequence[str], assignees: Mapping[str, int]) -> list[str]:
    """What GitLab left out without a word: it answers 201 all the same."""
    notes = []
    had = {str(one).casefold() for one in _list(raw, "labels")}
    if lost := [name for name in labels if name.casefold() not in had]:
        notes.append(
            f"GitLab left out the labels {', '.join(lost)}: the account needs the role Planner or Reporter"
        )
    ids = {number(one, "id") for one in _list(raw, "assignees")}
    lost = [name for name, found in assignees.items() if found not in ids]
    if lost and len(lost) < len(assignees):
        notes.append(f"not assigned to {', '.join(lost)}: without a licence an issue has one assignee")
    elif lost:
        notes.append(f"not assigned to {', '.join(lost)}: no members, or the account may not assign")
    return notes


def _list(raw: object, key: str) -> list[Any]:
    found = raw.get(key) if isinstance(raw, dict) else None
    return found if isinstance(found, list) else []
