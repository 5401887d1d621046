"""Test the OpenAPI document: generated, complete, and valid for real responses."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import aiohttp
import jsonschema
import pytest

from configuration import ADMIN, HELPDESK, SHOP, SOURCES
from pointsman.web import openapi
from pointsman.web.problems import TITLES, TYPE_BASE
from pointsman.web.routes import ENDPOINTS
from service_fixture import RunningService
from source_examples import alert

ROOT = Path(__file__).parents[3]
DOCUMENT = openapi.document(ENDPOINTS)
ITSELF = ("GET", "/api/v1/openapi.json")


def operations():
    return [
        (method.upper(), path, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    ]


def refs(node):
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for inner in node.values():
            yield from refs(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from refs(inner)


def resolve(ref: str):
    node = DOCUMENT
    for part in ref.removeprefix("#/").split("/"):
        node = node[part]
    return node


def test_the_file_is_what_the_generator_writes():
    """Fix it with: python -m pointsman.web.routes > docs/openapi.json."""
    assert json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8")) == DOCUMENT


def test_every_route_is_described_and_every_description_is_a_route():
    described = {(method, path) for method, path, _ in operations()}
    assert described == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}


def test_references_and_parameters_are_whole():
    for ref in refs(DOCUMENT):
        assert resolve(ref)
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))
    for _, path, operation in operations():
        in_path = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))
        assert {name for needed in operation["security"] for name in needed} <= DOCUMENT["components"][
            "securitySchemes"
        ].keys()


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_schemas_are_json_schemas(name: str):
    schema = DOCUMENT["components"]["schemas"][name]
    jsonschema.Draft202012Validator.check_schema(schema)
    defaults = {key: each["default"] for key, each in schema["properties"].items() if "default" in each}
    for key, value in defaults.items():
        if "$ref" not in schema["properties"][key]:
            jsonschema.validate(value, schema["properties"][key])


def test_every_type_of_problem_is_described():
    described = json.dumps(DOCUMENT["components"]["responses"])
    enum = DOCUMENT["components"]["schemas"]["ProblemBody"]["properties"]["type"]["enum"]
    for name, (status, _) in TITLES.items():
        assert TYPE_BASE + name in enum
        assert f"`{name}`" in described
        assert f"Problem{status}" in DOCUMENT["components"]["responses"]


def fits(method: str, path: str, status: int, kind: str, answer) -> None:
    """Check a response against the document."""
    operation = DOCUMENT["paths"][path][method.lower()]
    response = operation["responses"][str(status)]
    if "$ref" in response:
        response = resolve(response["$ref"])
    schema = {**response["content"][kind]["schema"], "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(schema).validate(answer)


async def test_real_answers_fit_the_document(service: RunningService):
    seen = set()

    async def ask(method: str, path: str, status: int, *, token: str = "", route: str = "", **more) -> dict:
        headers = {**more.pop("headers", {}), **({"Authorization": f"Bearer {token}"} if token else {})}
        async with service.client.request(method, path, headers=headers, **more) as got:
            assert got.status == status, await got.text()
            answer = await got.json(content_type=None)
            fits(method, route or path, status, got.content_type, answer)
            seen.add((method, route or path, status))
            return answer

    async with service.replica(SOURCES):
        plain = {"Content-Type": "application/json"}
        by_path, by_header = "/intake/{source}/{token}", "/intake/{source}"
        await ask("POST", f"/intake/shop/{SHOP}", 202, route=by_path, json=alert())
        await ask("POST", f"/intake/shop/{SHOP}", 202, route=by_path, json=alert("TEST"))
        await ask("POST", f"/intake/shop/{SHOP}", 202, route=by_path, json=alert("ODD"))
        await ask("POST", f"/intake/shop/{SHOP}", 400, route=by_path, data=b"{", headers=plain)
        await ask("POST", f"/intake/shop/{SHOP}", 422, route=by_path, json={})
        await ask(
            "POST",
            f"/intake/shop/{SHOP}",
            413,
            route=by_path,
            data=io.BytesIO(b" " * 1_100_000),
            headers=plain,
        )
        await ask("POST", f"/intake/shop/{SHOP}x", 401, route=by_path, json=alert())
        await ask("POST", "/intake/shop", 202, route=by_header, token=SHOP, json=alert("UNMUTED"))
        basic = {"Authorization": aiohttp.encode_basic_auth("x", SHOP)}
        await ask("POST", "/intake/shop", 202, route=by_header, headers=basic, json=alert("REGRESSED"))
        await ask("POST", "/intake/shop", 415, route=by_header, token=SHOP, data={"a": "form"})

        tickets = "/api/v1/tickets"
        key = {"Idempotency-Key": "one"}
        body = {"title": "Help", "reporter": {"email": "ada@customer.example", "name": "Ada"}}
        created = await ask("POST", tickets, 201, token=HELPDESK, headers=key, json=body)
        await ask("POST", tickets, 409, token=HELPDESK, headers=key, json={"title": "Else"})
        await ask("POST", tickets, 201, token=ADMIN, json={"title": "By an operator"})
        await ask("POST", tickets, 403, token=SHOP, json=body)
        await ask("POST", tickets, 401, json=body)
        await ask("POST", tickets, 422, token=HELPDESK, json={"title": " "})
        await ask("GET", f"{tickets}?limit=1", 200, route=tickets, token=ADMIN)
        await ask("GET", f"{tickets}?limit=0", 422, route=tickets, token=ADMIN)
        ticket_route = f"{tickets}/{{ticket}}"
        here = f"{tickets}/{created['id']}"
        await ask(
            "POST",
            f"{here}/comments",
            201,
            route=f"{ticket_route}/comments",
            token=HELPDESK,
            json={"body": "a"},
        )
        await ask(
            "POST",
            f"{here}/comments",
            422,
            route=f"{ticket_route}/comments",
            token=HELPDESK,
            json={"body": ""},
        )
        close = {"reason": "duplicate"}
        await ask("POST", f"{here}/close", 200, route=f"{ticket_route}/close", token=HELPDESK, json=close)
        await ask(
            "POST", f"{here}/close", 422, route=f"{ticket_route}/close", token=HELPDESK, json={"reason": "x"}
        )
        seen_ticket = await ask("GET", here, 200, route=ticket_route, token=HELPDESK)
        assert [event["kind"] for event in seen_ticket["events"]] == ["opened", "commented", "closed"]
        await ask("POST", f"{here}/reopen", 200, route=f"{ticket_route}/reopen", token=HELPDESK)
        await ask("GET", f"{tickets}/x", 404, route=ticket_route, token=HELPDESK)

        previews = "/api/v1/previews"
        shown = await ask("POST", previews, 200, token=ADMIN, json={"source": "shop", "body": alert()})
        assert set(shown["previews"][0]) >= {"title", "body", "comment", "mail_subject", "mail_body"}
        await ask("POST", previews, 422, token=ADMIN, json={"source": "nothere", "body": {}})
        await ask("POST", previews, 403, token=HELPDESK, json={"source": "helpdesk", "body": {}})

        await ask("POST", "/webhooks/forgejo/nothere", 401, route="/webhooks/{tracker}/{slug}", json={})
        await ask("GET", "/health/live", 200)
        await ask("GET", "/health/ready", 200)
    described = {(method, path) for method, path, _ in operations()}
    assert described - {(method, path) for method, path, _ in seen} == {ITSELF, ("GET", "/metrics")}


async def test_the_handler_gives_the_document(service: RunningService):
    async with service.replica(SOURCES), service.client.get("/api/v1/openapi.json") as response:
        assert await response.json() == DOCUMENT
