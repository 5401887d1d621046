"""A small tracker that does everything right, and its double: what the conformance kit gives an A."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import msgspec
from aiohttp import web

from pointsman.plugin_api import (
    Actor,
    CommentRef,
    Connection,
    Draft,
    IgnoredWebhook,
    IssueRef,
    IssueState,
    Marker,
    Misconfigured,
    NotFound,
    PluginSettings,
    Response,
    Secret,
    Tracker,
    TrackerCapabilities,
    UnknownOutcome,
    hmac_sha256_matches,
)
from pointsman.testing.conformance import IssueSnapshot, TrackerDouble, WebhookCall
from pointsman.testing.fake import FakeTracker

TOKEN = "canary-of-the-shelf-token"


class ShelfSettings(PluginSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: Annotated[str, msgspec.Meta(description="Address of the shelf")]
    token: Annotated[Secret, msgspec.Meta(description="What opens it")]


class ShelfTracker(Tracker[ShelfSettings]):
    """Issues on a shelf. The marker is the last line of a text."""

    kind: ClassVar[str] = "shelf"
    title: ClassVar[str] = "Shelf"
    api_version: ClassVar[int] = 1
    Settings: ClassVar[type[PluginSettings]] = ShelfSettings
    capabilities = TrackerCapabilities(
        read_issue=True, own_account=True, update_issue=True, webhooks=True, find=True, list_changes=True
    )

    @classmethod
    def connection(cls, settings: ShelfSettings) -> Connection:
        return Connection(
            base_url=settings.url, headers={"Authorization": Secret(f"Bearer {settings.token.reveal()}")}
        )

    def marked(self, text: str, marker: Marker) -> str:
        return f"{text}\n{marker.text}"

    async def ask(self, method: str, path: str, **more: Any) -> Any:
        answer: Response = await self.client.request(method, path, **more)
        if not answer.ok:
            raise self.problem(answer, method, path)
        return answer.json()

    def problem(self, answer: Response, method: str, path: str) -> Exception:
        problem = answer.error("the shelf did not do it")
        # only an address that names an issue says by 404 that the issue is gone
        if isinstance(problem, NotFound) and path in ("/me", "/issues") and method == "GET":
            return Misconfigured("the shelf is not where it should be", status=answer.status)
        return problem

    async def me(self) -> str:
        return text_of(await self.ask("GET", "/me"), "id")

    async def own_account(self) -> Actor:
        return Actor(await self.me())

    async def create_issue(self, draft: Draft) -> IssueRef:
        body = {"title": one_line(draft.title), "body": self.marked(draft.body, draft.marker)}
        return ref_of(await self.ask("POST", "/issues", json=body))

    async def update_issue(self, issue: IssueRef, draft: Draft) -> None:
        body = {"title": one_line(draft.title), "body": self.marked(draft.body, draft.marker)}
        ref_of(await self.ask("PATCH", f"/issues/{issue.remote_id}", json=body))

    async def add_comment(self, issue: IssueRef, body: str, marker: Marker) -> CommentRef:
        payload = {"body": self.marked(body, marker)}
        created = await self.ask("POST", f"/issues/{issue.remote_id}/comments", json=payload)
        return CommentRef(text_of(created, "id"))

    async def set_state(self, issue: IssueRef, state: str, reason: Any) -> IssueState:
        return seen_of(await self.ask("PATCH", f"/issues/{issue.remote_id}", json={"state": state}))

    async def read_issue(self, issue: IssueRef) -> IssueState:
        return seen_of(await self.ask("GET", f"/issues/{issue.remote_id}"))

    async def find_issue(self, marker: Marker, since: dt.datetime) -> list[IssueRef]:
        matching, me = list_of(await self.ask("GET", "/issues")), await self.me()
        return [ref_of(item) for item in matching if item["author"] == me and is_marked(item, marker)]

    async def find_comment(self, issue: IssueRef, marker: Marker, since: dt.datetime) -> list[CommentRef]:
        matching = list_of(await self.ask("GET", f"/issues/{issue.remote_id}/comments"))
        return [CommentRef(text_of(item, "id")) for item in matching if is_marked(item, marker)]

    async def list_changes(self, since: dt.datetime) -> list[IssueState]:
        matching = [seen_of(item) for item in list_of(await self.ask("GET", "/issues"))]
        return [item for item in matching if item.version is not None and item.version >= since]

    @classmethod
    def verify_webhook(cls, headers: Any, body: bytes, secrets: Any) -> bool:
        return hmac_sha256_matches(body, headers.get("x-shelf-signature"), secrets)

    @classmethod
    def webhook_id(cls, headers: Any, body: bytes) -> str | None:
        return headers.get("x-shelf-id", "")[:100] or None

    def read_webhook(self, headers: Any, body: bytes) -> IssueState | IgnoredWebhook:
        try:
            return seen_of(json.loads(body))
        except (ValueError, RecursionError, UnknownOutcome):
            return IgnoredWebhook("no issue")


def one_line(text: str) -> str:
    return " ".join(text.split())[:255] or "(no title)"


def is_marked(raw: Any, marker: Marker) -> bool:
    return str(raw["body"]).rpartition("\n")[2] == marker.text


def list_of(raw: Any) -> list[Any]:
    if not isinstance(raw, list):
        raise UnknownOutcome("that is no list")
    return raw


def text_of(raw: Any, name: str) -> str:
    value = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(value, str) or not value:
        raise UnknownOutcome(f"the answer has no {name}")
    return value


def ref_of(raw: Any) -> IssueRef:
    number = text_of(raw, "id")
    return IssueRef(number, f"#{number}")


def seen_of(raw: Any) -> IssueState:
    try:
        changed = dt.datetime.fromisoformat(text_of(raw, "changed")).astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        raise UnknownOutcome("the answer has no time") from error
    state = "closed" if text_of(raw, "state") == "closed" else "open"
    return IssueState(ref=ref_of(raw), state=state, version=changed, author=Actor(text_of(raw, "author")))


@dataclass
class Item:
    id: str
    title: str
    body: str
    author: str
    state: str = "open"
    changed: str = ""
    comments: list[dict[str, str]] = field(default_factory=list)

    def touch(self) -> None:
        self.changed = dt.datetime.now(dt.UTC).isoformat()

    def shown(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("id", "title", "body", "author", "state", "changed")}


class FakeShelf(FakeTracker):
    """The shelf's server."""

    def __init__(self) -> None:
        super().__init__()
        self.items: dict[str, Item] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/me", self.get_me),
            web.get("/issues", self.get_all),
            web.post("/issues", self.post),
            web.get("/issues/{id}", self.get_one),
            web.patch("/issues/{id}", self.patch),
            web.get("/issues/{id}/comments", self.get_comments),
            web.post("/issues/{id}/comments", self.post_comment),
        ]

    def add(self, title: str, body: str, author: str) -> Item:
        item = self.items[str(len(self.items) + 1)] = Item(str(len(self.items) + 1), title, body, author)
        item.touch()
        return item

    def item(self, request: web.Request) -> Item:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise web.HTTPUnauthorized
        if request.match_info["id"] not in self.items:
            raise web.HTTPNotFound
        return self.items[request.match_info["id"]]

    async def get_me(self, _: web.Request) -> web.Response:
        return web.json_response({"id": "bot"})

    async def get_all(self, _: web.Request) -> web.Response:
        return web.json_response([item.shown() for item in self.items.values()])

    async def post(self, request: web.Request) -> web.Response:
        body = await request.json()
        return web.json_response(self.add(body["title"], body["body"], "bot").shown(), status=201)

    async def get_one(self, request: web.Request) -> web.Response:
        return web.json_response(self.item(request).shown())

    async def patch(self, request: web.Request) -> web.Response:
        item, body = self.item(request), await request.json()
        if any(getattr(item, name) != value for name, value in body.items()):
            for name, value in body.items():
                setattr(item, name, value)
            item.touch()
        return web.json_response(item.shown())

    async def get_comments(self, request: web.Request) -> web.Response:
        return web.json_response(self.item(request).comments)

    async def post_comment(self, request: web.Request) -> web.Response:
        item, body = self.item(request), await request.json()
        item.comments.append({"id": str(len(item.comments) + 1), "body": body["body"]})
        item.touch()
        return web.json_response(item.comments[-1], status=201)


class ShelfDouble(TrackerDouble):
    """A shelf of its own."""

    def __init__(self) -> None:
        self.fake: FakeShelf = FakeShelf()
        self.calls = 0

    def settings(self) -> dict[str, Any]:
        return {"url": self.fake.url, "token": TOKEN}

    async def issues(self) -> list[IssueSnapshot]:
        return [
            IssueSnapshot(
                remote_id=item.id,
                title=item.title,
                text=item.body,
                state="closed" if item.state == "closed" else "open",
                comments=tuple(comment["body"] for comment in item.comments),
                version=item.changed,
            )
            for item in self.fake.items.values()
        ]

    async def close(self, remote_id: str) -> None:
        self.fake.items[remote_id].state = "closed"
        self.fake.items[remote_id].touch()

    async def reopen(self, remote_id: str) -> None:
        self.fake.items[remote_id].state = "open"
        self.fake.items[remote_id].touch()

    async def copy(self, remote_id: str) -> str:
        item = self.fake.items[remote_id]
        return self.fake.add(item.title, item.body, "dev").id

    async def webhook(self, remote_id: str, state: str, secret: str) -> WebhookCall:
        await (self.close if state == "closed" else self.reopen)(remote_id)
        body = json.dumps(self.fake.items[remote_id].shown()).encode()
        self.calls += 1
        headers = {"X-Shelf-Id": str(self.calls)}
        if secret:
            headers["X-Shelf-Signature"] = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return WebhookCall(headers=headers, body=body)
