"""Test hostile values in every parameter, header and field of the OpenAPI document: each is answered, and never with a 5xx."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest

from configuration import ADMIN, HELPDESK, SHOP, SOURCES, WEBHOOK_SECRET
from pointsman.web import openapi
from pointsman.web.routes import ENDPOINTS
from raw_http import Wire
from service_fixture import RunningService
from source_examples import alert

CONFIG = (
    SOURCES
    + f"""
[[destination]]
slug = "my-product"
tracker = "forgejo"
webhook_secrets = ["{WEBHOOK_SECRET}"]
[destination.settings]
url = "http://127.0.0.1:9"
token = "t0ken-of-the-tests"
repository = "acme/shop"
"""
)
DOCUMENT = openapi.document(ENDPOINTS)
DIGITS = b"1" * 5000
IN_ADDRESSES = [
    *(
        b"",
        b".",
        b"..",
        b"%2e%2e",
        b"%2E",
        b"%00",
        b"%ff%fe",
        b"%ed%a0%80",
        b"%0d%0aX:1",
        b"-1",
        b"0",
        b"1.5",
    ),
    *(
        b"1e999",
        b"NaN",
        b"%c2%b2",
        b"%d9%a3",
        b"+1",
        b"%201",
        DIGITS,
        b"%f0%9f%98%80",
        b"..%2f..",
        b"'--",
        b"%",
    ),
]
IN_HEADERS = [
    *(b"", b"\xff\xfe", b"\xed\xa0\x80", DIGITS, b"..", b"\xc2\xb2", b"application/json;x=\xff"),
    *(b'"', b"Basic \xff", b"Basic !!!", b"-1"),
]
IN_BODIES = [
    *(
        "null",
        "true",
        "-1",
        "1.5",
        "[]",
        "{}",
        '""',
        '"\\u0000"',
        '"\\ud800"',
        '"."',
        '".."',
        '"\\u202e\\u2028"',
    ),
    *(
        "1" * 4300,
        "1" * 5000,
        "1e999",
        '"' + "x" * 5000 + '"',
        "[" * 60 + "]" * 60,
        '"=?utf-8?q?=0d=0a?=@x.example"',
    ),
]
STANDARD_HEADERS = [
    *("User-Agent", "Content-Type", "Content-Encoding", "Authorization", "X-Request-ID", "X-Forwarded-For"),
    *("Idempotency-Key", "X-Forgejo-Event", "X-Forgejo-Delivery", "X-Forgejo-Signature"),
]


class Request:
    """A request that succeeds, until one part of it is replaced."""

    def __init__(self, method: str, path: str, ticket: str) -> None:
        self.method, self.path = method, path
        self.values = {
            "tracker": b"forgejo",
            "slug": b"my-product",
            "token": SHOP.encode(),
            "ticket": ticket.encode(),
        }
        self.values["source"] = b"shop" if "intake" in path else b"helpdesk"
        self.query: dict[str, bytes] = {}
        self.fields: dict[str, str] = {}
        if "intake" in path:
            self.fields = {name: json.dumps(value) for name, value in alert().items()}
        elif path.endswith("comments"):
            self.fields = {"body": '"Help"', "author": '{"name": "Ann"}'}
        elif path.endswith("tickets") and method == "POST":
            self.fields = {"title": '"Help"', "description": '"Now"', "reporter": '{"email": "a@x.example"}'}
        elif path.endswith("close"):
            self.fields = {"reason": '"completed"'}
        elif path.endswith("previews"):
            self.fields = {"source": '"shop"', "body": json.dumps(alert()), "part": '"title"'}
        elif "webhooks" in path:
            self.fields = {"action": '"closed"', "issue": '{"number": 1}', "repository": "{}"}
        token = SHOP if "intake" in path else HELPDESK if path.endswith("comments") else ADMIN
        self.headers = {"Authorization": b"Bearer " + token.encode()}

    def encode(self) -> bytes:
        path = self.path.encode()
        for name, value in self.values.items():
            path = path.replace(b"{%b}" % name.encode(), value)
        if self.query:
            path += b"?" + b"&".join(b"%b=%b" % (name.encode(), value) for name, value in self.query.items())
        body = ""
        if self.method == "POST" and self.fields:
            body = "{" + ", ".join(f'"{name}": {value}' for name, value in self.fields.items()) + "}"
        raw = body.encode()
        headers = {"Host": b"pointsman", "Content-Type": b"application/json", **self.headers}
        headers["Content-Length"] = b"%d" % len(raw)
        if "webhooks" in self.path:
            signature = hmac.new(WEBHOOK_SECRET.encode(), raw, hashlib.sha256).hexdigest().encode()
            headers = {"X-Forgejo-Signature": signature, "X-Forgejo-Event": b"issues", **headers}
        lines = b"".join(b"%b: %b\r\n" % (name.encode(), value) for name, value in headers.items())
        return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (self.method.encode(), path, lines, raw)


def hostile_requests(ticket: str):
    """Yield a description and a request for each parameter, header and field with each value."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():

            def fresh(method=method, path=path):
                return Request(method.upper(), path, ticket)

            names = [(each["in"], each["name"]) for each in operation["parameters"]]
            for place, name in names:
                for value in IN_ADDRESSES if place != "header" else ():
                    request = fresh()
                    (request.values if place == "path" else request.query)[name] = value
                    yield f"{method} {path} {place} {name}={value[:20]!r}", request
            headers = [name for place, name in names if place == "header"]
            for name in dict.fromkeys([*STANDARD_HEADERS, *headers]):
                for value in IN_HEADERS:
                    request = fresh()
                    request.headers[name] = value
                    yield f"{method} {path} header {name}={value[:20]!r}", request
            for name in fresh().fields:
                for value in IN_BODIES:
                    for inside in ("", "email", "name") if name in ("reporter", "author") else ("",):
                        request = fresh()
                        request.fields[name] = f'{{"{inside}": {value}}}' if inside else value
                        yield f"{method} {path} field {name} {inside}={value[:20]}", request


@pytest.mark.slow
async def test_every_parameter_with_every_hostile_value_is_answered_without_a_fault_of_ours(
    service: RunningService, monkeypatch
):
    # nearly all wrong credentials come from one address here
    monkeypatch.setattr("pointsman.web.refusals.FREE_REFUSALS", 1_000_000)
    failed, statuses = [], set()
    async with service.replica(CONFIG):
        ticket = await service.new_ticket()
        wire = context = None
        for name, request in hostile_requests(ticket):
            if context is None:
                context = Wire.to(service.url)
                wire = await context.__aenter__()
            await wire.send(request.encode())
            status, headers, _ = await wire.answer()
            statuses.add(status)
            if not 200 <= status < 500:
                failed.append((status, name))
            if "close" in headers.get("connection", "") or status in (400, 408, 413, 431):
                await context.__aexit__(None, None, None)
                context = None
        if context is not None:
            await context.__aexit__(None, None, None)
    assert failed == []
    assert {200, 201, 202, 400, 401, 404, 415, 422} <= statuses


async def test_a_step_of_dots_is_no_id_of_a_bugsink_issue(service: RunningService):
    async with service.replica(SOURCES):
        for issue in (".", ".."):
            refused = await service.call(
                "POST", f"/intake/shop/{SHOP}", json={**alert(), "id": issue}, status=422
            )
            assert set(refused["errors"]) == {"id"}


async def test_a_client_with_other_headers_than_utf8_can_file_a_ticket(service: RunningService):
    async with service.replica(SOURCES):
        ticket = await service.new_ticket()
        for path in ("/api/v1/tickets", f"/api/v1/tickets/{ticket}/comments"):
            request = Request("POST", path, ticket)
            request.headers |= {"Authorization": f"Bearer {HELPDESK}".encode(), "User-Agent": b"x\xff\xfe"}
            async with Wire.to(service.url) as wire:
                await wire.send(request.encode())
                assert (await wire.answer())[0] == 201
