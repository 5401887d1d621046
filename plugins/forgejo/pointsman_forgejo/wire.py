"""What goes to Forgejo and what comes from it, as pure functions: text, request bodies, values of answers."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pointsman.plugin_api import Actor, CommentRef, Draft, IssueRef, IssueState, Marker, State

TITLE_BYTES = 255
"""Forgejo cuts a longer title silently, at bytes and not at characters: so it is cut here, visibly."""
BODY_BYTES = 2**20
"""Forgejo names no limit for a body. A mebibyte is more than anybody reads."""
LABEL_CHARACTERS = 50
"""The longest name of a label that the web form takes."""

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
    """One line of at most 255 bytes of UTF-8; where it had to be cut it ends in an ellipsis."""
    line = _one_line(text)
    data = line.encode()
    if len(data) <= TITLE_BYTES:
        return line
    return data[: TITLE_BYTES - len("…".encode())].decode("utf-8", "ignore").rstrip() + "…"


def _one_line(text: str) -> str:
    return " ".join(clean(text).split()) or "(no title)"


def markers_in(text: object) -> tuple[str, ...]:
    """The markers in an issue's or a comment's body, in order, each once."""
    if not isinstance(text, str):
        return ()
    return tuple(dict.fromkeys(match[1] for match in itertools.islice(_MARKER.finditer(text), _MARKERS_READ)))


def marked(text: str, marker: Marker) -> str:
    """The text with the marker as its last line, in an HTML comment, which Forgejo keeps and does not show.

    Markers already in the text belong to something else and came along in a quotation: they are taken out. Too
    long a text is cut and says so; an open code fence is closed, or the rest of the page would be code.
    """
    tail = f"<!-- pointsman: {marker.text} -->"
    text = _MARKER.sub("(marker)", clean(text)).rstrip()
    room = BODY_BYTES - len(tail) - 2
    data = text.encode()
    if len(data) > room:
        room -= len(_CUT) + _LONGEST_FENCE + 1
        text = data[:room].decode("utf-8", "ignore").rstrip()
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
    """Names of labels that Forgejo can have, each once, whatever its case."""
    names: dict[str, str] = {}
    for group in groups:
        for given in group:
            name = " ".join(clean(given).split())
            if 0 < len(name) <= LABEL_CHARACTERS:
                names.setdefault(name.casefold(), name)
    return tuple(names.values())


def timestamp(moment: dt.datetime) -> str:
    """RFC 3339 to the second, rounded down, as the API's own times are."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# -- request bodies: https://forgejo.org/docs/latest/user/api-usage/ --------------------------------------------------------


def issue_body(draft: Draft, label_ids: Sequence[int], assignees: Sequence[str]) -> dict[str, Any]:
    """What creates an issue. Labels go by id here: a name would be answered with 422."""
    body: dict[str, Any] = {"title": title_line(draft.title), "body": marked(draft.body, draft.marker)}
    if label_ids:
        body["labels"] = list(label_ids)
    if assignees:
        body["assignees"] = list(assignees)
    return body


def edit_body(draft: Draft) -> dict[str, Any]:
    """What replaces title and body of an issue."""
    return {"title": title_line(draft.title), "body": marked(draft.body, draft.marker)}


def comment_body(text: str, marker: Marker) -> dict[str, Any]:
    """What adds a comment."""
    return {"body": marked(text, marker)}


def state_body(state: State) -> dict[str, Any]:
    """What closes or reopens. Any word but exactly ``closed`` reopens, so only the two right ones leave here."""
    return {"state": "closed" if state == "closed" else "open"}


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
    return IssueRef(remote_id=str(number), key=str(number), url=_address(raw.get("html_url")))


class Falling:
    """Whether a list of issues comes in the order of falling numbers; one that shows up again changes nothing.

    One issue alone has no order yet.
    """

    def __init__(self) -> None:
        self._lowest: float = math.inf
        self._seen: set[int] = set()
        self._falls = True

    def still(self, ref: IssueRef | None) -> bool:
        """Whether it does, this next one included."""
        number = int(ref.remote_id) if ref is not None else -1
        if number not in self._seen:
            self._falls = self._falls and 0 < number < self._lowest
            self._seen.add(number)
            self._lowest = number
        return self._falls and len(self._seen) > 1


def comment_ref(raw: object) -> CommentRef | None:
    """Which comment a JSON object speaks of, None if it is no comment."""
    if not isinstance(raw, dict):
        return None
    number = raw.get("id")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 2**63:
        return None
    return CommentRef(remote_id=str(number), url=_address(raw.get("html_url")))


def issue_seen(raw: object, *, by: Actor | None = None) -> IssueState | None:
    """How an issue stands, None for a pull request and for what is no issue. ``by``: who made the news."""
    ref = issue_ref(raw)
    if ref is None or not isinstance(raw, dict) or raw.get("pull_request") is not None:
        return None
    return IssueState(
        ref=ref,
        state="closed" if raw.get("state") == "closed" else "open",
        version=moment(raw.get("updated_at")),
        actor=by,
        author=actor(raw.get("user") or raw.get("poster")),
        markers=markers_in(raw.get("body")),
    )


def author_id(raw: object) -> int | None:
    """The account id of who wrote an issue or a comment."""
    user = raw.get("user") if isinstance(raw, dict) else None
    found = user.get("id") if isinstance(user, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def moment(text: object) -> dt.datetime | None:
    """A time of the API's, None for anything else; Go's zero time counts as none."""
    if not isinstance(text, str):
        return None
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    if found.year < 1970:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC)


def _address(value: object) -> str:
    """A web address out of a stranger's JSON, empty for anything else."""
    if isinstance(value, str) and value.startswith(("https://", "http://")) and len(value) <= 2000:
        return clean(value)
    return ""


def word(value: object, limit: int = 80) -> str:
    """A short piece of a stranger's text, fit to be shown in a sentence; empty for what is no text."""
    if not isinstance(value, str):
        return ""
    return "".join(c for c in clean(value[: limit * 2]) if c.isprintable())[:limit]


def actor(account: object) -> Actor | None:
    """An account of the server's: its id, which a change of login leaves alone, and its login as the name."""
    if not isinstance(account, dict):
        return None
    name = word(account.get("login") or account.get("username"), 100)
    number = account.get("id")
    if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 2**63:
        return Actor(str(number), name)
    return Actor(name, name) if name else None


# -- what was left out -------------------------------------------------------------------------------------------


def notes_of_draft(draft: Draft) -> list[str]:
    """What of a draft Forgejo can't have, in words."""
    notes = []
    if len(_one_line(draft.title).encode()) > TITLE_BYTES:
        notes.append(f"the title was longer than {TITLE_BYTES} bytes and is cut")
    if _CUT in marked(draft.body, draft.marker) and _CUT not in draft.body:
        notes.append(f"the text was longer than {BODY_BYTES} bytes and is cut")
    for label in draft.labels:
        if not label_names([label]):
            shown = word(label, 60) or "(empty)"
            notes.append(f"label {shown!r} left out: names have 1 to {LABEL_CHARACTERS} characters")
    return notes


def dropped_labels(raw: object, label_ids: Mapping[str, int]) -> list[str]:
    """Names of labels that were sent with a create and are not in its answer."""
    had = {label.get("id") for label in _objects(raw, "labels")}
    return [name for name, number in label_ids.items() if number not in had]


def dropped_assignees(raw: object, assignees: Sequence[str]) -> list[str]:
    """Logins that were sent with a create and are not in its answer."""
    had = logins(_objects(raw, "assignees"))
    return [login for login in assignees if login.casefold() not in had]


def title_differs(raw: object, title: str) -> bool:
    """Whether the server kept another title than it was sent. An answer without one tells nothing."""
    kept = raw.get("title") if isinstance(raw, dict) else None
    return isinstance(kept, str) and kept.strip() != title.strip()


def logins(accounts: Iterable[dict[str, Any]]) -> set[str]:
    """The logins of accounts, whatever their case."""
    return {login.casefold() for one in accounts if isinstance(login := one.get("login"), str)}


def _objects(raw: object, key: str) -> list[dict[str, Any]]:
    found = raw.get(key) if isinstance(raw, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
