"""What a tracker or a source can do. The core never calls an optional method that is not declared here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pointsman.plugin_api.values import Quota


class TrackerCapabilities(msgspec.Struct, frozen=True, kw_only=True):
    """The optional methods that a tracker implements, and its limits.

    * ``webhooks``: ``verify_webhook`` and ``read_webhook``; the tracker can call us.
    * ``find``: ``find_issue`` and ``find_comment``; without them an unknown outcome waits for a person.
    * ``list_changes``, ``read_issue``, ``update_issue``, ``own_account``, ``delete_comment``, ``check``, ``ensure_webhook``,
      ``redeliver_webhooks``: the method of that name.
    * ``close_reasons``: the tracker stores why an issue was closed; without it ``set_state`` gets no reason.

    ``settle_seconds``: after an unknown outcome the core waits that long before each search for the marker, and sends the
    request again only if no search found it. ``poll_seconds``: the interval of ``list_changes``. ``quotas``: the published
    limits on writes, of which the core uses 80 %; without quotas writes are not limited.
    ``request_timeout_seconds``: the timeout of each request.
    """

    webhooks: bool = False
    find: bool = False
    list_changes: bool = False
    close_reasons: bool = False
    read_issue: bool = False
    update_issue: bool = False
    own_account: bool = False
    delete_comment: bool = False
    check: bool = False
    ensure_webhook: bool = False
    redeliver_webhooks: bool = False
    settle_seconds: tuple[float, ...] = (30.0,)
    poll_seconds: float = 600.0
    request_timeout_seconds: float = 30.0
    quotas: tuple[Quota, ...] = ()


class SourceCapabilities(msgspec.Struct, frozen=True, kw_only=True):
    """The optional methods that a source implements, and its limits.

    * ``enrich``: it returns details of a problem.
    * ``backfill``: it is asked every ``poll_seconds`` for reports that did not arrive.
    * ``set_state``: it is told that an issue was closed or reopened.
    * ``comment``: ``add_comment``; it is told where the issue was created.
    * ``find``: ``find_comment``; without it a comment whose outcome is unknown may be posted twice.
    * ``check``: it checks its configuration.

    ``request_timeout_seconds`` is the timeout of each request to its API.
    """

    enrich: bool = False
    backfill: bool = False
    set_state: bool = False
    comment: bool = False
    find: bool = False
    check: bool = False
    poll_seconds: float = 300.0
    request_timeout_seconds: float = 10.0

    @property
    def writes_back(self) -> bool:
        """Whether the source is told about its problems."""
        return self.set_state or self.comment


TRACKER_METHODS: Mapping[str, tuple[str, ...]] = {
    "webhooks": ("verify_webhook", "read_webhook"),
    "find": ("find_issue", "find_comment"),
    "list_changes": ("list_changes",),
    "read_issue": ("read_issue",),
    "update_issue": ("update_issue",),
    "own_account": ("own_account",),
    "delete_comment": ("delete_comment",),
    "check": ("check",),
    "ensure_webhook": ("ensure_webhook",),
    "redeliver_webhooks": ("redeliver_webhooks",),
}
"""The methods behind each capability of a tracker."""

SOURCE_METHODS: Mapping[str, tuple[str, ...]] = {
    "enrich": ("enrich",),
    "backfill": ("backfill",),
    "set_state": ("set_state",),
    "comment": ("add_comment",),
    "find": ("find_comment",),
    "check": ("check",),
}
"""The methods behind each capability of a source."""


def missing_methods(
    kind: type[Any], base: type[Any], capabilities: TrackerCapabilities | SourceCapabilities
) -> list[str]:
    """Return the methods that the capabilities declare and the class inherits unchanged from the contract's base class."""
    return [
        method for flag, method in _methods_of(capabilities) if flag and not _overrides(kind, base, method)
    ]


def undeclared_methods(
    kind: type[Any], base: type[Any], capabilities: TrackerCapabilities | SourceCapabilities
) -> list[str]:
    """Return the optional methods that the class implements without declaring them: the core never calls those."""
    return [
        method for flag, method in _methods_of(capabilities) if not flag and _overrides(kind, base, method)
    ]


def _methods_of(capabilities: TrackerCapabilities | SourceCapabilities) -> list[tuple[bool, str]]:
    table = TRACKER_METHODS if isinstance(capabilities, TrackerCapabilities) else SOURCE_METHODS
    return [(getattr(capabilities, flag), method) for flag, methods in table.items() for method in methods]


def _overrides(kind: type[Any], base: type[Any], method: str) -> bool:
    # a class method is bound anew at each access, so its function is compared
    own, inherited = getattr(kind, method), getattr(base, method)
    return getattr(own, "__func__", own) is not getattr(inherited, "__func__", inherited)
