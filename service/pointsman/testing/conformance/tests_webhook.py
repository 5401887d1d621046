"""Tests of webhooks: only calls signed with our secret are accepted, and any bytes get a decision."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pointsman.plugin_api import IgnoredWebhook, IssueRemoved, IssueState, State, Tracker, UnknownOutcome
from pointsman.plugin_host.validate import validated
from pointsman.testing.conformance.case_runner import CaseRunner
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.hostile_texts import BODIES, HEADER_VALUES, mutations
from pointsman.testing.conformance.operations import Subject

OTHER = b"another-webhook-secret"
LONGEST_SECONDS = 2.0
_USUAL_HEADERS = ("x-hub-signature-256", "x-signature", "x-webhook-token", "authorization", "content-type")


class WebhookTests:
    """Verifying and reading webhooks."""

    def test_a_signed_webhook_verifies(self, pointsman_runner: CaseRunner) -> None:
        """With our secret, whatever other secrets are valid beside it; two are while one is being replaced."""
        pointsman_runner.require_capability("webhooks")
        pointsman_runner.require_double("webhook", proves="webhooks")

        async def scenario(harness: Harness) -> None:
            headers, body, _, _ = await _call(harness, "closed", harness.case.webhook_secret)
            ours = harness.case.webhook_secret.encode()
            for secrets in ([ours], [OTHER, ours], [ours, OTHER]):
                assert _verify(harness, headers, body, secrets), f"not verified with {len(secrets)} secrets"

        pointsman_runner.run(scenario)

    def test_other_secrets_do_not_verify(self, pointsman_runner: CaseRunner) -> None:
        """A wrong, an empty, a cut or no secret never verifies; nor does a body of which one byte is another, unless the
        case says that the body is not signed.
        """
        pointsman_runner.require_capability("webhooks")
        if not pointsman_runner.case.body_signed:
            pointsman_runner.note_unsigned()
        pointsman_runner.require_double("webhook", proves="webhooks")

        async def scenario(harness: Harness) -> None:
            ours = harness.case.webhook_secret
            headers, body, _, _ = await _call(harness, "closed", ours)
            wrong: list[list[bytes]] = [[], [b""], [b"", b""], [OTHER], [ours[:-1].encode()], [b"\xff\xfe"]]
            for secrets in [*wrong, [_alike(ours)], [OTHER, _alike(ours)]]:
                assert not _verify(harness, headers, body, secrets), f"verified with {secrets!r}"
            if not harness.case.body_signed:
                return
            changed = body[:-2] + bytes([body[-2] ^ 1]) + body[-1:]
            for other in (changed, body + b" ", b""):
                assert not _verify(harness, headers, other, [ours.encode()]), "verified another body"

        pointsman_runner.run(scenario)

    def test_an_unsigned_webhook_never_verifies(self, pointsman_runner: CaseRunner) -> None:
        """A call without its signature, or from a webhook without a secret, does not verify, with any secrets."""
        pointsman_runner.require_capability("webhooks")

        async def scenario(harness: Harness) -> None:
            ours = harness.case.webhook_secret.encode()
            calls: list[tuple[Mapping[str, str], bytes]] = [({}, b"{}"), ({}, b"")]
            if harness.case.double_supports("webhook"):
                unsigned, body, _, _ = await _call(harness, "closed", "")
                calls += [(unsigned, body), (dict.fromkeys(unsigned, ""), body)]
            for headers, body in calls:
                for secrets in ([], [b""], [ours], [b"", ours]):
                    assert not _verify(harness, headers, body, secrets), f"verified with {secrets!r}"

        pointsman_runner.run(scenario)

    def test_without_webhooks_nothing_verifies(self, pointsman_runner: CaseRunner) -> None:
        """A tracker that declares no webhooks accepts none."""

        async def scenario(harness: Harness) -> None:
            if harness.case.tracker.capabilities.webhooks:
                return
            for secrets in ([], [b""], [harness.case.webhook_secret.encode()]):
                assert not _verify(harness, {}, b"{}", secrets)

        pointsman_runner.run(scenario)

    def test_hostile_headers_come_to_a_decision(self, pointsman_runner: CaseRunner) -> None:
        """Any header values give False and an id or none: no exception, and not slowly."""

        async def scenario(harness: Harness) -> None:
            tracker = harness.tracker()
            ours = harness.case.webhook_secret.encode()
            genuine: Mapping[str, str] = {}
            body = b"{}"
            if harness.case.double_supports("webhook"):
                genuine, body, _, _ = await _call(harness, "closed", harness.case.webhook_secret)
            for name in {*genuine, *_USUAL_HEADERS}:
                for value in HEADER_VALUES:
                    headers = {**dict.fromkeys(genuine, value), name: value}
                    assert not _verify(harness, headers, body, [ours]), f"{name}: {value[:80]!r}"
                    _decide(tracker, {**genuine, name: value}, body)

        pointsman_runner.run(scenario)

    def test_hostile_bodies_come_to_a_decision(self, pointsman_runner: CaseRunner) -> None:
        """Any body is read as IssueState, IssueRemoved or IgnoredWebhook, with values that the core accepts: no
        exception, and not slowly. A genuine body is changed at every place too.
        """

        async def scenario(harness: Harness) -> None:
            tracker = harness.tracker()
            calls: list[tuple[Mapping[str, str], bytes]] = [({}, body) for body in BODIES]
            if harness.case.double_supports("webhook"):
                signed, genuine, _, _ = await _call(harness, "closed", harness.case.webhook_secret)
                calls += [(signed, body) for body in (*BODIES, *mutations(genuine))]
            for headers, body in calls:
                verified = _verify(harness, headers, body, [OTHER])
                assert not verified, f"verified with another secret: {body[:80]!r}"
                _decide(tracker, headers, body)

        pointsman_runner.run(scenario)

    def test_a_webhook_tells_what_a_person_did(self, pointsman_runner: CaseRunner) -> None:
        """Closed and reopened are told of the right issue."""
        pointsman_runner.require_capability("webhooks")
        pointsman_runner.require_double("webhook", proves="webhooks")

        async def scenario(harness: Harness) -> None:
            states: tuple[State, ...] = ("closed", "open")
            for state in states:
                headers, body, tracker, subject = await _call(harness, state, harness.case.webhook_secret)
                news = tracker.read_webhook(headers, body)
                assert isinstance(news, IssueState), f"{state}: read as {news!r}"
                assert (news.ref.remote_id, news.state) == (subject.issue.remote_id, state)

        pointsman_runner.run(scenario)

    def test_a_webhook_has_one_id(self, pointsman_runner: CaseRunner) -> None:
        """The same call has the same id each time, another call another one, or the tracker sends none."""
        pointsman_runner.require_capability("webhooks")
        pointsman_runner.require_double("webhook", proves="webhooks")

        async def scenario(harness: Harness) -> None:
            kind = harness.case.tracker
            first, body, _, _ = await _call(harness, "closed", harness.case.webhook_secret)
            second, other, _, _ = await _call(harness, "closed", harness.case.webhook_secret)
            identifier, repeated = kind.webhook_id(first, body), kind.webhook_id(first, body)
            assert identifier == repeated
            assert identifier is None or (identifier and identifier != kind.webhook_id(second, other)), (
                f"the id {identifier!r} is no id"
            )

        pointsman_runner.run(scenario)


def _alike(secret: str) -> bytes:
    """Return another secret of the same form: one letter differs."""
    middle = len(secret) // 2
    return f"{secret[:middle]}{'B' if secret[middle] == 'A' else 'A'}{secret[middle + 1 :]}".encode()


async def _call(
    harness: Harness, state: State, secret: str
) -> tuple[dict[str, str], bytes, Tracker, Subject]:
    """Create an issue and return the call that reports a person's change; header names in lower case, as the core
    passes them.
    """
    tracker, subject = harness.tracker(), Subject()
    subject.ref = await tracker.create_issue(subject.draft)
    if state == "open":
        await harness.double.close(subject.issue.remote_id)
    call = await harness.double.webhook(subject.issue.remote_id, state, secret)
    return {name.lower(): value for name, value in call.headers.items()}, call.body, tracker, subject


def _verify(harness: Harness, headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> bool:
    return bool(_timed("verify_webhook", harness.case.tracker.verify_webhook, headers, body, secrets))


def _decide(tracker: Tracker, headers: Mapping[str, str], body: bytes) -> None:
    news = _timed("read_webhook", tracker.read_webhook, headers, body)
    try:
        validated(news, IssueState, IssueRemoved, IgnoredWebhook)
    except UnknownOutcome as error:
        raise AssertionError(f"read_webhook: {error}; body {body[:200]!r}") from None
    identifier = _timed("webhook_id", tracker.webhook_id, headers, body)
    assert identifier is None or isinstance(identifier, str), f"webhook_id gave {identifier!r}"


def _timed(name: str, function: Any, headers: Mapping[str, str], body: bytes, *more: Any) -> Any:
    began = time.monotonic()
    try:
        value = function(headers, body, *more)
    except Exception as error:
        shown = {key: text[:80] for key, text in headers.items()}
        raise AssertionError(
            f"{name} raised {type(error).__name__}: {error}; headers {shown!r}, body {body[:200]!r}"
        ) from error
    taken = time.monotonic() - began
    assert taken < LONGEST_SECONDS, f"{name} took {taken:.1f} s; body {body[:80]!r}"
    return value
