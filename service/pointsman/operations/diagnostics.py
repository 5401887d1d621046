"""Check destinations and sources: their plugins' own checks, the webhooks received, and optional write tests."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from msgspec.structs import replace

from pointsman.config.settings import Settings
from pointsman.crypto import MIN_WEBHOOK_SECRET_BYTES
from pointsman.domain.states import DestinationKind
from pointsman.errors import PointsmanError
from pointsman.plugin_api import Draft, Finding, Marker, Secret
from pointsman.plugin_api.known_secrets import mask_secrets
from pointsman.plugin_host.bootstrap import open_reloader
from pointsman.plugin_host.factory import webhook_url
from pointsman.plugin_host.instances import LiveDestination, LiveSource
from pointsman.plugin_host.snapshot import ConfigSnapshot
from pointsman.storage import destinations, sources
from pointsman.storage.db import Database


async def doctor(
    settings: Settings,
    database: Database,
    slug: str | None,
    *,
    write_test: bool = False,
    ensure_webhook: bool = False,
) -> list[Finding]:
    """Check one destination or source, or all. Return the findings, each prefixed with its slug.

    ``write_test`` creates, comments, finds and closes one issue. ``ensure_webhook`` registers our webhook at the tracker.
    Without them nothing changes. Raises PointsmanError if there is nothing to check.
    """
    findings: list[Finding] = []
    async with open_reloader(settings, database) as reloader:
        snapshot = reloader.current
        chosen_destinations = [
            destination
            for destination in snapshot.destinations.values()
            if destination.kind == DestinationKind.TRACKER
            and not destination.retired
            and slug in (None, destination.slug)
        ]
        chosen_sources = [source for source in snapshot.sources.values() if _is_checked(source, slug)]
        if not chosen_destinations and not chosen_sources:
            subject = f"there is no destination or source {slug}" if slug else "there are no destinations"
            raise PointsmanError(f"{subject}: see `pointsman destinations`")
        for source in chosen_sources:
            findings += await _check_source(database, source)
        for destination in chosen_destinations:
            steps: list[Callable[[], Awaitable[Sequence[Finding]]]] = [partial(_check_tracker, destination)]
            if destination.capabilities.webhooks:
                steps.append(partial(_check_webhook, database, destination))
            if ensure_webhook:
                steps.append(partial(_ensure_webhook, settings, destination))
            if write_test:
                steps.append(partial(_write_test, snapshot, destination))
            results: list[Finding] = []
            for step in steps:
                results += await _run_step(step)
            if not any(finding.level == "error" for finding in results):
                # what it failed on was corrected: it need not wait any longer
                await destinations.retry_now(database, destination.slug)
            findings += _prefixed(destination.slug, results)
    return findings


async def _run_step(step: Callable[[], Awaitable[Sequence[Finding]]]) -> Sequence[Finding]:
    try:
        return await step()
    except Exception as error:  # noqa: BLE001 - plugin code
        failure = destinations.Failure.from_error(error)
        return [Finding(level="error", message=str(failure), impact="deliveries there fail the same way")]


def _prefixed(slug: str, findings: Sequence[Finding]) -> list[Finding]:
    """Prefix findings with a slug; they may contain texts of a tracker, so secrets are masked."""
    return [
        replace(
            finding,
            message=mask_secrets(f"{slug}: {finding.message}"),
            impact=mask_secrets(finding.impact),
            remedy=mask_secrets(finding.remedy),
        )
        for finding in findings
    ]


# -- destinations ------------------------------------------------------------------------------------------------


async def _check_tracker(destination: LiveDestination) -> Sequence[Finding]:
    tracker = destination.require_tracker()
    if not tracker.capabilities.check:
        return ()
    return warn_if_public(await tracker.check(destination.webhook_url), destination.redact)


def warn_if_public(findings: Sequence[Finding], redact: str) -> list[Finding]:
    """Turn findings about public places into warnings, unless the destination's ``redact`` is "strict"."""
    if redact == "strict":
        return list(findings)
    data = "secrets and personal data" if redact == "off" else "addresses, users and telephone numbers"
    return [
        replace(
            finding,
            level="warning",
            impact=f'with redact = "{redact}" everybody can read the {data} that reports contain',
            remedy='set redact = "strict" at the destination, or use a destination that is not public',
        )
        if finding.public and finding.level == "ok"
        else finding
        for finding in findings
    ]


async def _check_webhook(database: Database, destination: LiveDestination) -> Sequence[Finding]:
    received_at = await destinations.last_webhook(database, destination.id)
    if not destination.webhook_secrets:
        interval = f"{destination.capabilities.poll_seconds:g} s"
        return [
            Finding(
                level="warning",
                message="no webhook secret is configured",
                impact=f"changes there are found by polling, every {interval}, not at once",
                remedy='set webhook_secrets = [{ env = "..." }] and the same secret at the tracker',
            )
        ]
    if any(len(secret) < MIN_WEBHOOK_SECRET_BYTES for secret in destination.webhook_secrets):
        return [
            Finding(
                level="warning",
                message=f"a webhook secret has fewer than {MIN_WEBHOOK_SECRET_BYTES} bytes",
                impact="who guesses it can close tickets",
                remedy="set a new one in webhook_secrets and at the tracker, made with `openssl rand -hex 32`",
            )
        ]
    if received_at is None:
        return [
            Finding(
                level="warning",
                message="no webhook was received yet",
                impact="changes there may be found late",
                remedy="let the tracker send a test, or run `pointsman doctor --ensure-webhook`",
            )
        ]
    return [
        Finding(
            level="ok",
            message=f"its last webhook was received at {received_at:%Y-%m-%d %H:%M:%S} UTC, signed",
        )
    ]


async def _ensure_webhook(settings: Settings, destination: LiveDestination) -> Sequence[Finding]:
    if not settings.public_url or not destination.webhook_secrets:
        return [
            Finding(
                level="error",
                message="the webhook can't be set up",
                impact="changes there are found late",
                remedy="set POINTSMAN_PUBLIC_URL to an address the tracker can reach, and webhook_secrets",
            )
        ]
    url = webhook_url(settings.public_url, destination.tracker_kind, destination.slug)
    secret = Secret(destination.webhook_secrets[0].decode())
    tracker = destination.require_tracker()
    if not tracker.capabilities.ensure_webhook:
        remedy = f"at the tracker, add a webhook to {url}, as JSON, with the secret of webhook_secrets"
        return [Finding(level="warning", message="this plugin can't set up webhooks", remedy=remedy)]
    return [await tracker.ensure_webhook(url, secret)]


async def _write_test(snapshot: ConfigSnapshot, destination: LiveDestination) -> Sequence[Finding]:
    """Create, comment, find and close one issue."""
    tracker = destination.require_tracker()
    marker = Marker(snapshot.marker_text(uuid.uuid4()))
    since = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5)
    facts = dict.fromkeys(("level", "environment", "release", "url"), "")
    draft = Draft(
        title="Pointsman's test, please ignore",
        body="Created by `pointsman doctor --write-test` to check that issues can be created here. It closes itself.",
        marker=marker,
        facts={"ticket": "test", "kind": "alert", "source": "doctor", "title": "Pointsman's test", **facts},
    )
    issue = await tracker.create_issue(draft)
    findings = [Finding(level="ok", message=f"created issue {issue.key} {issue.url}".rstrip())]
    findings += [Finding(level="warning", message=note) for note in issue.notes]
    await tracker.add_comment(issue, "A comment of the test.", Marker(snapshot.marker_text(uuid.uuid4())))
    findings.append(Finding(level="ok", message="commented on it"))
    if tracker.capabilities.find:
        issues = await tracker.find_issue(marker, since)
        if issue.remote_id in {match.remote_id for match in issues}:
            findings.append(Finding(level="ok", message="found it by its marker"))
        else:
            message, impact = "did not find it by its marker (yet)", "unknown outcomes take longer to verify"
            findings.append(Finding(level="warning", message=message, impact=impact))
    await tracker.set_state(issue, "closed", "not_planned" if tracker.capabilities.close_reasons else None)
    findings.append(Finding(level="ok", message="closed it"))
    return findings


# -- sources -----------------------------------------------------------------------------------------------------


def _is_checked(source: LiveSource, slug: str | None) -> bool:
    """Return whether a source is checked: the named one, or each that has a check or can't be used."""
    if slug is not None:
        return source.slug == slug
    return source.plugin is None or source.capabilities.check


async def _check_source(database: Database, source: LiveSource) -> list[Finding]:
    if source.plugin is None:
        findings = [
            Finding(level="error", message=source.problem, impact="its reports are stored and not processed")
        ]
    else:
        try:
            findings = list(await source.plugin.check(source.intake_url)) if source.capabilities.check else []
        except Exception as error:  # noqa: BLE001 - plugin code
            failure = destinations.Failure.from_error(error)
            findings = [
                Finding(level="error", message=str(failure), impact="requests to it fail the same way")
            ]
    findings += await _check_reports(database, source)
    return _prefixed(source.slug, findings)


async def _check_reports(database: Database, source: LiveSource) -> list[Finding]:
    """Check when a source last sent a report, and whether backfilling from it works."""
    row = await sources.source_status(database, source.id)
    if row is None:
        return []
    findings = []
    if row.heard_at is None:
        findings.append(
            Finding(
                level="warning",
                message="no report was received from it in the last week",
                impact="nothing, if there was nothing to report",
                remedy="let it send a test",
            )
        )
    else:
        received_at = f"{row.heard_at:%Y-%m-%d %H:%M:%S} UTC"
        findings.append(Finding(level="ok", message=f"its last report was received at {received_at}"))
    if row.failed_at is not None:
        findings.append(
            Finding(
                level="error",
                message=f"backfilling from it failed {row.failures} times in a row: {row.failure}",
                impact="reports that were lost in transit are not found",
                remedy="see above, or the service's log",
            )
        )
    elif row.polled_to is not None:
        findings.append(
            Finding(level="ok", message=f"it is backfilled up to {row.polled_to:%Y-%m-%d %H:%M:%S} UTC")
        )
    return findings
