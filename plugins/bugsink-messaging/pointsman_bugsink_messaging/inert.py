"""Replacement for an unsupported Bugsink, so that services of our kind do not stop other services' alerts."""

from __future__ import annotations

import logging
from typing import Any

from django import forms

from pointsman_bugsink_messaging import LOGGER

REASON = "pointsman-bugsink-messaging does not support this version of Bugsink"


class InertForm(forms.Form):
    """A form that can't be saved, so that the configuration stays. Bugsink shows errors of fields only."""

    notice = forms.CharField(label="Not supported", required=False, help_text=REASON)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.pop("config", None)
        super().__init__(*args, **kwargs)

    def clean_notice(self) -> str:
        """Refuse."""
        raise forms.ValidationError(REASON)

    def get_config(self) -> dict[str, str]:
        """Raise an error: never called, as the form is never valid."""
        return {}


class InertBackend:
    """Logs that an alert was not sent."""

    def __init__(self, service_config: Any) -> None:
        self._service = service_config.id

    @classmethod
    def get_form_class(cls) -> type[forms.Form]:
        """Return the form of the service's settings."""
        return InertForm

    def send_test_message(self, *_: Any, **__: Any) -> None:
        """Send nothing."""
        self._say()

    def send_alert(self, *_: Any, **__: Any) -> None:
        """Send nothing."""
        self._say()

    def _say(self) -> None:
        logging.getLogger(LOGGER).error(
            "Alert of messaging service %s is not sent: %s", self._service, REASON
        )
