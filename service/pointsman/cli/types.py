"""What options of commands may look like, beyond words and numbers."""

from __future__ import annotations

import datetime as dt
import re

import click

_AGE = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Age(click.ParamType[dt.timedelta]):
    """A span such as 90s, 30m, 6h or 2d."""

    name = "age"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> dt.timedelta:
        """The span."""
        if isinstance(value, dt.timedelta):
            return value
        if (found := _AGE.fullmatch(str(value))) is None:
            self.fail(f"{value!r} is no age: write 90s, 30m, 6h or 2d", param, ctx)
        return dt.timedelta(**{_UNITS[found[2]]: int(found[1])})


class Moment(click.ParamType[dt.datetime | dt.timedelta]):
    """A time (ISO 8601, UTC if it names no zone), or an age."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> dt.datetime | dt.timedelta:
        """The time as it is, or the age, which counts from the database's time."""
        if isinstance(value, dt.datetime | dt.timedelta):
            return value
        if _AGE.fullmatch(str(value)):
            return Age().convert(value, param, ctx)
        try:
            found = dt.datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time: write 2026-11-21T10:00, or an age such as 6h", param, ctx)
        return found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC)
