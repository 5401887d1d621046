"""Test how many connections the limit of open files allows."""

from __future__ import annotations

import pytest

from pointsman.web.server import connection_limit


@pytest.mark.parametrize(
    ("limits", "connections", "raised"),
    [
        ((5000, 5000), 1000, None),
        ((1024, 4096), 1000, (1200, 4096)),
        ((1024, -1), 1000, (1200, -1)),
        ((-1, -1), 1000, None),
        ((256, 1024), 824, (1024, 1024)),
        ((100, 100), 20, (100, 100)),
    ],
)
def test_there_are_files_for_the_connections_or_fewer_connections(limits, connections, raised):
    put = []
    assert connection_limit(1000, lambda: limits, put.append) == connections
    assert put == ([raised] if raised else [])


def test_a_limit_that_can_not_be_raised_is_lived_with():
    def put(_):
        raise ValueError("not allowed")

    assert connection_limit(1000, lambda: (1024, 4096), put) == 824
