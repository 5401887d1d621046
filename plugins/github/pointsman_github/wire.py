"""What goes to GitHub and what comes from it, as pure functions: text, request bodies, things in answers."""

from __future__ import annotations

import datetime as dt
import itertools
import re
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
)

TITLE_CHARACTERS = 255
"""GitHub answers 422 "title is too long" somewhere above."""
BODY_CHARACTERS = 65536
"""GitHub answers 422 "body is too long (maximum is 65536 characters)" above, for issues and comments."""
LABEL_CHARACTERS = 50

_CUT = "\n\n*(The text was longer and is cut here.)*"
_LONGEST_FENCE = 64
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})", re.MULTILINE)
_MARKER = re.compile(r"<!--[ \t]{0,8}pointsman:[ \t]{0,8}(pm1-[0-9A-Za-z-]{1,120}?)[ \t]{0,8}-->")
_MARKERS_READ = 16


# -- text --------------------------------------------------------------------------------------------------------


def clean(text: str) -> str:
    """The text without what no database takes: NUL and halves of surrogate pairs."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def title_line(text: str) -> str:
    """One line of at most 255 characters; where it had to be cut it ends in an ellipsis."""
    line = " ".join(clean(text).split()) or "(no title)"
    return line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1].rstrip() + "…"


def markers_in(text: object) -> tuple[str, ...]:
    """The markers in an issue's or a comment's body, in order, each once."""
    if not isinstance(text, str):
        return ()
    return tuple(dict.fromkeys(match[1] for match in itertools.islice(_MARKER.finditer(text), _MARKERS_READ)))


def marked(text: str, marker: Marker) -> str:
    """The text with the marker as its last line, in an HTML comment, which GitHub keeps and does not show.

    Markers already in the text belong to something else and came along in a quotation: they are taken out. Too
    long a text is cut and says so; an open code fence is closed, or the rest of the page would be code.
    """
    tail = f"<!-- pointsman: {marker.text} -->"
    text = _MARKER.sub("(marker)", clean(text)).rstrip()
    room = BODY_CHARACTERS - len(tail) - 2
    if len(text) > room:
        room -= len(_CUT) + _LONGEST_FENCE + 1
        text = text[:room].rstrip()
        fence = _open_fence(text)
        text += (f"\n{fence}" if fence else "") + _CUT
    return f"{text}\n\n{tail}" if text else tail


def _open_fence(text: str) -> str:
    """The code fence that the text opens and does not close, empty if there is none."""
    fence = ""
    for match in _FENCE.finditer(text):
        if not fence:
            fence = match[1]
        elif match[1][0] == fence[0] and len(match[1]) >= len(fence):
            fence = ""
    return fence if len(fence) <= _LONGEST_FENCE else ""


def label_names(*groups: Iterable[str]) -> tuple[str, ...]:
    """Names of labels that GitHub can have, each once, whatever its case."""
    names: dict[str, str] = {}
    for group in groups:
        for given in group:
            name = " ".join(clean(given).split())
            if 0 < len(name) <= LABEL_CHARACTERS:
                names.setdefault(name.casefold(), name)
    return tuple(names.values())


def timestamp(moment: dt.datetime) -> str:
    """ISO 8601 to the second, rounded down, as the API's own times are."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# -- request bodies: https://docs.github.com/en/rest/issues/issues ------------------------------------------------


def issue_body(draft: Draft, labels: Sequence[str], assignees: Sequence[str]) -> dict[str, Any]:
    """What creates an issue. Unknown labels are made by GitHub itself if the account may push."""
    body: dict[str, Any] = {"title": title_line(draft.title), "body": marked(draft.body, draft.marker)}
    names = label_names(labels, draft.labels)
    if names:
        body["labels"] = list(names)
    if assignees:
        body["assignees"] = list(assignees)
    return body


def edit_body(draft: Draft) -> dict[str, Any]:
    """What replaces title and body. Labels stay out of it: they would replace what people set."""
    return {"title": title_line(draft.title), "body": marked(draft.body, draft.marker)}


def comment_body(text: str, marker: Marker) -> dict[str, Any]:
    """What adds a comment."""
    return {"body": marked(text, marker)}


def state_body(state: State, reason: CloseReason | None) -> dict[str, Any]:
    """What closes or reopens. GitHub ignores the reason where the state stays as it is."""
    if state == "open":
        return {"state": "open", "state_reason": "reopened"}
    return {"state": "closed", "state_reason": reason or "completed"}


# -- answers -------------------------------------------------------------------------------------------------------


def issue_ref(raw: object) -> IssueRef | None:
    """Which issue a JSON object speaks of, None if it is no issue.

    The number is used and not ``id``: the API's addresses take the number, and it never changes in a repository.
    """
    if not isinstance(raw, dict):
        return None
    number = raw.get("number")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 2**63:
        return None
    return IssueRef(remote_id=str(number), key=str(number), url=address(raw.get("html_url")))


def comment_ref(raw: object) -> CommentRef | None:
    """Which comment a JSON object speaks of, None if it is no comment."""
    if not isinstance(raw, dict):
        return None
    number = raw.get("id")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 2**63:
        return None
    return CommentRef(remote_id=str(number), url=address(raw.get("html_url")))


def issue_seen(raw: object, *, by: Actor | None = None) -> IssueState | None:
    """How an issue stands, None for a pull request, which GitHub lists among the issues, and for what is no issue."""
    ref = issue_ref(raw)
    if ref is None or not isinstance(raw, dict) or raw.get("pull_request") is not None:
        return None
    state: State = "closed" if raw.get("state") == "closed" else "open"
    return IssueState(
        ref=ref,
        state=state,
        close_reason=_REASONS.get(word(raw.get("state_reason"))) if state == "closed" else None,
        version=moment(raw.get("updated_at")),
        actor=by,
        author=author(raw),
        markers=markers_in(raw.get("body")),
    )


_REASONS: dict[object, CloseReason] = {
    "completed": "completed",
    "not_planned": "not_planned",
    "duplicate": "duplicate",
}


def author(raw: object) -> Actor | None:
    """Who wrote an issue or a comment."""
    return actor(raw.get("user")) if isinstance(raw, dict) else None


def notes(
    raw: object, asked: Mapping[str, Sequence[str]], sent: Mapping[str, Any], words: str
) -> tuple[str, ...]:
    """What of an issue's labels and assignees is not as asked: refused and not sent again, or dropped silently."""
    found = []
    for key, name, verb in (("assignees", "login", "assigned to"), ("labels", "name", "labeled")):
        refused = [one for one in asked[key] if one not in sent.get(key, ())]
        if refused:
            found.append(f"not {verb} {', '.join(refused)}: GitHub refused that ({words})")
        dropped = _left_out(raw, key, name, sent.get(key, ()))
        if dropped:
            found.append(
                f"not {verb} {', '.join(dropped)}: GitHub dropped that silently, as it does when the account"
                " may not push to the repository; give it the role Write"
            )
    return tuple(found)


def without(
    body: Mapping[str, Any], refused: Mapping[str, Sequence[str]], *, all_of_it: bool
) -> dict[str, Any]:
    """The body of a new issue without the assignees and labels that a 422 names; where it names none, without any."""
    fewer = dict(body)
    for key in ("assignees", "labels"):
        if key in refused and key in body:
            named = {one.casefold() for one in refused[key]}
            left = [one for one in body[key] if one.casefold() not in named]
            if all_of_it or left == body[key] or not left:
                del fewer[key]
            else:
                fewer[key] = left
    return fewer


def _left_out(raw: object, key: str, name: str, wanted: Iterable[str]) -> list[str]:
    """Which of the labels or assignees are not at the issue. Case does not matter; an answer that does not tell proves
    nothing.
    """
    there = raw.get(key) if isinstance(raw, dict) else None
    if not isinstance(there, list):
        return []
    names = [one.get(name) if isinstance(one, dict) else one for one in there]
    known = {found.casefold() for found in names if isinstance(found, str)}
    return [one for one in wanted if one.casefold() not in known]


def moment(text: object) -> dt.datetime | None:
    """A time of the API's, None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    if found.year < 1970:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC)


def address(value: object) -> str:
    """A web address out of a stranger's JSON, empty for anything else."""
    if isinstance(value, str) and value.startswith(("https://", "http://")) and len(value) <= 2000:
        return clean(value)
    return ""


def word(value: object, limit: int = 80) -> str:
    """A short piece of a stranger's text, fit to be shown in a sentence; empty for what is no text."""
    if not isinstance(value, str):
        return ""
    return "".join(c for c in clean(value[: limit * 2]) if c.isprintable())[:limit]


def actor(raw: object) -> Actor | None:
    """An account: its id, and its login as the name."""
    if not isinstance(raw, dict):
        return None
    name = word(raw.get("login"), 100)
    number = raw.get("id")
    if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 2**63:
        return Actor(str(number), name)
    return Actor(name, name) if name else None
