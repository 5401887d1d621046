"""Limits of request bodies: what the documentation says is accepted in any encoding of JSON."""

from __future__ import annotations

import io
import json

import pytest

from configuration import ADMIN, SOURCES
from service_fixture import RunningService


@pytest.mark.parametrize(
    ("letter", "ascii_only"), [("界", False), ("я", True), ("\N{FIRE}", True), ("x", True)]
)
async def test_a_description_of_100000_characters_is_accepted(
    service: RunningService, letter: str, ascii_only: bool
):
    ticket = {"title": "It fails", "description": letter * 100_000}
    async with service.replica(SOURCES):
        headers = {"Content-Type": "application/json"}
        await service.call(
            "POST",
            "/api/v1/tickets?source=helpdesk",
            token=ADMIN,
            status=201,
            data=io.BytesIO(json.dumps(ticket, ensure_ascii=ascii_only).encode()),
            headers=headers,
        )
