"""From values to a page: templates that escape everything, and the headers of every answer of the console."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pointsman.content.sanitize import clean, one_line
from pointsman.domain.states import TicketStatus
from pointsman.operations.outcomes import destination_label

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}

_WEB_URL = re.compile(r"https?://[^\s/?#<>\"'`\\]+([/?#][^\s<>\"'`\\]*)?", re.IGNORECASE)

STATIC: Mapping[str, str] = {"console.css": "text/css", "views.css": "text/css", "icon.svg": "image/svg+xml"}
"""The files that are served, with their types; there are no others."""


def html(template: str, values: Mapping[str, Any], *, path: str, status: int = 200) -> web.Response:
    """A page as an answer. ``path`` is where it stands, so that its links can be relative."""
    return web.Response(
        status=status,
        text=render(template, values, path=path),
        content_type="text/html",
        charset="utf-8",
        headers=HEADERS,
    )


def render(template: str, values: Mapping[str, Any], *, path: str = "/console/") -> str:
    """A page as text."""
    return _environment().get_template(template).render(root=root(path), **values)


def root(path: str) -> str:
    """The console's root, seen from one of its pages: pages work behind a proxy that serves us under a prefix."""
    _, _, below = path.partition("/console/")
    return "../" * below.count("/") or "./"


@cache
def static(name: str) -> bytes:
    """One of the static files."""
    return (files("pointsman.console") / "static" / name).read_bytes()


def when(at: dt.datetime | None) -> Markup:
    """A time in UTC, for people and for programs."""
    if at is None:
        return Markup('<span class="quiet">–</span>')
    utc = at.astimezone(dt.UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        f"{utc:%Y-%m-%dT%H:%M:%SZ}", f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    )


def coded(text: str) -> Markup:
    """A sentence whose parts between backticks are commands."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else part for number, part in enumerate(parts)
    )


def web_url(url: object) -> str:
    """Return the URL if a browser may follow it: http or https, with a host and no hidden characters. Else empty."""
    if not isinstance(url, str) or clean(url) != url or not _WEB_URL.fullmatch(url):
        return ""
    return url


def _title(text: str) -> str:
    return one_line(text, 300) or "(no title)"


def _took(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pointsman.console", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        when=when,
        title_text=_title,
        took=_took,
        plain=clean,
        coded=coded,
        destination_label=destination_label,
        web_url=web_url,
        status_name=lambda status: TicketStatus(status).name.lower(),
    )
    # new style sheets have a new address, so that browsers may keep the old ones
    sheets = b"".join(static(name) for name in sorted(STATIC))
    environment.globals["stamp"] = hashlib.sha256(sheets).hexdigest()[:12]
    return environment
