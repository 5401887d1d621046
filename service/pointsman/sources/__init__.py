"""Built-in source kinds, registered through the same hook as third-party plugins."""

from __future__ import annotations

from collections.abc import Callable

from pointsman.plugin_api import Source, hookimpl
from pointsman.sources.alertmanager import Alertmanager
from pointsman.sources.bugsink.source import Bugsink
from pointsman.sources.cloudevents import CloudEvents
from pointsman.sources.generic import Generic
from pointsman.sources.sentry import Sentry
from pointsman.sources.tickets import Tickets

KINDS: tuple[type[Source], ...] = (Alertmanager, Bugsink, CloudEvents, Generic, Sentry, Tickets)


@hookimpl
def pointsman_register_sources(register: Callable[[type[Source]], None]) -> None:
    """Register the kinds that come with Pointsman."""
    for kind in KINDS:
        register(kind)
