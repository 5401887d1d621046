"""Durations as people write them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.domain.duration import parse_duration


def test_units():
    seconds = {text: parse_duration(text) for text in ("90s", "10m", "24h", "7d", "2w", "01m")}
    assert seconds == {"90s": 90, "10m": 600, "24h": 86400, "7d": 604800, "2w": 1209600, "01m": 60}


@pytest.mark.parametrize(
    "text",
    ["", "10", "m", "10 m", "1.5h", "-1h", "1h30m", "10M", "٣m", "10m\n", "0s", "3661d", "9999999999s"],
)
def test_what_is_no_duration_is_refused_with_the_cure(text):
    with pytest.raises(ValueError, match="write") as caught:
        parse_duration(text)
    assert repr(text) in str(caught.value)


@given(st.text(max_size=8))
def test_nothing_but_value_errors(text):
    with contextlib.suppress(ValueError):
        assert parse_duration(text) > 0
