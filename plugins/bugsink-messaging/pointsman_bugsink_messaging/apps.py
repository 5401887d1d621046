"""Registration of the kind in Bugsink, without a change of its files.

Bugsink has no extension point for messaging kinds: two functions of ``alerts.models`` list them. Both are wrapped
here; an untested Bugsink version is not changed.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import logging
from collections.abc import Callable
from typing import Any

from django.apps import AppConfig

import pointsman_bugsink_messaging as ours


class PointsmanMessaging(AppConfig):
    """The app of INSTALLED_APPS. It has no tables."""

    name = "pointsman_bugsink_messaging"
    verbose_name = "Pointsman messaging"

    def ready(self) -> None:
        """Register the kind. Errors are logged, and Bugsink starts all the same."""
        log = logging.getLogger(ours.LOGGER)
        try:
            alerts = importlib.import_module("alerts.models")
            version = _version()
            if version in ours.SUPPORTED:
                # imported here because it needs Bugsink's models, which are there now; this makes its tasks known too
                from pointsman_bugsink_messaging.backend import PointsmanBackend  # noqa: PLC0415

                _wrap_classes(alerts, PointsmanBackend)
                _wrap_choices(alerts)
                return
            log.error(
                "pointsman-bugsink-messaging supports Bugsink %s; this is %s. The messaging service kind Pointsman is "
                "off: its services send nothing until a version of the app that supports this Bugsink is installed.",
                ", ".join(ours.SUPPORTED),
                version or "of an unknown version",
            )
            from pointsman_bugsink_messaging.inert import InertBackend  # noqa: PLC0415

            # one service of a kind that Bugsink does not know would stop the other services' alerts, and the mails
            _wrap_classes(alerts, InertBackend)
        except Exception:
            log.exception("pointsman-bugsink-messaging can't be used, its messaging service kind is off")


def _version() -> str:
    try:
        return importlib.metadata.version("bugsink")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _wrap_classes(alerts: Any, backend: type[Any]) -> None:
    """Return our class for our kind, and call Bugsink for every other kind."""
    known: Callable[[str], type[Any]] = alerts.get_alert_service_backend_class

    @functools.wraps(known)
    def backend_class(kind: str) -> type[Any]:
        return backend if kind == ours.KIND else known(kind)

    alerts.get_alert_service_backend_class = backend_class


def _wrap_choices(alerts: Any) -> None:
    """Add our kind to the list in the form and in the model; ``wraps`` keeps the name that migrations refer to."""
    known: Callable[[], list[tuple[str, str]]] = alerts.get_alert_service_kind_choices

    @functools.wraps(known)
    def choices() -> list[tuple[str, str]]:
        return [*known(), (ours.KIND, "Pointsman")]

    alerts.get_alert_service_kind_choices = choices
    alerts.MessagingServiceConfig._meta.get_field("kind").choices = choices  # noqa: SLF001 - Django's documented name
