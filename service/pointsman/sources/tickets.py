"""Read support requests and comments from an application that customers use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from pointsman.plugin_api import Person, PluginSettings, Report, Source, Unreadable
from pointsman.plugin_api.helpers import ascii_mail_address

_MISSING_FIELD = re.compile(r"missing required field `(\w+)`")
_ERROR_PATH = re.compile(r" - at `\$\.?(.*)`$")

TITLE_LIMIT = 500
TEXT_LIMIT = 100_000


class TicketsSettings(PluginSettings, frozen=True, kw_only=True):
    """Settings of a tickets source; there are none yet."""


class PersonBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Person who asked or commented."""

    email: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if self.email:
            try:
                ascii_mail_address(self.email)
            except ValueError as error:
                raise ValueError(f"email {error}") from None
        if len(self.name) > 200:
            raise ValueError("name has more than 200 characters")


class TicketBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A support request."""

    title: str
    description: str = ""
    reporter: PersonBody = PersonBody()

    def __post_init__(self) -> None:
        if not self.title.strip():
            raise ValueError("title is empty")
        if len(self.title) > TITLE_LIMIT:
            raise ValueError(f"title has more than {TITLE_LIMIT} characters")
        if len(self.description) > TEXT_LIMIT:
            raise ValueError(f"description has more than {TEXT_LIMIT} characters")


class CommentBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A comment on a ticket."""

    body: str
    author: PersonBody = PersonBody()

    def __post_init__(self) -> None:
        if not self.body.strip():
            raise ValueError("body is empty")
        if len(self.body) > TEXT_LIMIT:
            raise ValueError(f"body has more than {TEXT_LIMIT} characters")


class Tickets(Source[TicketsSettings]):
    """Source kind for a help form or a customer-facing application."""

    kind: ClassVar[str] = "tickets"
    title: ClassVar[str] = "Support tickets"
    api_version: ClassVar[int] = 1
    Settings = TicketsSettings
    ticket_kind: ClassVar[Literal["alert", "support"]] = "support"
    owns_tickets: ClassVar[bool] = True

    def read_report(self, headers: Mapping[str, str], body: bytes, decoded: Any) -> Sequence[Report]:
        """Return the request as one report. The sender's idempotency key, not a fingerprint, identifies repeats."""
        del headers, body
        ticket = convert_body(decoded, TicketBody)
        return [
            Report(
                action="opened",
                fingerprint="",
                title=ticket.title,
                text=ticket.description,
                person=Person(email=ticket.reporter.email, name=ticket.reporter.name),
            )
        ]


_TRIMMED = frozenset({"title", "email", "name"})
_PERSONS = frozenset({"reporter", "author"})


def _cleaned(decoded: Any) -> Any:
    """Return a body without the fields that are null, which say nothing, and without blanks around short texts."""
    if not isinstance(decoded, dict):
        return decoded
    cleaned = {}
    for name, value in decoded.items():
        if name in _PERSONS:
            cleaned[name] = _cleaned(value)
        elif name in _TRIMMED and isinstance(value, str):
            cleaned[name] = value.strip(" \t")
        else:
            cleaned[name] = value
    return {name: value for name, value in cleaned.items() if value is not None}


def convert_body(decoded: Any, kind: type[Any]) -> Any:
    """Convert a decoded body to one of the classes above. Raises Unreadable that names the field."""
    try:
        return msgspec.convert(_cleaned(decoded), kind)
    except msgspec.ValidationError as error:
        text = str(error)
        path = _ERROR_PATH.search(text)
        message = text[: path.start()] if path else text
        if lacking := _MISSING_FIELD.search(message):
            inside = path[1].strip(".") if path else ""
            field = f"{inside}.{lacking[1]}" if inside else lacking[1]
            raise Unreadable(f"{lacking[1]} is missing", field=field) from None
        # messages of our own checks start with the field's name
        where = [path[1].strip(".")] if path and path[1].strip(".") else []
        if message.partition(" ")[0] in {"title", "description", "body", "email", "name"}:
            where.append(message.partition(" ")[0])
        raise Unreadable(message, field=".".join(where)) from None
