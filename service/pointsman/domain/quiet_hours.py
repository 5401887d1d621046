"""Quiet hours: when what an alert makes is not posted, and when they end. Pure.

Hours are read on the clock of their zone. When that clock is put back, an hour's first coming begins them and its last
coming ends them; a time that it leaps over counts as the moment of the leap.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Sequence
from zoneinfo import ZoneInfo

from pointsman.domain.routing import QuietHours, Route

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_A_DAY = dt.timedelta(days=1)
_A_SECOND = dt.timedelta(seconds=1)


def validate(hours: QuietHours) -> None:
    """Raises ValueError, with the cure, for hours that can't be kept."""
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
    """When the quiet hours that hold now end, in UTC; None if none hold. Those that follow at once are added."""
    end = _end(hours, now)
    if end is None:
        return None
    for _ in DAYS:
        further = _end(hours, end)
        if further is None:
            break
        end = further
    return end


def quiet_hours_for(routes: Sequence[Route], destination_id: int) -> QuietHours | None:
    """The quiet hours of a destination: of the first of the rules that took the report and names it, else of the first."""
    for route in routes:
        if destination_id in route.destinations:
            return route.options.quiet_hours
    return routes[0].options.quiet_hours if routes else None


def _end(hours: QuietHours, now: dt.datetime) -> dt.datetime | None:
    zone, start, end = _zone(hours.zone), _time(hours.start), _time(hours.end)
    over_night = end <= start
    today = now.astimezone(zone).date()
    ends = []
    for day in (today - _A_DAY, today):
        if hours.days and DAYS[day.weekday()] not in hours.days:
            continue
        begins_at = _moment(dt.datetime.combine(day, start), zone, last=False)
        ends_at = _moment(dt.datetime.combine(day + _A_DAY if over_night else day, end), zone, last=True)
        if begins_at <= now < ends_at:
            ends.append(ends_at)
    return max(ends, default=None)


def _moment(wall: dt.datetime, zone: ZoneInfo, *, last: bool) -> dt.datetime:
    """When a clock shows a time, in UTC: for the first or the last time, or when it leaps over it."""
    before = wall.replace(tzinfo=zone, fold=0).astimezone(dt.UTC)
    after = wall.replace(tzinfo=zone, fold=1).astimezone(dt.UTC)
    if before <= after:
        return after if last else before
    # leapt over: with the offset of afterwards it lies before the leap, with that of before it lies after it
    early, late = after, before
    offset = early.astimezone(zone).utcoffset()
    while late - early > _A_SECOND:
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
