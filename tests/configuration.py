"""Configuration texts that integration tests share: sources, a destination, a route."""

from __future__ import annotations

from typing import Protocol

ADMIN = "admin-token-of-the-tests"
SHOP, HELPDESK = "shop-token-of-the-tests", "helpdesk-token-of-the-tests"
WEBHOOK_SECRET = "webhook-secret-of-the-tests"

SOURCES = f"""
[[source]]
slug = "shop"
kind = "bugsink"
token = "{SHOP}"
[[source]]
slug = "helpdesk"
kind = "tickets"
token = "{HELPDESK}"
"""


class FakeTracker(Protocol):
    """A test double of a tracker, reached at ``url`` with ``token``."""

    url: str
    token: str


def tracker_destination(
    tracker: FakeTracker, slug: str = "there", *, kind: str = "forgejo", more: str = "", settings: str = ""
) -> str:
    """Return the table of a destination; ``more`` and ``settings`` are lines added to it and to its settings."""
    return f"""
[[destination]]
slug = "{slug}"
tracker = "{kind}"
{more}
[destination.settings]
url = "{tracker.url}"
token = "{tracker.token}"
repository = "acme/shop"
{settings}
"""


def route(slug: str = "there", lines: str = "") -> str:
    """Return the table of a route to a destination."""
    return f'\n[[route]]\ndestination = "{slug}"\n{lines}\n'


def folder_destination(path: object, slug: str = "there") -> str:
    """Return the table of a destination that writes files into a folder."""
    return (
        f'\n[[destination]]\nslug = "{slug}"\ntracker = "folder"\n[destination.settings]\npath = "{path}"\n'
    )
