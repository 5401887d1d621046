"""The demo's steps, each through the public interfaces, and the helpers that show and check them."""

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
TIMEOUT_SECONDS = 30.0


class StepFailed(Exception):
    """A step did not succeed."""


class MailSink:
    """A mail server on the loopback interface that stores what it receives."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Store an e-mail."""
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 kept"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        """Listen on a free port, and yield it."""
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


class Progress:
    """Progress on the terminal."""

    def __init__(self) -> None:
        self.started_at = time.monotonic()

    def step(self, text: str, detail: str = "") -> None:
        """Print a step that succeeded, and details about it."""
        elapsed = click.style(f"{time.monotonic() - self.started_at:5.1f} s", dim=True)
        click.echo(f"{elapsed}  {click.style('✓', fg='green')} {text}")
        for line in detail.splitlines():
            click.echo(f"           {click.style(line, dim=True)}")


class Scenario:
    """The steps of the demo."""

    def __init__(
        self,
        progress: Progress,
        session: aiohttp.ClientSession,
        tokens: dict[str, str],
        issues: Path,
        sink: MailSink,
    ) -> None:
        self.progress = progress
        self.session = session
        self.tokens = tokens
        self.issues = issues
        self.sink = sink

    async def check_health(self) -> None:
        """Check that the service is ready, as a probe does."""
        async with self.session.get("/health/ready") as response:
            if response.status != 200:
                raise StepFailed(f"/health/ready returned {response.status}: {await response.text()}")

    async def run_alert(self) -> None:
        """Let an alert become an issue, be closed, and recur."""
        alert, regressed = _alerts()
        path = f"/intake/shop/{self.tokens['shop']}"
        ticket = (await self._post(path, alert, 202))["ticket"]
        self.progress.step(f"Bugsink posts an alert (NEW): {alert['title']}", f"202, ticket {ticket}")
        repeated = await self._post(path, alert, 202)
        if repeated["ticket"] != ticket:
            raise StepFailed("a repeat of the same alert opened another ticket")
        test = await self._post(path, {**alert, "alert_reason": "TEST", "id": str(uuid.uuid4())}, 202)
        if test["ticket"] is not None:
            raise StepFailed("Bugsink's test alert opened a ticket")
        link = await self._wait_for_issue(ticket)
        file = self._issue_file(link["key"])
        self.progress.step(f"the issue is at the tracker, once: {file.name}", _summary(file))
        _edit_status(file, "closed")
        await self._wait_for_ticket(ticket, "its closing", lambda shown: shown["status"] == "closed")
        self.progress.step("a person closes the issue at the tracker; the ticket is closed")
        comment_count = _comment_count(file.read_text("utf-8"))
        await self._post(path, regressed, 202)
        await self._wait_for_ticket(ticket, "its reopening", lambda shown: shown["status"] == "open")
        await self._wait_for_file(
            file,
            "status: open and a comment",
            lambda text: _is_open(text) and _comment_count(text) > comment_count,
        )
        self.progress.step("the error recurs (REGRESSED): ticket and issue are open again, with a comment")

    async def run_support_ticket(self) -> None:
        """Let a customer's ticket become an issue with comments, and inform the customer when it is closed."""
        headers = {"Authorization": f"Bearer {self.tokens['helpdesk']}", "Idempotency-Key": str(uuid.uuid4())}
        body = {
            "title": "I can't pay with my card",
            "description": "The payment page stays white after I press *Pay*.",
            "reporter": {"email": CUSTOMER, "name": "Ada"},
        }
        ticket = (await self._post("/api/v1/tickets", body, 201, headers))["id"]
        if (await self._post("/api/v1/tickets", body, 201, headers))["id"] != ticket:
            raise StepFailed("a repeat with the same idempotency key opened another ticket")
        remark = {"body": "It happens in both browsers I have.", "author": {"name": "Ada", "email": CUSTOMER}}
        bearer = {"Authorization": headers["Authorization"]}
        await self._post(f"/api/v1/tickets/{ticket}/comments", remark, 201, bearer)
        self.progress.step(f"a customer asks for help and comments: {body['title']}", f"201, ticket {ticket}")
        link = await self._wait_for_issue(ticket)
        file = self._issue_file(link["key"])
        text = await self._wait_for_file(file, "the comment", lambda text: "both browsers" in text)
        if CUSTOMER in text:
            raise StepFailed("the customer's address left the database")
        self.progress.step(f"issue and comment are at the tracker, in order: {file.name}", _summary(file))
        mail_count = len(self.sink.mails)
        _edit_status(file, "closed")
        await self._wait_for_ticket(ticket, "its closing", lambda shown: shown["status"] == "closed")
        self.progress.step("a person closes the issue; the ticket is closed")
        mail = await self._wait_for_mail(mail_count)
        plain = mail.get_body(("plain",))
        text = plain.get_content().strip() if plain is not None else ""
        self.progress.step(f"the customer gets an e-mail: {mail['Subject']}", f"To: {mail['To']}\n{text}")

    async def _post(
        self, path: str, body: object, status: int, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Post JSON, and return the response if it has the expected status."""
        async with self.session.post(path, json=body, headers=headers) as response:
            if response.status != status:
                raise StepFailed(
                    f"POST {path.rpartition('/')[0]}… returned {response.status}: {await response.text()}"
                )
            decoded: dict[str, Any] = await response.json()
            return decoded

    async def _get_ticket(self, ticket: str) -> dict[str, Any]:
        """Return a ticket from the API."""
        headers = {"Authorization": f"Bearer {self.tokens['operator']}"}
        async with self.session.get(f"/api/v1/tickets/{ticket}", headers=headers) as response:
            if response.status != 200:
                raise StepFailed(f"GET ticket returned {response.status}: {await response.text()}")
            decoded: dict[str, Any] = await response.json()
            return decoded

    async def _wait_for_ticket(
        self, ticket: str, expectation: str, condition: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        """Wait until a ticket meets a condition."""

        async def read() -> dict[str, Any] | None:
            shown = await self._get_ticket(ticket)
            return shown if condition(shown) else None

        return await _poll(f"ticket {ticket} did not show {expectation}", read)

    async def _wait_for_issue(self, ticket: str) -> dict[str, Any]:
        """Wait until a ticket has an issue, and return its link."""
        shown = await self._wait_for_ticket(
            ticket, "an issue", lambda shown: any(link["state"] == "active" for link in shown["links"])
        )
        if len(shown["links"]) != 1:
            raise StepFailed(f"ticket {ticket} has {len(shown['links'])} issues instead of one")
        link: dict[str, Any] = shown["links"][0]
        return link

    def _issue_file(self, key: str) -> Path:
        """Return the file of an issue."""
        files = [path for path in self.issues.glob("*.md") if path.name.startswith(f"{int(key):04d}-")]
        if len(files) != 1:
            raise StepFailed(f"{self.issues} has {len(files)} files for issue {key} instead of one")
        return files[0]

    async def _wait_for_file(self, file: Path, expectation: str, condition: Callable[[str], bool]) -> str:
        """Wait until a file meets a condition, and return its text."""

        async def read() -> str | None:
            text = file.read_text("utf-8")  # noqa: ASYNC240 - a small local file
            return text if condition(text) else None

        return await _poll(f"{file.name} did not show {expectation}", read)

    async def _wait_for_mail(self, mail_count: int) -> EmailMessage:
        """Wait for the next e-mail after ``mail_count``, which must be for the customer."""

        async def read() -> EmailMessage | None:
            return self.sink.mails[mail_count] if len(self.sink.mails) > mail_count else None

        mail = await _poll("no e-mail was received", read)
        if CUSTOMER not in str(mail["To"]):
            raise StepFailed(f"the e-mail was sent to {mail['To']}")
        return mail


async def _poll(failure: str, read: Callable[[], Awaitable[_T | None]]) -> _T:
    """Call ``read`` until it returns a value. Raises StepFailed with the failure after a while."""
    end = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < end:
        if (value := await read()) is not None:
            return value
        await asyncio.sleep(0.1)
    raise StepFailed(f"{failure} within {TIMEOUT_SECONDS:g} s")


def _alerts() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return recorded alerts of Bugsink for a new issue and its regression, with a fresh issue id."""
    new, regressed = samples.bugsink("new"), samples.bugsink("regressed")
    text = json.dumps([new, regressed]).replace(new["id"], str(uuid.uuid4()))
    first, second = json.loads(text)
    return first, second


_STATUS = re.compile(r"^status:.*$", re.MULTILINE)


def _edit_status(file: Path, status: str) -> None:
    """Change an issue's status, as a person does in an editor."""
    file.write_text(_STATUS.sub(f"status: {status}", file.read_text("utf-8"), count=1), "utf-8")


def _is_open(text: str) -> bool:
    match = _STATUS.search(text)
    return match is not None and match.group().partition(":")[2].strip() == "open"


def _comment_count(text: str) -> int:
    """Return how many comments an issue's file contains."""
    return text.count("\n## Comment")


def _summary(file: Path) -> str:
    """Return the first lines of an issue's body, for the terminal."""
    body = file.read_text("utf-8").partition("\n---\n")[2].strip()
    lines = [line for line in body.splitlines() if line.strip() and not line.startswith("<!--")]
    return "\n".join(line[:96] for line in lines[:4])
