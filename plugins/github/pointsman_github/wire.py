"""What goes to GitHub and what comes from it, as pure functions: text, request bodies, answers, webhooks."""

from __future__ import annotations

import datetime as dt
import email.utils
import itertools
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pointsman.plugin_api import (
    Actor,
    Answer,
    CloseReason,
    CommentRef,
    Draft,
    Ignored,
    IssueGone,
    IssueRef,
    IssueSeen,
    Marker,
    PluginError,
    RateLimited,
    Refused,
    State,
    WebhookNews,
    hmac_sha256_matches,
)

TITLE_CHARACTERS = 255
"""GitHub answers 422 "title is too long" somewhere above."""
BODY_CHARACTERS = 65536
"""GitHub answers 422 "body is too long (maximum is 65536 characters)" above, for issues and comments."""
LABEL_CHARACTERS = 50
SECONDARY_SECONDS = 60.0
"""How long to wait at least where GitHub names no time,
https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api."""

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
    """How an issue stands, None for a pull request, which GitHub lists among the issues, and for what is no issue."""
    ref = issue_ref(raw)
    if ref is None or not isinstance(raw, dict) or raw.get("pull_request") is not None:
        return None
    state: State = "closed" if raw.get("state") == "closed" else "open"
    return IssueSeen(
        ref=ref,
        state=state,
        close_reason=_REASONS.get(word(raw.get("state_reason"))) if state == "closed" else None,
        version=moment(raw.get("updated_at")),
        actor=actor,
        markers=markers_in(raw.get("body")),
    )


_REASONS: dict[object, CloseReason] = {
    "completed": "completed",
    "not_planned": "not_planned",
    "duplicate": "duplicate",
}


def author_id(raw: object) -> int | None:
    """The account id of who wrote an issue or a comment."""
    user = raw.get("user") if isinstance(raw, dict) else None
    found = user.get("id") if isinstance(user, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


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


def _said(answer: Answer) -> tuple[str, dict[str, str]]:
    """GitHub's words about an error and, for a 422, about single fields.

    ``errors`` holds objects, or texts, or is one text:
    https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api.
    """
    try:
        raw = json.loads(answer.body)
    except (ValueError, RecursionError):
        return "", {}
    if not isinstance(raw, dict):
        return "", {}
    errors = raw.get("errors")
    fields: dict[str, str] = {}
    for error in errors if isinstance(errors, list) else [errors]:
        if isinstance(error, dict):
            field = word(error.get("field")) or "message"
            fields[field] = word(error.get("message"), 300) or word(error.get("code")) or "refused"
        elif isinstance(error, str):
            fields["message"] = word(error, 300)
    return word(raw.get("message"), 300), fields


def refused_fields(answer: Answer) -> frozenset[str]:
    """The fields that a 422 names."""
    return frozenset(_said(answer)[1]) if answer.status == 422 else frozenset()


def problem(answer: Answer, doing: str) -> PluginError:
    """The error an answer stands for.

    Rate limits come as 403 or 429: https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api.
    """
    said, fields = _said(answer)
    failed = f"could not {doing}" + (f": {said}" if said else "")
    if answer.status in (403, 429):
        limited = _rate_limit(answer, failed)
        if limited is not None:
            return limited
    if answer.status == 403:
        if "locked" in said.lower():
            return Refused(f"{failed}: the issue is locked", status=403, excerpt=answer.text())
        needed = word(answer.headers.get("x-accepted-github-permissions", ""), 200)
        if needed:
            failed += f" (the token needs {needed})"
    return answer.problem(failed, fields=fields)


def _rate_limit(answer: Answer, failed: str) -> RateLimited | None:
    """A rate limit, None if the answer is none.

    The secondary limit on making content counts apart from everything else, hence its own scope.
    """
    said = answer.text().lower()
    secondary = "secondary rate" in said or "abuse detection" in said or "submitted too quickly" in said
    spent = answer.headers.get("x-ratelimit-remaining", "").strip() == "0"
    wait = answer.retry_after()
    if wait is None and spent:
        wait = _until_reset(answer)
    if wait is None and secondary:
        wait = SECONDARY_SECONDS
    if wait is None and answer.status != 429:
        return None
    return RateLimited(
        failed,
        retry_after=SECONDARY_SECONDS if wait is None else wait,
        scope="content" if secondary else "all",
        status=answer.status,
        excerpt=answer.text(),
    )


def _until_reset(answer: Answer) -> float | None:
    """Seconds until the limit is full again, by GitHub's own clock where the answer tells it."""
    reset = answer.headers.get("x-ratelimit-reset", "").strip()
    if not (reset.isascii() and reset.isdigit() and len(reset) <= 12):
        return None
    try:
        now = email.utils.parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        now = time.time()
    return min(max(float(reset) - now, 0.0) + 1.0, 86400.0)


# -- webhooks: https://docs.github.com/en/webhooks/webhook-events-and-payloads#issues -------------------------------


def signature_fits(headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
    """Whether the body was signed with one of the secrets.

    The older SHA-1 header is not read:
    https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries.
    """
    method, _, digits = headers.get("x-hub-signature-256", "").partition("=")
    fits = hmac_sha256_matches(body, digits, secrets)
    return fits and method == "sha256"


def delivery_id(headers: Mapping[str, str]) -> str | None:
    """The id of this call. A redelivery comes with the same one."""
    return word(headers.get("x-github-delivery"), 100) or None


_STATE_AFTER: dict[str, State] = {"closed": "closed", "reopened": "open", "opened": "open"}
_GONE = ("deleted", "transferred")


def read(headers: Mapping[str, str], body: bytes, repository: str) -> WebhookNews:
    """What a webhook call says about issues of this repository; any bytes come to a decision.

    Without an event header (a call sent by hand, say) the body decides.
    """
    event = headers.get("x-github-event", "")
    if event == "ping":
        return Ignored("ping: the webhook is set up")
    if event not in ("", "issues"):
        return Ignored(f"event {word(event)}: only changes of issues count")
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
    if not isinstance(action, str) or not (action in _STATE_AFTER or action in _GONE):
        return Ignored(f"action {word(action) or '(none)'}: does not open, close or reopen an issue")
    if seen is None:
        return Ignored(f"action {action}: without an issue in it")
    if action in _GONE:
        return IssueGone(ref=seen.ref, to=_new_address(payload), actor=seen.actor)
    # "opened" keeps what the issue says. The other two are news of exactly that change.
    state = seen.state if action == "opened" else _STATE_AFTER[action]
    return IssueSeen(
        ref=seen.ref,
        state=state,
        close_reason=seen.close_reason if state == "closed" else None,
        version=seen.version,
        actor=seen.actor,
        markers=seen.markers,
    )


def _new_address(payload: dict[str, Any]) -> str:
    """Where a transferred issue went, empty if the call does not tell."""
    changes = payload.get("changes")
    new = changes.get("new_issue") if isinstance(changes, dict) else None
    return _address(new.get("html_url")) if isinstance(new, dict) else ""


def _other_repository(payload: dict[str, Any], repository: str) -> str:
    """The repository's name if the call is about another one, empty if it is ours or not named."""
    found = payload.get("repository")
    name = found.get("full_name") if isinstance(found, dict) else None
    if not isinstance(name, str) or name.casefold() == repository.casefold():
        return ""
    return word(name, 200) or "(nameless)"


def _actor(sender: object) -> Actor | None:
    """Who did it: the account's id, and its login as the name."""
    if not isinstance(sender, dict):
        return None
    name = word(sender.get("login"), 100)
    number = sender.get("id")
    if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 2**63:
        return Actor(str(number), name)
    return Actor(name, name) if name else None
