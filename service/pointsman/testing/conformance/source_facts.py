"""Describe a kind of source for the report card. Defects are found by the tests, not here."""

from __future__ import annotations

import copy
from typing import Any

from pointsman.plugin_api import Source, SourceCapabilities
from pointsman.testing.conformance.source_case import SourceCase
from pointsman.testing.report import version_of
from pointsman.testing.source_report import BY_SETTINGS, CAPABILITIES, NO, YES

_METHODS = {"comment": "add_comment"}
"""The methods whose name differs from their capability."""


def describe_source(case: SourceCase) -> dict[str, Any]:
    """Return the facts as plain values, which can pass between processes."""
    source = case.source
    can = {name: _degree(case, name) for name in CAPABILITIES}
    repeats = _repeats(case)
    signs = _overrides(source, "verify")
    declared = [name for name in CAPABILITIES if can[name] != NO]
    declared += ["signature"] * signs + ["dedupe"] * ("dedupe" in repeats)
    later = any(example.later is not None for example in case.examples)
    return {
        "kind": kind_of(case),
        "title": str(getattr(source, "title", "")),
        "class": f"{source.__module__}.{source.__qualname__}",
        "version": version_of(source.__module__.partition(".")[0]),
        "api_version": getattr(source, "api_version", None),
        "capabilities": can,
        "authenticated": ["token", "signature"] if signs else ["token"],
        "deduplicated": repeats,
        "asks": bool(getattr(source, "owns_tickets", False)),
        "declared": declared,
        "shown": ["signature"] * (case.sign is not None) + ["dedupe"] * later,
    }


def kind_of(case: SourceCase) -> str:
    """Return the kind's name."""
    return str(getattr(case.source, "kind", ""))


def _overrides(source: type[Source], method: str) -> bool:
    base = getattr(Source, method)
    return getattr(source, method, base) is not base


def _degree(case: SourceCase, capability: str) -> str:
    """Return whether the kind has a capability with the case's settings, perhaps with others, or not at all."""
    declared: list[Any] = [getattr(case.source, "capabilities", SourceCapabilities())]
    for more in ({}, case.signing):
        try:
            declared.append(case.make(more).capabilities)
        except Exception:  # noqa: BLE001, S112 - settings that do not fit are for the tests
            continue
    if any(getattr(capabilities, capability, False) for capabilities in declared):
        return YES
    return BY_SETTINGS if _overrides(case.source, _METHODS.get(capability, capability)) else NO


def _repeats(case: SourceCase) -> list[str]:
    """Return by what repeated examples are recognized."""
    owner = bool(getattr(case.source, "owns_tickets", False))
    keys = {"Idempotency-Key"} if owner else set()
    for example in case.examples:
        try:
            body, headers = copy.deepcopy(example.body), dict(example.headers)
            values = [value.dedupe for value in case.make().read_report(headers, example.raw, body)]
        except Exception:  # noqa: BLE001, S112 - an example that is not read is for the tests
            continue
        keys |= {"body" if value is None else "dedupe" if value else "never" for value in values}
    if owner:
        keys.discard("body")  # the same text of two people is two requests
    return [value for value in ("dedupe", "Idempotency-Key", "body", "never") if value in keys]
