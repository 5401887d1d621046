"""Define the values and filters of templates: untrusted texts are objects that become escaped Markdown when output."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jinja2
import msgspec

from pointsman.content import render, sanitize
from pointsman.domain.states import TicketKind

MAX_ITEMS = 100
"""Maximum number of tags, or of lines of a text, in a template."""
WORK_LIMIT = 1_000_000
"""Maximum number of characters that one rendering may process, since filters may stand in loops."""
FACT_LIMIT = 1_000

TICKET_FIELDS = ("id", "page", "kind", "source", "title")
EVENT_FIELDS = ("kind", "at")
REQUESTER_FIELDS = ("name", "address")
VARIABLES = (
    *("ticket", "event", "title", "text", "code", "tags", "facts", "level", "environment", "release", "url"),
    *("occurrences", "earlier", "author", "reason", "requester"),
)
JOINER = "\u2060"
_PIECES = re.compile(r"\\(.)|`([^`]+)`|\]", re.DOTALL)
"""Pieces of escaped Markdown: escapes, code, and a bracket that could close a bracket of the author's."""


class TemplateContext(msgspec.Struct, frozen=True, kw_only=True):
    """Ticket and event that a template shows, without secrets. ``earlier``: number of events coalesced into this one."""

    ticket: render.TicketText
    event_kind: str
    at: dt.datetime | None = None
    data: Mapping[str, Any] = {}
    level: str = ""
    environment: str = ""
    release: str = ""
    url: str = ""
    occurrences: int = 1
    earlier: int = 0
    requester_name: str = ""
    requester_address: str = ""


class RenderOutput:
    """State of one rendering: values output as code and as links, for verification, and the remaining work."""

    def __init__(self, *, plain: bool) -> None:
        self.plain = plain
        self.code: list[str] = []
        self.links: list[str] = []
        self._left = WORK_LIMIT

    def spend(self, characters: int) -> None:
        """Count processed characters. Raises OverflowError above the limit."""
        self._left -= characters + 20
        if self._left < 0:
            raise OverflowError("it does too much")


class UntrustedText:
    """Text from outside. Operations use the raw text; its output is escaped."""

    __slots__ = ("_form", "_output", "_raw")

    def __init__(self, raw: str, output: RenderOutput, form: str = "line") -> None:
        self._raw = raw
        self._output = output
        self._form = form

    def __str__(self) -> str:
        raw, output = self._raw, self._output
        output.spend(len(raw))
        if output.plain:
            return sanitize.one_line(raw, 1_000)
        if self._form == "prose":
            return context_safe(sanitize.prose(raw, render.TEXT_LIMIT), output)
        if self._form == "block":
            return block(self)
        return context_safe(sanitize.prose(sanitize.one_line(raw, FACT_LIMIT)), output)

    def __eq__(self, other: object) -> bool:
        self._output.spend(len(self._raw))
        return self._raw == (other._raw if isinstance(other, UntrustedText) else other)

    def __hash__(self) -> int:
        return hash(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __bool__(self) -> bool:
        return bool(self._raw.strip())

    def __contains__(self, other: object) -> bool:
        self._output.spend(len(self._raw))
        return _raw_text(other) in self._raw

    def __getitem__(self, index: object) -> UntrustedText:
        if not isinstance(index, (slice, int)):
            raise TypeError("a text has characters alone: text[:100]")
        self._output.spend(len(self._raw))
        return self.like(self._raw[index])

    def __iter__(self) -> Iterator[UntrustedText]:
        raise TypeError("a loop over a text goes over its lines: text | lines")

    def like(self, raw: str) -> UntrustedText:
        """Return another raw text with the same form and output."""
        return UntrustedText(raw, self._output, self._form)


class UntrustedFacts:
    """Facts of a report. Their output is the same list as in the built-in texts."""

    __slots__ = ("_output", "_pairs")

    def __init__(self, pairs: Sequence[Sequence[str]], output: RenderOutput) -> None:
        self._pairs = [(name, value) for name, value in pairs if value][:MAX_ITEMS]
        self._output = output

    def __getitem__(self, name: object) -> UntrustedText:
        wanted = str(name)
        return UntrustedText(", ".join(value for fact, value in self._pairs if fact == wanted), self._output)

    def __iter__(self) -> Iterator[tuple[UntrustedText, UntrustedText]]:
        for name, value in self._pairs:
            yield UntrustedText(name, self._output), UntrustedText(value, self._output)

    def __len__(self) -> int:
        return len(self._pairs)

    def __str__(self) -> str:
        self._output.spend(sum(len(value) for _, value in self._pairs))
        if self._output.plain:
            return sanitize.one_line(", ".join(f"{name}: {value}" for name, value in self._pairs))
        self._output.code += [
            _code_content(sanitize.inline_code(value)) for _, value in self._pairs if len(value) < 20_000
        ]
        return "\n\n" + render.facts(self._pairs) + "\n\n" if self._pairs else ""


def template_variables(context: TemplateContext, output: RenderOutput) -> dict[str, Any]:
    """Return the variables of a template by name."""
    ticket, data = context.ticket, context.data
    if ticket.page:
        output.links.append(ticket.page)

    def untrusted(raw: object, form: str = "line") -> UntrustedText:
        return UntrustedText(str(raw or ""), output, form)

    facts = UntrustedFacts(data.get("facts", ()), output)
    return {
        "ticket": {
            "id": ticket.id,
            "page": ticket.page,
            "kind": TicketKind(ticket.kind).name.lower(),
            "source": ticket.source,
            "title": untrusted(ticket.title),
        },
        "event": {
            "kind": context.event_kind,
            "at": f"{context.at.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC" if context.at else "",
        },
        "title": untrusted(ticket.title),
        "text": untrusted(
            data.get("body") if context.event_kind == "commented" else data.get("text"), "prose"
        ),
        "code": untrusted(data.get("code"), "block"),
        "tags": facts,
        "facts": facts,
        "level": untrusted(context.level),
        "environment": untrusted(context.environment),
        "release": untrusted(context.release),
        "url": untrusted(context.url),
        "occurrences": context.occurrences,
        "earlier": context.earlier,
        "author": untrusted((data.get("author") or {}).get("name")),
        "reason": ticket.close_reason or "",
        "requester": {
            "name": untrusted(context.requester_name),
            "address": untrusted(context.requester_address),
        },
    }


def finalize(value: object) -> str:
    """Return the text of a value that is output. Raises TypeError for objects that are no text."""
    if value is None or isinstance(value, jinja2.Undefined):
        return ""
    if isinstance(value, (str, int, float, UntrustedText, UntrustedFacts)):
        return str(value)
    raise TypeError(f"a {type(value).__name__} is no text; name what is meant in it")


def context_safe(markdown: str, output: RenderOutput) -> str:
    """Make escaped Markdown safe in any context and record its code for verification.

    Without it, a value could form a reference together with a sign of the author's or with another value, or close the
    author's brackets.
    """
    if not markdown:
        return ""

    def kept(piece: re.Match[str]) -> str:
        if piece[2]:
            output.code.append(piece[2])
        return f"\\{piece[0]}" if piece[0] == "]" else piece[0]

    return f"{JOINER}{_PIECES.sub(kept, markdown)}{JOINER}"


# -- filters ---------------------------------------------------------------------------------------------------------


def _raw_text(value: object) -> str:
    if isinstance(value, UntrustedText):
        value._output.spend(len(value._raw))  # noqa: SLF001 - same module
        return value._raw  # noqa: SLF001
    if isinstance(value, (str, int)):
        return str(value)
    if isinstance(value, jinja2.Undefined):
        return ""
    raise TypeError(f"a {type(value).__name__} is no text")


def _text_filter(change: Callable[[str], str]) -> Callable[[object], Any]:
    def changed(value: object) -> Any:
        text = change(_raw_text(value))
        return value.like(text) if isinstance(value, UntrustedText) else text

    return changed


def _code_content(markdown: str) -> str:
    """Return the content of inline code."""
    signs = len(markdown) - len(markdown.lstrip("`"))
    return markdown[signs:-signs]


def block(value: object) -> str:
    """Return a value as a code block with empty lines around it: beside a tag it would not be code."""
    raw = _raw_text(value)
    if not isinstance(value, UntrustedText) or value._output.plain:  # noqa: SLF001
        return raw
    if not raw.strip():
        return ""
    markdown = sanitize.block_code(raw, render.CODE_LIMIT)
    value._output.code.append(markdown.partition("\n")[2].rpartition("\n")[0])  # noqa: SLF001
    return f"\n\n{markdown}\n\n"


def code(value: object) -> str:
    """Return a value as inline code."""
    raw = _raw_text(value)
    if not isinstance(value, UntrustedText) or value._output.plain:  # noqa: SLF001
        return raw
    if not sanitize.one_line(raw):
        return ""
    markdown = sanitize.inline_code(raw, FACT_LIMIT)
    value._output.code.append(_code_content(markdown))  # noqa: SLF001
    return markdown


def link(value: object, label: object = "Open at the source") -> str:
    """Return a URL as a link followed by its host, or as code if it may not be linked."""
    raw = _raw_text(value)
    if not isinstance(value, UntrustedText) or value._output.plain:  # noqa: SLF001
        return raw
    text = (
        str(label)
        if isinstance(label, UntrustedText)
        else sanitize.prose(sanitize.one_line(_raw_text(label), 100))
    )
    value._output.links.append(raw)  # noqa: SLF001
    return sanitize.link(text, raw, shows_host=True)


def truncate(value: object, length: object = 255) -> Any:
    """Return the beginning of a text, with an ellipsis if it was cut."""
    if not isinstance(length, int) or length < 1:
        raise TypeError("truncate needs a number of characters: truncate(100)")
    raw = _raw_text(value)
    shortened = raw if len(raw) <= length else f"{raw[: length - 1].rstrip()}…"
    return value.like(shortened) if isinstance(value, UntrustedText) else shortened


def replace(value: object, old: object, new: object) -> Any:
    """Replace a part of a text."""
    raw, before, after = _raw_text(value), _raw_text(old), _raw_text(new)
    if not before or len(after) > 100:
        raise ValueError("replace needs something to look for, and at most 100 characters to put there")
    replaced = raw.replace(before, after)[: render.TEXT_LIMIT * 2]
    return value.like(replaced) if isinstance(value, UntrustedText) else replaced


def lines(value: object) -> list[Any]:
    """Return the first hundred lines of a text, for a loop."""
    texts = _raw_text(value).splitlines()[:MAX_ITEMS]
    if not isinstance(value, UntrustedText):
        return list(texts)
    return [UntrustedText(line, value._output) for line in texts]  # noqa: SLF001


def default(value: object, other: object = "") -> object:
    """Return ``other`` if the value is empty or undefined."""
    if (
        value is None
        or isinstance(value, jinja2.Undefined)
        or (isinstance(value, (UntrustedText, UntrustedFacts, str)) and not value)
    ):
        return other
    return value


def length(value: object) -> int:
    """Return the number of characters, lines or tags."""
    if isinstance(value, (UntrustedText, UntrustedFacts, str, list)):
        return len(value)
    raise TypeError("length is for texts, lines and tags")


FILTERS: Mapping[str, Callable[..., Any]] = {
    "code": code,
    "block": block,
    "link": link,
    "truncate": truncate,
    "replace": replace,
    "lines": lines,
    "default": default,
    "length": length,
    "upper": _text_filter(str.upper),
    "lower": _text_filter(str.lower),
    "capitalize": _text_filter(str.capitalize),
    "trim": _text_filter(str.strip),
    "line": _text_filter(lambda raw: sanitize.one_line(raw, FACT_LIMIT)),
}
