"""Render pages from templates that escape all values, with the security headers of the console."""

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
"""The static files that are served, with their media types."""


def html(template: str, values: Mapping[str, Any], *, path: str, status: int = 200) -> web.Response:
    """Return a page as a response. ``path`` is the path of the request, to which the page's links are relative."""
    return web.Response(
        status=status,
        text=render(template, values, path=path),
        content_type="text/html",
        charset="utf-8",
        headers=HEADERS,
    )


def render(template: str, values: Mapping[str, Any], *, path: str = "/console/") -> str:
    """Return a page as text."""
    return _environment().get_template(template).render(root=root(path), **values)


def root(path: str) -> str:
    """Return the relative path from a page to the console's root, so that pages work behind a proxy with a prefix."""
    _, _, below = path.partition("/console/")
    return "../" * below.count("/") or "./"


@cache
def static(name: str) -> bytes:
    """Return the content of a static file."""
    return (files("pointsman.console") / "static" / name).read_bytes()


def when(at: dt.datetime | None) -> Markup:
    """Return a time in UTC, readable for people and programs."""
    if at is None:
        return Markup('<span class="quiet">–</span>')
    utc = at.astimezone(dt.UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        f"{utc:%Y-%m-%dT%H:%M:%SZ}", f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    )


def coded(text: str) -> Markup:
    """Return a sentence with the parts between backticks marked as code."""
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
    # changed style sheets get a new address, so that browsers can cache them
    sheets = b"".join(static(name) for name in sorted(STATIC))
    environment.globals["stamp"] = hashlib.sha256(sheets).hexdigest()[:12]
    return environment
