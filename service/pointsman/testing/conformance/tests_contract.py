"""Tests of the class itself: its names, its capabilities, its settings."""

from __future__ import annotations

import inspect
import re
from types import ModuleType
from typing import Annotated, Any, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec

from pointsman.config.secrets import secret_fields
from pointsman.plugin_api import API_VERSION, PluginSettings, Secret, Tracker, hookimpl
from pointsman.plugin_api.capabilities import missing_methods, undeclared_methods
from pointsman.plugin_host.registry import Registry
from pointsman.testing.conformance.case_runner import CaseRunner
from pointsman.testing.conformance.harness import SECRET_CHARACTERS, Harness, canaries

LIKE_A_SECRET = re.compile(
    r"(^|_)(token|secret|password|passwd|passphrase|credential|api_?key|private_key)s?$"
)
_PURE = ("verify_webhook", "webhook_id", "read_webhook", "connection")


class ContractTests:
    """The shape of the contract."""

    def test_the_core_accepts_the_class(self, pointsman_runner: CaseRunner) -> None:
        """Registered through the hook, the class is taken: kind, API version, settings and methods fit."""
        module = ModuleType("plugin_under_test")

        def register_trackers(register: Any) -> None:
            register(pointsman_runner.tracker)

        module.pointsman_register_trackers = hookimpl(  # type: ignore[attr-defined]
            register_trackers, specname="pointsman_register_trackers"
        )
        registry = Registry()
        registry.add("plugin under test", "?", "?", module)
        assert not registry.statuses[0].refused, registry.statuses[0].refused
        assert pointsman_runner.tracker.api_version == API_VERSION

    def test_the_class_has_names(self, pointsman_runner: CaseRunner) -> None:
        """The kind is one lower-case word, used in addresses; the title is one line, for people."""
        kind, title = pointsman_runner.tracker.kind, pointsman_runner.tracker.title
        assert re.fullmatch(r"[a-z][a-z0-9_-]*", kind), f"kind {kind!r} is no lower-case word"
        assert title.strip() == title, f"title {title!r} has spaces around it"
        assert title.isprintable(), f"title {title!r} is not one line of text"
        assert title, "the title is empty"

    def test_every_setting_is_described(self, pointsman_runner: CaseRunner) -> None:
        """Each setting has a help text: the operator sees it in the console and when something is missing."""
        kind = pointsman_runner.tracker.Settings
        hints = get_type_hints(kind, include_extras=True)
        lacking = [name for name in kind.__struct_fields__ if not description(hints[name])]
        assert not lacking, f"settings without msgspec.Meta(description=...): {', '.join(lacking)}"

    def test_unknown_settings_are_refused(self, pointsman_runner: CaseRunner) -> None:
        """A misspelt setting is an error and not silently ignored."""
        config = pointsman_runner.tracker.Settings.__struct_config__
        assert issubclass(pointsman_runner.tracker.Settings, PluginSettings)
        assert config.forbid_unknown_fields, "declare the settings with forbid_unknown_fields=True"
        assert config.frozen, "declare the settings with frozen=True"

    def test_credentials_are_typed_as_secrets(self, pointsman_runner: CaseRunner) -> None:
        """What is named like a credential is a Secret: only those are sealed in the database and kept from sight."""
        kind = pointsman_runner.tracker.Settings
        secret = secret_fields(kind)
        plain = [name for name in kind.__struct_fields__ if LIKE_A_SECRET.search(name) and name not in secret]
        assert not plain, f"settings that should be of type Secret: {', '.join(plain)}"

    def test_settings_hide_their_secrets(self, pointsman_runner: CaseRunner) -> None:
        """Neither the settings nor the tracker show a secret when they are printed."""

        async def scenario(harness: Harness) -> None:
            hidden = canaries(harness.case, harness.settings)
            if secret_fields(type(harness.settings)):
                assert hidden, f"the double's secrets are shorter than {SECRET_CHARACTERS} characters"
            tracker = harness.tracker()
            for shown in (harness.settings, tracker, type(tracker).connection(harness.settings)):
                assert not any(secret in f"{shown!r}{shown!s}" for secret in hidden), (
                    f"{type(shown).__name__} shows a secret when it is printed"
                )

        pointsman_runner.run(scenario)

    def test_capabilities_match_the_methods(self, pointsman_runner: CaseRunner) -> None:
        """What is declared has its methods, and what has methods is declared: the core goes by the declaration."""
        kind, capabilities = pointsman_runner.tracker, pointsman_runner.capabilities
        missing = missing_methods(kind, Tracker, capabilities)
        assert not missing, f"capabilities declare these methods, and they are missing: {', '.join(missing)}"
        undeclared = undeclared_methods(kind, Tracker, capabilities)
        assert not undeclared, f"the core never calls {', '.join(undeclared)}: declare them in capabilities"

    def test_capabilities_have_sensible_numbers(self, pointsman_runner: CaseRunner) -> None:
        """Waits are positive and bounded: a lane waits as long as they say."""
        can = pointsman_runner.capabilities
        if can.find:
            assert can.settle_seconds, "settle_seconds is empty: say when the core may look"
        assert all(0 <= seconds <= 3600 for seconds in can.settle_seconds), "settle_seconds are 0 to 3600"
        assert list(can.settle_seconds) == sorted(can.settle_seconds), "settle_seconds grow"
        assert 1 <= can.poll_seconds <= 86400, "poll_seconds is 1 to 86400"
        assert 0 < can.request_timeout_seconds <= 60, "request_timeout_seconds is more than 0, 60 at most"

    def test_methods_are_of_the_right_kind(self, pointsman_runner: CaseRunner) -> None:
        """What reads or writes is async, what only judges bytes is not; signatures take what the core passes."""
        tracker = pointsman_runner.tracker
        for name, original in inspect.getmembers(Tracker, inspect.isroutine):
            own = getattr(tracker, name)
            if name.startswith("_") or own is original:
                continue
            assert inspect.iscoroutinefunction(own) == inspect.iscoroutinefunction(original), (
                f"{name} is {'not ' if name not in _PURE else ''}async"
            )
            try:
                inspect.signature(own).bind(*inspect.signature(original).parameters)
            except TypeError as error:
                raise AssertionError(f"{name} does not take what the core passes: {error}") from None

    def test_the_connection_has_one_origin(self, pointsman_runner: CaseRunner) -> None:
        """The base address is plain HTTP or HTTPS without a credential in it, and what identifies us is a Secret."""

        async def scenario(harness: Harness) -> None:
            connection = harness.case.tracker.connection(harness.settings)
            if connection is None:
                assert harness.double.fake is None, (
                    "the double has a server, and the tracker connects nowhere"
                )
                return
            parts = urlsplit(connection.base_url)
            assert parts.scheme in ("http", "https"), f"{parts.scheme!r} is not HTTP"
            assert parts.hostname, "base_url names no host"
            assert "@" not in parts.netloc, "base_url holds a credential: put it into a header"
            assert not parts.query + parts.fragment, "base_url has a query or a fragment"
            for name, value in connection.headers.items():
                assert isinstance(value, Secret), f"the header {name} is no Secret"
                assert value.reveal().isprintable(), f"the header {name} holds control characters"
            open_secrets = canaries(harness.case, harness.settings)
            assert not any(secret in connection.base_url for secret in open_secrets), (
                "base_url holds a secret"
            )

        pointsman_runner.run(scenario)

    def test_check_finds_a_healthy_place_healthy(self, pointsman_runner: CaseRunner) -> None:
        """`pointsman doctor` shows no error where all is well, and looking changes nothing."""

        async def scenario(harness: Harness) -> None:
            tracker = harness.tracker()
            findings = await tracker.check() if tracker.capabilities.check else ()
            errors = [finding.message for finding in findings if finding.level == "error"]
            assert not errors, f"check found {errors!r} at a healthy double"
            assert not await harness.double.issues(), "check made an issue"

        pointsman_runner.run(scenario)


def description(hint: Any) -> str:
    """Return the help text of a setting, empty if it has none."""
    if get_origin(hint) is not Annotated:
        return ""
    texts = [meta.description for meta in get_args(hint)[1:] if isinstance(meta, msgspec.Meta)]
    return next((meta for meta in texts if meta), "")
