"""Compute when quiet hours end. Pure.

Hours are read on the clock of their time zone. For an ambiguous time, when clocks are set back, the start uses its first and the
end its second occurrence; a time that does not exist maps to the moment of the transition.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Sequence
from zoneinfo import ZoneInfo

from pointsman.domain.routing import QuietHours, Route

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = dt.timedelta(days=1)
_SECOND = dt.timedelta(seconds=1)


def validate(hours: QuietHours) -> None:
    """Raise ValueError, with the correction, for quiet hours that are not valid."""
    start, end = _time(hours.start), _time(hours.end)
    _zone(hours.zone)
    for day in hours.days:
        if day not in DAYS:
            raise ValueError(f"{day!r} is no day: write {', '.join(DAYS)}")
    if start == end and set(hours.days or DAYS) == set(DAYS):
        raise ValueError(
            "quiet hours that never end: nothing would ever be posted; leave some time in between"
        )


def quiet_hours_end(hours: QuietHours, now: dt.datetime) -> dt.datetime | None:
    """Return the end, in UTC, of the quiet hours in force; None if there are none.

    Periods that follow without a gap count as one.
    """
    end = _end_of_period(hours, now)
    if end is None:
        return None
    for _ in DAYS:
        next_end = _end_of_period(hours, end)
        if next_end is None:
            break
        end = next_end
    return end


def quiet_hours_for(routes: Sequence[Route], destination_id: int) -> QuietHours | None:
    """Return the quiet hours of a destination: those of the first matching route that names it, else of the first."""
    for route in routes:
        if destination_id in route.destinations:
            return route.options.quiet_hours
    return routes[0].options.quiet_hours if routes else None


def _end_of_period(hours: QuietHours, now: dt.datetime) -> dt.datetime | None:
    zone, start, end = _zone(hours.zone), _time(hours.start), _time(hours.end)
    is_overnight = end <= start
    today = now.astimezone(zone).date()
    ends = []
    for day in (today - _DAY, today):
        if hours.days and DAYS[day.weekday()] not in hours.days:
            continue
        starts_at = _utc(dt.datetime.combine(day, start), zone, last=False)
        ends_at = _utc(dt.datetime.combine(day + _DAY if is_overnight else day, end), zone, last=True)
        if starts_at <= now < ends_at:
            ends.append(ends_at)
    return max(ends, default=None)


def _utc(local: dt.datetime, zone: ZoneInfo, *, last: bool) -> dt.datetime:
    """Return the first or the last moment at which a clock shows a time, or the transition that skips it."""
    first = local.replace(tzinfo=zone, fold=0).astimezone(dt.UTC)
    second = local.replace(tzinfo=zone, fold=1).astimezone(dt.UTC)
    if first <= second:
        return second if last else first
    # skipped: with the offset after the transition the time is before it, with the offset before it is after it
    early, late = second, first
    offset = early.astimezone(zone).utcoffset()
    while late - early > _SECOND:
        middle = early + (late - early) // 2
        if middle.astimezone(zone).utcoffset() == offset:
            early = middle
        else:
            late = middle
    return late.replace(microsecond=0)


@functools.lru_cache(maxsize=200)
def _time(text: str) -> dt.time:
    try:
        return dt.datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007 - a time of day has no zone of its own
    except ValueError as error:
        raise ValueError(f"{text!r} is no time of day: write hours and minutes, such as 22:00") from error


@functools.lru_cache(maxsize=200)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"{name!r} is no time zone that is known here: write one such as Europe/Berlin"
        ) from error
