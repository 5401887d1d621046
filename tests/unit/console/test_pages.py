"""Test links, times and relative addresses of the console's pages."""

from __future__ import annotations

import datetime as dt

import pytest

from pointsman.console import pages
from pointsman.console.pages import web_url


@pytest.mark.parametrize(
    "url",
    [
        "http://git.example",
        "https://git.example/a/b?c=d&e=f#g",
        "HTTPS://git.example:3000/ä",
        "http://[::1]:8080/x",
    ],
)
def test_a_web_address_is_linked(url):
    assert web_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        None,
        "file:///var/lib/issues/1.md",
        "javascript:alert(1)",
        "JavaScript:alert(1)//https://x",
        "data:text/html,x",
        "//git.example/x",
        "/console/",
        "https://",
        "https:///x",
        "https://x\n.example/",
        "https://x.example/\u202e",
        'https://x.example/" onmouseover="x',
        " https://x.example",
        "https://x.example\\@evil.example",
        "vbscript:x",
    ],
)
def test_anything_else_is_no_link(url):
    assert web_url(url) == ""


def test_times_are_utc_for_people_and_programs():
    cet = dt.timezone(dt.timedelta(hours=1))
    assert pages.when(dt.datetime(2026, 11, 21, 21, 15, 3, 999, tzinfo=cet)) == (
        '<time datetime="2026-11-21T20:15:03Z">2026-11-21 20:15:03 UTC</time>'
    )
    assert "–" in pages.when(None)


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/console/", "./"),
        ("/console/destinations", "./"),
        ("/console/tickets/1", "../"),
        ("/console/a/b/c", "../../"),
    ],
)
def test_links_are_relative_to_the_page(path, root):
    assert pages.root(path) == root
