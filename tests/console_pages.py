"""Stubs and checks for the console's pages, served by a test client without a database."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

from pointsman.config.settings import Settings
from pointsman.console import pages
from pointsman.crypto import sha256
from pointsman.domain.routing import Route
from pointsman.storage.destinations import DestinationStatusRow
from pointsman.storage.explain import HistoryRows
from pointsman.web.admission import AdmissionControl
from pointsman.web.metrics import Metrics
from pointsman.web.refusals import Refusals
from ticket_rows import (
    TICKET,
)

TOKEN = "the operators' token: ä"


class Tags(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def links(self) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == "a"]


ALLOWED_TAGS = set(
    re.findall(
        r"\w+",
        "html head meta title link body header main nav section h1 h2 h3 p div span a img ul ol li dl dt dd table"
        " caption thead tbody tr th td code pre time details summary strong var",
    )
)


def expect_harmless(page: str) -> Tags:
    """Only our own tags, no event handlers, no inline code, and links that a browser may follow."""
    tags = Tags(page)
    for tag, attrs in tags.tags:
        assert tag in ALLOWED_TAGS, tag
        assert not [name for name in attrs if name.startswith("on") or name in ("style", "autofocus")], attrs
        for name in ("href", "src"):
            value = attrs.get(name) or ""
            assert re.match(r"(https?://|\.\.?/|\?|tickets/|destinations$|#main$|$)", value), value
            if value.startswith("http"):
                assert "noreferrer" in (attrs["rel"] or "")
    return tags


class Stored:
    """What the stubs of storage return, and what they were called with."""

    def __init__(self) -> None:
        self.tickets: list[dict] = []
        self.links: list[dict] = []
        self.destinations: list[DestinationStatusRow] = []
        self.history: HistoryRows | None = None
        self.routes: list[Route] = []
        self.asked: dict = {}
        self.fails: Exception | None = None


def fake_services(
    *, token: str | None = TOKEN, base_url="https://pointsman.example", sources=(), routes=(), live=()
):
    snapshot = SimpleNamespace(
        sources=dict.fromkeys(sources), destinations=dict(enumerate(live)), routes=routes
    )
    return SimpleNamespace(
        settings=Settings(
            data_dir=Path("unused"), admin_token_sha256=sha256(token.encode()) if token is not None else None
        ),
        base_url=base_url,
        database=object(),
        read_pool=object(),
        admission=AdmissionControl(
            100, pool_size=10, webhook_max_bytes=1, intake_max_bytes=1, max_per_address=0
        ),
        connections=SimpleNamespace(guard_of=lambda _: None, draining=False),
        draining=False,
        metrics=Metrics(),
        refusals=Refusals(),
        config=SimpleNamespace(current=snapshot),
    )


def password(text: str, user: str = "anyone") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{text}".encode()).decode()}


async def get(client, path, headers=None, status=200):
    """A page's text; every answer has the console's headers."""
    response = await client.get(
        path, headers=password(TOKEN) if headers is None else headers, allow_redirects=False
    )
    text = await response.text()
    assert response.status == status, text
    for name, value in pages.HEADERS.items():
        if name != "Cache-Control" or "/static/" not in path:
            assert response.headers[name] == value
    assert "Set-Cookie" not in response.headers
    return text, response.headers


PAGES = [
    "/console/",
    "/console/destinations",
    f"/console/tickets/{TICKET}",
    "/console/tickets/none",
    "/console/odd",
]
