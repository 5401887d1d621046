"""Send e-mails to the reporters of tickets: one for each transition, stored and retried like every delivery.

The Message-ID is the delivery's marker, so mail servers that compare ids recognize a repeat after an unknown outcome
(RFC 5322, section 3.6.4: https://www.rfc-editor.org/rfc/rfc5322#section-3.6.4).
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from typing import Any

import aiosmtplib

from pointsman.bus.signals import Signals
from pointsman.config.settings import Smtp
from pointsman.crypto import sha256
from pointsman.delivery.attempt import Attempt, Effect
from pointsman.delivery.attempt_result import AttemptRecorder
from pointsman.delivery.draft import DraftRenderer
from pointsman.delivery.email_message import Email, compose
from pointsman.domain.retry_policy import NextStep
from pointsman.domain.states import DestinationKind
from pointsman.errors import DatabaseError
from pointsman.logs import logger
from pointsman.plugin_api import AuthFailed, Misconfigured, PluginError, Refused, Unavailable, UnknownOutcome
from pointsman.plugin_api.helpers import ascii_mail_address
from pointsman.plugin_host.instances import LiveDestination
from pointsman.storage import rate_limits
from pointsman.storage.db import Database
from pointsman.storage.errors import StatementError
from pointsman.storage.queue import Lanes
from pointsman.storage.queue_values import Lane, NextDelivery

log = logger("mail")

TIMEOUT_SECONDS = 30.0
DELIVERIES_PER_CLAIM = 20
MAILS_PER_ADDRESS_AND_HOUR = 10
"""A new address may get so many at once. What waits is replaced by the ticket's next transition."""
CLEANUP_SECONDS = 3600.0


class EmailSender:
    """Handler of lanes whose destination is e-mail."""

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
        self._cleanup_at = 0.0
        self._lanes = lanes
        self._smtp = smtp
        self._sender = sender
        self._drafts = drafts
        self._recorder = AttemptRecorder(database, lanes, signals or Signals())

    async def handle(self, lane: Lane) -> None:
        """Send the e-mails of one ticket, in order."""
        delivery = lane.first_delivery or await self._lanes.next_delivery(lane)
        for _ in range(DELIVERIES_PER_CLAIM):
            if delivery is None or not await self._deliver(lane, delivery):
                return
            delivery = await self._lanes.next_delivery(lane)
        await self._lanes.release(lane)

    async def _deliver(self, lane: Lane, delivery: NextDelivery) -> bool:
        """Make one attempt. Return whether the lease is kept and the lane has more deliveries."""
        if wait_seconds := await self._seconds_until_allowed(delivery):
            log.info(
                "e-mail waits: its address had too many", ticket=str(delivery.ticket_id), seconds=wait_seconds
            )
            await self._lanes.release(lane, wait_seconds)
            return False
        destination = LiveDestination(lane.destination_id, "@mail", DestinationKind.MAIL, "mail")
        attempt = Attempt.start(lane, delivery, destination)
        try:
            draft = await self._drafts.render_email(delivery)
        except (DatabaseError, StatementError):
            raise
        except Exception as error:  # noqa: BLE001 - classified by the retry policy
            await self._record_failure(attempt, error)
            return False
        attempts = await self._lanes.record_intent(
            lane, delivery.seq, outcome_unknown=True, verify_after_seconds=0.0, draft=draft
        )
        if attempts is None:
            return False
        try:
            if delivery.expired:
                raise Refused("not delivered within its time")  # noqa: TRY301
            await self._send(delivery, draft)
        except Exception as error:  # noqa: BLE001 - classified by the retry policy
            await self._record_failure(attempt, error)
            return False
        return await self._recorder.record_success(attempt, Effect())

    async def _seconds_until_allowed(self, delivery: NextDelivery) -> float:
        """Return for how long a new e-mail has to wait for its address's limit. A retry was counted before."""
        if self._smtp is None or delivery.draft is not None:
            return 0.0
        try:
            address = ascii_mail_address(delivery.reporter_email)
        except ValueError:
            return 0.0
        if time.monotonic() >= self._cleanup_at:
            self._cleanup_at = time.monotonic() + CLEANUP_SECONDS
            await rate_limits.delete_old_mail_limits(self._database)
        digest = sha256(f"mail {address.lower()}".encode())
        return await rate_limits.acquire_mail(self._database, digest, per_hour=MAILS_PER_ADDRESS_AND_HOUR)

    async def _send(self, delivery: NextDelivery, draft: Mapping[str, Any]) -> None:
        if self._smtp is None:
            raise Misconfigured("no mail server is set: give POINTSMAN_SMTP_URL and POINTSMAN_MAIL_FROM")
        email = self._compose(delivery, draft)
        try:
            await aiosmtplib.send(
                email.message,
                sender=email.sender,
                recipients=[email.recipient],
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

    def _compose(self, delivery: NextDelivery, draft: Mapping[str, Any]) -> Email:
        try:
            recipient = ascii_mail_address(delivery.reporter_email)
        except ValueError as error:
            raise Refused(f"the requester's address {error}") from error
        return compose(
            sender=self._sender,
            recipient_name=delivery.reporter_name,
            recipient_address=recipient,
            subject=draft["subject"],
            body=draft["body"],
            at=delivery.event_at,
            message_id=str(delivery.marker),
            thread_id=str(delivery.ticket_id),
        )

    async def _record_failure(self, attempt: Attempt, error: Exception) -> None:
        # sending again has the same effect as sending once: a repeat has the same Message-ID
        failure, decision = await self._recorder.record_failure(attempt, error, idempotent=True)
        if decision.next_step is NextStep.RETRY:
            await self._recorder.schedule_retry(attempt, decision, failure)
        else:
            await self._recorder.dead_letter(attempt, decision, str(failure), failure.status)
