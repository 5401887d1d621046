"""Quiet hours, on clocks that are put forward and back."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.domain.quiet_hours import DAYS, quiet_hours_end, quiet_hours_for, validate
from pointsman.domain.routing import Match, Options, QuietHours, Route

BERLIN = "Europe/Berlin"
NIGHT = QuietHours(start="22:00", end="07:00", zone=BERLIN)


def utc(text):
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def until(hours, text):
    end = quiet_hours_end(hours, utc(text))
    return end.strftime("%Y-%m-%d %H:%M:%S") if end is not None else None


@pytest.mark.parametrize(
    ("now", "end"),
    [
        ("2026-11-20 20:59:59", None),
        ("2026-11-20 21:00:00", "2026-11-21 06:00:00"),
        ("2026-11-20 23:30:00", "2026-11-21 06:00:00"),
        ("2026-11-21 05:59:59", "2026-11-21 06:00:00"),
        ("2026-11-21 06:00:00", None),
    ],
)
def test_over_midnight(now, end):
    assert until(NIGHT, now) == end


def test_within_a_day():
    lunch = QuietHours(start="12:00", end="13:30")
    assert until(lunch, "2026-11-20 11:59:00") is None
    assert until(lunch, "2026-11-20 12:00:00") == "2026-11-20 13:30:00"
    assert until(lunch, "2026-11-20 13:30:00") is None


def test_days_are_those_on_which_they_begin():
    weekend = QuietHours(start="18:00", end="08:00", days=["fri"])  # 2026-11-20 is a Friday
    assert until(weekend, "2026-11-20 05:00:00") is None
    assert until(weekend, "2026-11-20 19:00:00") == "2026-11-21 08:00:00"
    assert until(weekend, "2026-11-21 07:00:00") == "2026-11-21 08:00:00"
    assert until(weekend, "2026-11-21 19:00:00") is None


def test_hours_that_follow_at_once_are_added():
    weekend = QuietHours(start="00:00", end="00:00", days=["sat", "sun"])
    assert until(weekend, "2026-11-21 01:00:00") == "2026-11-23 00:00:00"
    assert until(weekend, "2026-11-20 23:59:00") is None


@pytest.mark.parametrize(
    ("start", "end", "now", "ends"),
    [
        # the clock is put forward at 2026-03-29 01:00 UTC, from 02:00 to 03:00
        ("22:00", "07:00", "2026-03-28 23:00:00", "2026-03-29 05:00:00"),
        ("22:00", "02:30", "2026-03-29 00:30:00", "2026-03-29 01:00:00"),
        ("22:00", "02:30", "2026-03-29 01:00:00", None),
        ("02:30", "04:00", "2026-03-29 00:59:00", None),
        ("02:30", "04:00", "2026-03-29 01:00:00", "2026-03-29 02:00:00"),
        # the clock is put back at 2026-10-25 01:00 UTC, from 03:00 to 02:00
        ("22:00", "07:00", "2026-10-24 23:00:00", "2026-10-25 06:00:00"),
        ("22:00", "02:30", "2026-10-25 00:45:00", "2026-10-25 01:30:00"),
        ("22:00", "02:30", "2026-10-25 01:30:00", None),
        ("02:30", "04:00", "2026-10-25 00:29:00", None),
        ("02:30", "04:00", "2026-10-25 00:30:00", "2026-10-25 03:00:00"),
        ("02:30", "04:00", "2026-10-25 01:10:00", "2026-10-25 03:00:00"),
    ],
)
def test_a_clock_that_is_put_forward_or_back(start, end, now, ends):
    assert until(QuietHours(start=start, end=end, zone=BERLIN), now) == ends


TIMES = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.sampled_from([0, 15, 30, 59]))
YEAR = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
MOMENTS = st.integers(0, 365 * 86400 * 10).map(lambda tenths: YEAR + dt.timedelta(seconds=tenths / 10))
ZONES = st.sampled_from(
    [BERLIN, "UTC", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"]
)


@given(TIMES, TIMES, ZONES, st.lists(st.sampled_from(DAYS), unique=True, max_size=6), MOMENTS)
def test_they_hold_until_they_end_and_then_they_do_not(start, end, zone, days, now):
    hours = QuietHours(start=start, end=end, zone=zone, days=days)
    if start == end and not days:
        return
    ends = quiet_hours_end(hours, now)
    if ends is None:
        return
    assert now < ends
    assert quiet_hours_end(hours, ends) is None
    assert quiet_hours_end(hours, ends - dt.timedelta(seconds=1)) == ends
    assert quiet_hours_end(hours, now + (ends - now) / 2) == ends
    wall = ends.astimezone(ZoneInfo(zone))
    leapt = (wall - dt.timedelta(hours=2)).utcoffset() != wall.utcoffset()
    assert leapt or wall.strftime("%H:%M") == end


@given(TIMES, TIMES, MOMENTS)
def test_where_clocks_are_left_alone_they_hold_as_the_clock_shows(start, end, now):
    if start == end:
        return
    shown = now.strftime("%H:%M")
    holds = start <= shown < end if start < end else shown >= start or shown < end
    assert (quiet_hours_end(QuietHours(start=start, end=end), now) is not None) is holds


@pytest.mark.parametrize(
    ("hours", "names"),
    [
        ({"start": "25:00", "end": "07:00"}, "25:00"),
        ({"start": "22:00", "end": "7"}, "'7'"),
        ({"start": "22:00", "end": "07:00", "zone": "Europe/Nowhere"}, "Europe/Nowhere"),
        ({"start": "22:00", "end": "07:00", "zone": "../../etc/passwd"}, "passwd"),
        ({"start": "22:00", "end": "07:00", "days": ["monday"]}, "monday"),
        ({"start": "22:00", "end": "22:00"}, "never end"),
        ({"start": "22:00", "end": "22:00", "days": list(DAYS)}, "never end"),
    ],
)
def test_hours_that_cannot_be_kept_are_named(hours, names):
    with pytest.raises(ValueError, match=names):
        validate(QuietHours(**hours))


def test_hours_that_can_be_kept():
    validate(NIGHT)
    validate(QuietHours(start="00:00", end="00:00", days=["sat", "sun"]))


def test_each_destination_keeps_the_hours_of_its_own_rule():
    quiet, loud = Options(quiet_hours=NIGHT), Options()
    routes = [Route(1, Match(), (1,), True, loud), Route(2, Match(), (1, 2), False, quiet)]
    assert [quiet_hours_for(routes, destination_id) for destination_id in (1, 2, 3)] == [None, NIGHT, None]
    assert quiet_hours_for(routes[1:], 3) is NIGHT, "where no rule leads any more, the first one's count"
    assert quiet_hours_for((), 1) is None
