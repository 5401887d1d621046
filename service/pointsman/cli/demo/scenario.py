"""The steps of the demo, each through the doors that everybody uses, and what they are told and checked with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import click

from pointsman.cli.demo import samples
from pointsman.errors import PointsmanError

_T = TypeVar("_T")

CUSTOMER = "ada@customer.example"
PATIENCE_SECONDS = 30.0


class Failed(Exception):
    """A step did not happen."""


class Sink:
    """A mail server on loopback that keeps what it gets."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Keep a mail."""
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 kept"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        """The port it listens on."""
        try:
            from aiosmtpd.smtp import SMTP  # noqa: PLC0415 - the demo's own dependency
        except ImportError:
            raise PointsmanError("the demo needs its extra: pip install 'pointsman[embedded]'") from None
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: SMTP(self, hostname="localhost", enable_SMTPUTF8=True), "127.0.0.1", 0
        )
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await server.wait_closed()


class Shown:
    """Progress on the terminal."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.number = 0

    def step(self, text: str, detail: str = "") -> None:
        """A step happened."""
        self.number += 1
        at = click.style(f"{time.monotonic() - self.began:5.1f} s", dim=True)
        click.echo(f"{at}  {click.style('✓', fg='green')} {text}")
        self.more(detail)

    def more(self, detail: str) -> None:
        """More about the last step."""
        for line in detail.splitlines():
            click.echo(f"           {click.style(line, dim=True)}")


class Walk:
    """The steps, each through the same doors that everybody uses."""

    def __init__(
        self,
        shown: Shown,
        session: aiohttp.ClientSession,
        tokens: dict[str, str],
        issues: Path,
        sink: Sink,
    ) -> None:
        self.shown = shown
        self.session = session
        self.tokens = tokens
        self.issues = issues
        self.sink = sink

    async def health(self) -> None:
        """Ready, as a probe sees it."""
        async with self.session.get("/health/ready") as answer:
            if answer.status != 200:
                raise Failed(f"/health/ready answered {answer.status}: {await answer.text()}")

    async def alert(self) -> None:
        """An alert becomes an issue, is solved, and comes back."""
        alert, regressed = _alerts()
        path = f"/intake/shop/{self.tokens['shop']}"
        ticket = (await self.post(path, alert, 202))["ticket"]
        self.shown.step(f"Bugsink posts an alert (NEW): {alert['title']}", f"202, ticket {ticket}")
        again = await self.post(path, alert, 202)
        if again["ticket"] != ticket:
            raise Failed("the same alert again made another ticket")
        test = await self.post(path, {**alert, "alert_reason": "TEST", "id": str(uuid.uuid4())}, 202)
        if test["ticket"] is not None:
            raise Failed("Bugsink's test alert made a ticket")
        link = await self.linked(ticket)
        file = self.file(link["key"])
        self.shown.step(f"the issue is at the tracker, once: {file.name}", _head(file))
        _edit_status(file, "closed")
        await self.until(ticket, "its closing", lambda seen: seen["status"] == "closed")
        self.shown.step("somebody closes the issue at the tracker; the ticket closes")
        await self.post(path, regressed, 202)
        await self.until(ticket, "its reopening", lambda seen: seen["status"] == "open")
        await self.until_file(
            file, "status: open and a comment", lambda text: _is_open(text) and "come back" in text
        )
        self.shown.step("the error comes back (REGRESSED): ticket and issue are open again, with a comment")

    async def support(self) -> None:
        """A customer's ticket becomes an issue, comments follow, and its closing reaches the customer."""
        headers = {"Authorization": f"Bearer {self.tokens['helpdesk']}", "Idempotency-Key": str(uuid.uuid4())}
        body = {
            "title": "I can't pay with my card",
            "description": "The payment page stays white after I press *Pay*.",
            "reporter": {"email": CUSTOMER, "name": "Ada"},
        }
        ticket = (await self.post("/api/v1/tickets", body, 201, headers))["id"]
        if (await self.post("/api/v1/tickets", body, 201, headers))["id"] != ticket:
            raise Failed("a repeat with the same idempotency key made another ticket")
        remark = {"body": "It happens in both browsers I have.", "author": {"name": "Ada", "email": CUSTOMER}}
        bearer = {"Authorization": headers["Authorization"]}
        await self.post(f"/api/v1/tickets/{ticket}/comments", remark, 201, bearer)
        self.shown.step(f"a customer asks for help and comments: {body['title']}", f"201, ticket {ticket}")
        link = await self.linked(ticket)
        file = self.file(link["key"])
        text = await self.until_file(file, "the comment", lambda text: "both browsers" in text)
        if CUSTOMER in text:
            raise Failed("the customer's address left our database")
        self.shown.step(f"issue and comment are at the tracker, in order: {file.name}", _head(file))
        before = len(self.sink.mails)
        _edit_status(file, "closed")
        await self.until(ticket, "its closing", lambda seen: seen["status"] == "closed")
        self.shown.step("somebody closes the issue; the ticket closes")
        mail = await self.mail(before)
        plain = mail.get_body(("plain",))
        text = plain.get_content().strip() if plain is not None else ""
        self.shown.step(f"the customer gets a mail: {mail['Subject']}", f"To: {mail['To']}\n{text}")

    async def post(
        self, path: str, body: object, status: int, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Post JSON and expect a status."""
        async with self.session.post(path, json=body, headers=headers) as answer:
            if answer.status != status:
                raise Failed(
                    f"POST {path.rpartition('/')[0]}… answered {answer.status}: {await answer.text()}"
                )
            said: dict[str, Any] = await answer.json()
            return said

    async def ticket(self, ticket: str) -> dict[str, Any]:
        """A ticket, as the API shows it."""
        headers = {"Authorization": f"Bearer {self.tokens['operator']}"}
        async with self.session.get(f"/api/v1/tickets/{ticket}", headers=headers) as answer:
            if answer.status != 200:
                raise Failed(f"GET ticket answered {answer.status}: {await answer.text()}")
            said: dict[str, Any] = await answer.json()
            return said

    async def until(self, ticket: str, what: str, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until a ticket is as expected."""

        async def look() -> dict[str, Any] | None:
            seen = await self.ticket(ticket)
            return seen if good(seen) else None

        return await _until(f"ticket {ticket} did not show {what}", look)

    async def linked(self, ticket: str) -> dict[str, Any]:
        """Wait until a ticket's issue is there."""
        seen = await self.until(
            ticket, "an issue", lambda seen: any(link["state"] == "active" for link in seen["links"])
        )
        if len(seen["links"]) != 1:
            raise Failed(f"ticket {ticket} has {len(seen['links'])} issues instead of one")
        link: dict[str, Any] = seen["links"][0]
        return link

    def file(self, key: str) -> Path:
        """The file of an issue."""
        found = [path for path in self.issues.glob("*.md") if path.name.startswith(f"{int(key):04d}-")]
        if len(found) != 1:
            raise Failed(f"{self.issues} has {len(found)} files for issue {key} instead of one")
        return found[0]

    async def until_file(self, file: Path, what: str, good: Callable[[str], bool]) -> str:
        """Wait until a file is as expected."""

        async def look() -> str | None:
            text = file.read_text("utf-8")  # noqa: ASYNC240 - a small local file
            return text if good(text) else None

        return await _until(f"{file.name} did not show {what}", look)

    async def mail(self, before: int) -> EmailMessage:
        """Wait for the one mail to the customer."""

        async def look() -> EmailMessage | None:
            return self.sink.mails[before] if len(self.sink.mails) > before else None

        mail = await _until("no mail came", look)
        if CUSTOMER not in str(mail["To"]):
            raise Failed(f"the mail went to {mail['To']}")
        return mail


async def _until(sorry: str, look: Callable[[], Awaitable[_T | None]]) -> _T:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if (found := await look()) is not None:
            return found
        await asyncio.sleep(0.1)
    raise Failed(f"{sorry} within {PATIENCE_SECONDS:g} s")


def _alerts() -> tuple[dict[str, Any], dict[str, Any]]:
    """What a real Bugsink posted for a new issue, and when it came back; only the issue's id is new each time."""
    new, regressed = samples.bugsink("new"), samples.bugsink("regressed")
    text = json.dumps([new, regressed]).replace(new["id"], str(uuid.uuid4()))
    first, second = json.loads(text)
    return first, second


_STATUS = re.compile(r"^status:.*$", re.MULTILINE)


def _edit_status(file: Path, status: str) -> None:
    """What a person does in an editor."""
    file.write_text(_STATUS.sub(f"status: {status}", file.read_text("utf-8"), count=1), "utf-8")


def _is_open(text: str) -> bool:
    found = _STATUS.search(text)
    return found is not None and found.group().partition(":")[2].strip() == "open"


def _head(file: Path) -> str:
    """The file's body in short, for the terminal."""
    body = file.read_text("utf-8").partition("\n---\n")[2].strip()
    lines = [line for line in body.splitlines() if line.strip() and not line.startswith("<!--")]
    return "\n".join(line[:96] for line in lines[:4])
