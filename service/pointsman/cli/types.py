"""Define types of command-line options: ages, times, files and choices."""

from __future__ import annotations

import contextlib
import datetime as dt
from pathlib import Path

import click

from pointsman.domain.duration import parse_duration
from pointsman.domain.retry_policy import Outcome
from pointsman.domain.states import DeliveryKind

FILE = click.Path(path_type=Path)
OUTCOME = click.Choice([outcome.value for outcome in Outcome])
DELIVERY_KIND = click.Choice([kind.name.lower() for kind in DeliveryKind])


class Age(click.ParamType[dt.timedelta]):
    """A duration such as 90s, 30m, 6h or 2d."""

    name = "age"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> dt.timedelta:
        """Return the duration."""
        if isinstance(value, dt.timedelta):
            return value
        try:
            return dt.timedelta(seconds=parse_duration(str(value)))
        except ValueError:
            self.fail(f"{value!r} is no age: write 90s, 30m, 6h or 2d", param, ctx)


class Moment(click.ParamType[dt.datetime | dt.timedelta]):
    """A time (ISO 8601, UTC if it names no zone), or an age."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> dt.datetime | dt.timedelta:
        """Return the time, or the age, which counts back from the database's time."""
        if isinstance(value, dt.datetime | dt.timedelta):
            return value
        with contextlib.suppress(ValueError):
            return dt.timedelta(seconds=parse_duration(str(value)))
        try:
            moment = dt.datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time: write 2026-11-21T10:00, or an age such as 6h", param, ctx)
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)
