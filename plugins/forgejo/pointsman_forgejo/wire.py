"""What goes to Forgejo and what comes from it, as pure functions: text, request bodies, answers, webhooks.

Gitea speaks the same language with ``X-Gitea-`` instead of ``X-Forgejo-`` headers.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pointsman.plugin_api import (
    Actor,
    Answer,
    CommentRef,
    Draft,
    Ignored,
    IssueGone,
    IssueRef,
    IssueSeen,
    Marker,
    Misconfigured,
    PluginError,
    Refused,
    State,
    UnknownOutcome,
    WebhookNews,
    hmac_sha256_matches,
)

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
    line = " ".join(clean(text).split()) or "(no title)"
    data = line.encode()
    if len(data) <= TITLE_BYTES:
        return line
    return data[: TITLE_BYTES - len("…".encode())].decode("utf-8", "ignore").rstrip() + "…"


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


def comment_ref(raw: object) -> CommentRef | None:
    """Which comment a JSON object speaks of, None if it is no comment."""
    if not isinstance(raw, dict):
        return None
    number = raw.get("id")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 2**63:
        return None
    return CommentRef(remote_id=str(number), url=_address(raw.get("html_url")))


def issue_seen(raw: object, *, actor: Actor | None = None) -> IssueSeen | None:
    """How an issue stands, None for a pull request and for what is no issue."""
    ref = issue_ref(raw)
    if ref is None or not isinstance(raw, dict) or raw.get("pull_request") is not None:
        return None
    return IssueSeen(
        ref=ref,
        state="closed" if raw.get("state") == "closed" else "open",
        version=moment(raw.get("updated_at")),
        actor=actor,
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


def _word(value: object, limit: int = 80) -> str:
    """A short piece of a stranger's text, fit to be shown in a sentence; empty for what is no text."""
    if not isinstance(value, str):
        return ""
    return "".join(c for c in clean(value[: limit * 2]) if c.isprintable())[:limit]


def message_of(answer: Answer) -> str:
    """The server's own words about an error, empty if it had none (some answers of 403 have no body)."""
    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        return ""
    message = said.get("message") if isinstance(said, dict) else None
    return _word(message, 300)


def problem(answer: Answer, doing: str, *, sent: Mapping[str, Any] | None = None) -> PluginError:
    """The error an answer stands for. ``sent`` is the body of a create, where an error proves less.

    Statuses by call stand in the server's own ``/api/swagger``, https://forgejo.org/docs/latest/user/api-usage/. What an error leaves behind was read in the server's source,
    ``routers/api/v1/repo/issue.go``: assignees are added and ``closed`` is applied after the insert.
    """
    said = message_of(answer)
    failed = f"could not {doing}" + (f": {said}" if said else "")
    status, excerpt = answer.status, answer.text()
    if status in (301, 302, 303, 307, 308):
        # Issues do not move between Forgejo repositories: a redirect means that the repository was renamed.
        where = _word(answer.headers.get("location", ""), 200)
        return Misconfigured(
            f"{failed}: the repository has another name now ({where}): set `repository` to it",
            status=status,
            excerpt=excerpt,
        )
    if sent is not None and (status == 412 or (status == 400 and sent.get("assignees"))):
        return UnknownOutcome(f"{failed}: the issue may exist all the same", status=status, excerpt=excerpt)
    if status == 412:
        return Refused(failed, fields={"state": said}, status=status, excerpt=excerpt)
    if status == 403 and "locked" in said:
        return Refused(f"{failed}: the issue is locked", status=status, excerpt=excerpt)
    if status == 403 and "scope" in said:
        return Misconfigured(f"{failed}: give the token that scope", status=status, excerpt=excerpt)
    if status == 423:
        return Misconfigured(f"{failed}: the repository is archived", status=status, excerpt=excerpt)
    return answer.problem(failed, fields={_field_of(said): said} if said else None)


def _field_of(message: str) -> str:
    """The field a 422 is about, as far as the message tells: ``[Title]: Required``."""
    named = re.match(r"\[(\w{1,40})\]", message)
    if named:
        return named[1].lower()
    lowered = message.lower()
    return next((field for field in ("assignee", "label", "title", "body") if field in lowered), "message")


# -- webhooks: https://forgejo.org/docs/latest/user/webhooks/ -------------------------------------------------------


def signature_fits(headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
    """Whether the body was signed with one of the secrets.

    The signature is the bare hexadecimal HMAC-SHA256. Under content type ``form`` it is made over the decoded field
    and not over the body: such a call is refused. The ``X-Hub-`` headers, sent for GitHub's receivers, are not read.
    """
    given = headers.get("x-forgejo-signature", headers.get("x-gitea-signature"))
    fits = hmac_sha256_matches(body, given, secrets)
    return fits and "x-www-form-urlencoded" not in headers.get("content-type", "").lower()


def delivery_id(headers: Mapping[str, str]) -> str | None:
    """The id of this call. A replay by hand comes with a new one."""
    found = headers.get("x-forgejo-delivery") or headers.get("x-gitea-delivery") or ""
    return _word(found, 100) or None


_STATE_AFTER: dict[str, State] = {"closed": "closed", "reopened": "open", "opened": "open"}


def read(headers: Mapping[str, str], body: bytes, repository: str) -> WebhookNews:
    """What a webhook call says about issues of this repository; any bytes come to a decision.

    Without an event header (a call sent by hand, say) the body decides. Gitea also tells of deletion, Forgejo does not.
    """
    event = headers.get("x-forgejo-event") or headers.get("x-gitea-event") or ""
    if event not in ("", "issues"):
        return Ignored(f"event {_word(event)}: only changes of issues count")
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return Ignored("the body is not JSON: set the webhook's content type to application/json")
    if not isinstance(payload, dict):
        return Ignored("the body is not a JSON object")
    elsewhere = _other_repository(payload, repository)
    if elsewhere:
        return Ignored(f"another repository: {elsewhere}")
    if payload.keys() & {"comment", "pull_request"}:
        return Ignored("a comment or a pull request: only changes of issues count")
    return _read_action(payload)


def _read_action(payload: dict[str, Any]) -> WebhookNews:
    action = payload.get("action")
    seen = issue_seen(payload.get("issue"), actor=_actor(payload.get("sender")))
    if not isinstance(action, str) or not (action in _STATE_AFTER or action == "deleted"):
        return Ignored(f"action {_word(action) or '(none)'}: does not open, close or reopen an issue")
    if seen is None:
        return Ignored(f"action {action}: without an issue in it")
    if action == "deleted":
        return IssueGone(ref=seen.ref, actor=seen.actor)
    # "opened" keeps what the issue says: it can be born closed. The other two are news of exactly that change.
    state = seen.state if action == "opened" else _STATE_AFTER[action]
    return IssueSeen(ref=seen.ref, state=state, version=seen.version, actor=seen.actor, markers=seen.markers)


def _other_repository(payload: dict[str, Any], repository: str) -> str:
    """The repository's name if the call is about another one, empty if it is ours or not named."""
    found = payload.get("repository")
    name = found.get("full_name") if isinstance(found, dict) else None
    if not isinstance(name, str) or name.casefold() == repository.casefold():
        return ""
    return _word(name, 200) or "(nameless)"


def _actor(sender: object) -> Actor | None:
    """Who did it: the account's id, and its login as the name."""
    if not isinstance(sender, dict):
        return None
    login = sender.get("login") or sender.get("username")
    name = _word(login, 100)
    number = sender.get("id")
    if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 2**63:
        return Actor(str(number), name)
    return Actor(name, name) if name else None
