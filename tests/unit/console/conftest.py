"""Fixtures of the console's tests."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import TestClient, TestServer

from console_pages import Stored
from pointsman import console
from pointsman.console import handlers
from pointsman.operations import destinations as destination_list
from pointsman.operations import tickets as ticket_list
from pointsman.operations.history.build import build_history
from pointsman.web.routes import application


@pytest.fixture
def stored(monkeypatch):
    stored = Stored()

    async def page(_, **asked):
        if stored.fails is not None:
            raise stored.fails
        stored.asked = asked
        return stored.tickets[: asked["limit"]]

    async def links(*_):
        return stored.links

    async def list_status(_):
        return stored.destinations

    async def ticket_history(*_, **__):
        return build_history(stored.history, stored.routes, {}) if stored.history is not None else None

    monkeypatch.setattr(ticket_list.store, "read_summaries", page)
    monkeypatch.setattr(ticket_list.store, "read_links", links)
    monkeypatch.setattr(destination_list.store, "list_status", list_status)
    monkeypatch.setattr(handlers.lookup, "ticket_history", ticket_history)
    return stored


@pytest.fixture
async def client_of():
    clients = []

    async def make(ctx):
        client = TestClient(TestServer(application(ctx, console.routes())))
        await client.start_server()
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()
