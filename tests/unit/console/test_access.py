"""Test who sees the console, and its headers."""

from __future__ import annotations

import pytest

from console_pages import PAGES, TOKEN, fake_services, get, password
from pointsman.console import pages
from ticket_rows import (
    TICKET,
    listed_ticket,
)


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        password("wrong"),
        password(""),
        password("", user=TOKEN),
        {"Authorization": f"Bearer {TOKEN}".encode().decode("latin-1")},
        {"Authorization": "Basic %%%"},
        {"Authorization": "Basic"},
    ],
    ids=["none", "wrong", "empty", "as user", "bearer", "not base64", "nothing"],
)
async def test_without_the_password_there_is_nothing_to_see(stored, client_of, path, headers):
    stored.tickets = [listed_ticket(title="a secret title")]
    text, answered = await get(await client_of(fake_services()), path, headers, 401)
    assert answered["WWW-Authenticate"] == 'Basic realm="Pointsman", charset="UTF-8"'
    assert "secret" not in text
    assert "<nav" not in text


@pytest.mark.parametrize("path", PAGES)
async def test_without_a_token_in_the_settings_the_console_is_off_and_says_how_to_switch_it_on(
    stored, client_of, path
):
    text, answered = await get(await client_of(fake_services(token=None)), path, password(""), 403)
    assert "POINTSMAN_ADMIN_TOKEN" in text
    assert "WWW-Authenticate" not in answered


@pytest.mark.parametrize("user", ["", "operator", "ä"])
async def test_any_user_name_will_do(stored, client_of, user):
    await get(await client_of(fake_services()), "/console/", password(TOKEN, user))


@pytest.mark.parametrize(
    ("base_url", "goes_to"),
    [("https://pointsman.example", "/console/"), ("https://example.org/alerts", "/alerts/console/")],
)
async def test_the_root_leads_to_the_console(client_of, base_url, goes_to):
    client = await client_of(fake_services(base_url=base_url))
    for path in ("/", "/console"):
        _, headers = await get(client, path, {}, 302)
        assert headers["Location"] == goes_to


@pytest.mark.parametrize(
    "path",
    [
        "/console/tickets/none",
        f"/console/tickets/{TICKET}",
        "/console/tickets/1%2F2",
        "/console/odd/er",
        "/console/tickets/%00",
    ],
)
async def test_what_is_not_there_is_a_page_that_says_so(stored, client_of, path):
    text, _ = await get(await client_of(fake_services()), path, status=404)
    assert "There is no such" in text


async def test_styles_are_kept_by_browsers_and_need_no_password(client_of):
    client = await client_of(fake_services(token=None))
    for name, kind in pages.STATIC.items():
        text, headers = await get(client, f"/console/static/{name}", {})
        assert headers["Content-Type"].startswith(kind)
        assert headers["Cache-Control"] == "public, max-age=86400"
        assert "url(" not in text
        assert "@import" not in text
    for name in ("..%2Fhandlers.py", "other.css", "%2Fetc%2Fpasswd"):
        await get(client, f"/console/static/{name}", {}, 404)


@pytest.mark.parametrize("path", PAGES)
async def test_nothing_can_be_changed_here(stored, client_of, path):
    client = await client_of(fake_services())
    response = await client.post(path, headers=password(TOKEN))
    assert response.status == 405
