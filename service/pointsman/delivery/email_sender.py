"""Towards people: a mail to a ticket's owner, one for each transition, kept and retried like any delivery.

The Message-ID is the delivery's marker, so a repeat after an unknown outcome is known as one by mail servers that
look (RFC 5322, section 3.6.4: https://www.rfc-editor.org/rfc/rfc5322#section-3.6.4).
"""

from __future__ import annotations

import datetime as dt
import ssl
import time
from collections.abc import Mapping
from email.message import EmailMessage
from email.utils import format_datetime, formataddr, parseaddr
from html import escape
from typing import Any

import aiosmtplib
from markdown_it import MarkdownIt

from pointsman.bus.signals import Signals
from pointsman.config.settings import Smtp
from pointsman.content.sanitize import one_line
from pointsman.delivery.attempt import Attempt
from pointsman.delivery.attempt_result import dead_letter, record_failure, log_attempt
from pointsman.delivery.draft import DraftRenderer
from pointsman.domain.circuit_breaker import RecentCalls
from pointsman.domain.retry_policy import NextStep, Outcome
from pointsman.domain.states import DeliveryKind, DestinationKind
from pointsman.errors import DatabaseError
from pointsman.plugin_api import AuthFailed, Misconfigured, PluginError, Refused, Unavailable, UnknownOutcome
from pointsman.plugin_host.snapshot import LiveDestination
from pointsman.storage.db import Database
from pointsman.storage.errors import StatementError
from pointsman.storage.queue import Lane, Lanes, NextDelivery

TIMEOUT_SECONDS = 30.0
_MARKDOWN = MarkdownIt("commonmark", {"html": False})
_UNESCAPE = str.maketrans("", "", "\u2060")


class EmailSender:
    """The carrier for lanes that lead to people."""

    def __init__(
        self,
        database: Database,
        lanes: Lanes,
        smtp: Smtp | None,
        sender: str,
        drafts: DraftRenderer,
        *,
        signals: Signals | None = None,
    ) -> None:
        self._database = database
        self._lanes = lanes
        self._smtp = smtp
        self._sender = sender
        self._drafts = drafts
        self._signals = signals or Signals()
        self._recent = RecentCalls()

    async def handle(self, lane: Lane) -> None:
        """Send the mails of one ticket, in order."""
        head = lane.first_delivery or await self._lanes.next_delivery(lane)
        for _ in range(20):
            if head is None or not await self._deliver(lane, head):
                return
            head = await self._lanes.next_delivery(lane)
        await self._lanes.release(lane)

    async def _deliver(self, lane: Lane, head: NextDelivery) -> bool:
        one = Attempt(
            lane=lane,
            delivery=head,
            kind=DeliveryKind(head.kind),
            destination=LiveDestination(lane.destination_id, "@mail", DestinationKind.MAIL, "mail"),
            started_at=dt.datetime.now(dt.UTC),
            started_monotonic=time.monotonic(),
            outcome_unknown=head.outcome_unknown,
        )
        try:
            draft = await self._drafts.render_email(head)
        except (DatabaseError, StatementError):
            raise
        except Exception as error:  # noqa: BLE001 - judged below
            await self._failed(one, error)
            return False
        attempts = await self._lanes.record_intent(
            lane, head.seq, outcome_unknown=True, verify_after_seconds=0.0, draft=draft
        )
        if attempts is None:
            return False
        try:
            if head.expired:
                raise Refused("not delivered within its time")  # noqa: TRY301
            await self._send(head, draft)
        except Exception as error:  # noqa: BLE001 - judged below
            await self._failed(one, error)
            return False
        left = await self._lanes.finish(lane, head.seq, keep_lease=True, outcome=Outcome.DONE, started_at=one.started_at)
        self._recent.record(unreachable=False)
        log_attempt(one, "stale" if left is None else Outcome.DONE, "", self._signals)
        return bool(left)

    async def _send(self, head: NextDelivery, draft: Mapping[str, Any]) -> None:
        if self._smtp is None:
            raise Misconfigured("no mail server is set: give POINTSMAN_SMTP_URL and POINTSMAN_MAIL_FROM")
        message = compose(head, self._sender, draft)
        try:
            await aiosmtplib.send(
                message,
                hostname=self._smtp.host,
                port=self._smtp.port,
                username=self._smtp.user or None,
                password=self._smtp.password.reveal() or None,
                use_tls=self._smtp.tls == "implicit",
                start_tls=self._smtp.tls == "starttls",
                tls_context=ssl.create_default_context() if self._smtp.tls != "none" else None,
                timeout=TIMEOUT_SECONDS,
            )
        except aiosmtplib.SMTPAuthenticationError as error:
            raise AuthFailed(f"the mail server refused our login: {error.code}", status=error.code) from error
        except (aiosmtplib.SMTPRecipientsRefused, aiosmtplib.SMTPSenderRefused) as error:
            code = (
                error.recipients[0].code
                if isinstance(error, aiosmtplib.SMTPRecipientsRefused)
                else error.code
            )
            kind: type[PluginError] = Refused if 500 <= code < 600 else Unavailable
            raise kind(f"the mail server refused the address: {code}", status=code) from error
        except aiosmtplib.SMTPResponseException as error:
            kind = Refused if 500 <= error.code < 600 else Unavailable
            raise kind(
                f"the mail server answered {error.code}: {error.message}", status=error.code
            ) from error
        except (aiosmtplib.SMTPConnectError, aiosmtplib.SMTPConnectTimeoutError) as error:
            raise Unavailable(f"the mail server can't be reached: {error}") from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise UnknownOutcome(
                f"the mail server did not answer: {type(error).__name__}: {error}"
            ) from error

    async def _failed(self, one: Attempt, error: Exception) -> None:
        # doing it again is as good as once: a repeat carries the same Message-ID
        failure, verdict = await record_failure(
            self._database, one, error, creates=True, idempotent=True, recent=self._recent
        )
        message = str(failure)
        if verdict.next_step is NextStep.RETRY:
            log_attempt(one, verdict.outcome, message, self._signals)
            await self._lanes.retry(
                one.lane,
                one.delivery.seq,
                delay_seconds=verdict.delay_seconds,
                counts_attempt=verdict.counts_as_attempt,
                outcome_unknown=False,
                verify_attempts=0,
                verify_after_seconds=0.0,
                outcome=verdict.outcome,
                error=message,
                status=failure.status,
                started_at=one.started_at,
            )
        else:
            await dead_letter(self._lanes, one, verdict, message, failure.status, self._signals, park=False)


def compose(head: NextDelivery, sender: str, draft: Mapping[str, Any]) -> EmailMessage:
    """The mail of one transition, as plain text and as HTML; its draft is a subject and Markdown."""
    name, address = parseaddr(sender)
    domain = address.rpartition("@")[2] or "localhost"
    message = EmailMessage()
    message["From"] = formataddr((name, address))
    message["To"] = formataddr((one_line(head.reporter_name, 80), head.reporter_email))
    message["Subject"] = draft["subject"]
    message["Date"] = format_datetime(head.event_at)
    message["Message-ID"] = f"<{head.marker}@{domain}>"
    message["References"] = f"<{head.ticket_id}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(plain(draft["body"]))
    html = _MARKDOWN.render(draft["body"]).translate(_UNESCAPE)
    message.add_alternative(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(draft["subject"])}</title></head>'
        f'<body style="font-family:sans-serif;line-height:1.5;max-width:40em">{html}</body></html>',
        subtype="html",
    )
    return message


def plain(markdown: str) -> str:
    """Markdown as plain text: what is read, without its signs."""
    parts: list[str] = []
    for block in _MARKDOWN.parse(markdown):
        for token in block.children or ():
            if token.type in ("text", "code_inline"):
                parts.append(token.content)
            elif token.type in ("softbreak", "hardbreak"):
                parts.append("\n")
        if block.type == "paragraph_close":
            parts.append("\n\n")
    return "".join(parts).translate(_UNESCAPE).strip() + "\n"
