"""Requests that specifications and common senders make: content types, empty bodies, the handshake of CloudEvents."""

from __future__ import annotations

from configuration import SOURCES
from service_fixture import RunningService
from source_examples import BINARY

TOKEN = "events-token-of-the-tests"
CONFIG = (
    SOURCES
    + f"""
[[source]]
slug = "events"
kind = "cloudevents"
token = "{TOKEN}"

[[source]]
slug = "any"
kind = "generic"
token = "{TOKEN}"
settings = {{ title = "title" }}
"""
)


async def test_an_event_without_data_is_a_report(service: RunningService):
    async with service.replica(CONFIG):
        accepted = await service.call(
            "POST", "/intake/events", token=TOKEN, status=202, headers=BINARY, data=b""
        )
        assert (await service.ticket(accepted["ticket"]))["title"] == "main"
        headers = {"Content-Type": "application/json"}
        await service.call("POST", "/intake/events", token=TOKEN, status=422, headers=headers, data=b"")
        await service.call("POST", "/intake/any", token=TOKEN, status=400, headers=headers, data=b"")


async def test_json_may_be_labelled_as_plain_text(service: RunningService):
    async with service.replica(CONFIG):
        for content_type in ("text/plain; charset=UTF-8", "application/vnd.example+json", "application/json"):
            headers = {"Content-Type": content_type}
            for body, status in ((b'{"title": "t"}', 202), (b"title", 400)):
                await service.call(
                    "POST", "/intake/any", token=TOKEN, status=status, data=body, headers=headers
                )
        headers = {"Content-Type": "text/html"}
        await service.call("POST", "/intake/any", token=TOKEN, status=415, data=b"{}", headers=headers)


async def test_the_handshake_of_cloudevents_needs_the_token(service: RunningService):
    origin = {"WebHook-Request-Origin": "eventemitter.example.com"}
    async with service.replica(CONFIG):
        async with service.client.options(f"/intake/events/{TOKEN}", headers=origin) as response:
            assert response.status == 200
            assert response.headers["WebHook-Allowed-Origin"] == "*"
            assert response.headers["WebHook-Allowed-Rate"] == "*"
        async with service.client.options(f"/intake/events/{TOKEN}") as response:
            assert (response.status, response.headers["Allow"]) == (200, "POST, OPTIONS")
            assert "WebHook-Allowed-Origin" not in response.headers
        async with service.client.options("/intake/events/wrong", headers=origin) as response:
            assert response.status == 401
