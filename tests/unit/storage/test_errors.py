"""Errors of the driver become ours, by what can be done about them."""

from __future__ import annotations

import asyncpg
import pytest

from pointsman.errors import DatabaseError
from pointsman.storage import errors
from pointsman.storage.errors import DatabaseUnavailable, StatementError, TransactionConflict, translate


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError("gone"), DatabaseUnavailable),
        (TimeoutError(), DatabaseUnavailable),
        (asyncpg.ConnectionDoesNotExistError("gone"), DatabaseUnavailable),
        (asyncpg.InterfaceError("connection is closed"), DatabaseUnavailable),
        (asyncpg.AdminShutdownError("terminating"), DatabaseUnavailable),
        (asyncpg.TooManyConnectionsError("full"), DatabaseUnavailable),
        (asyncpg.QueryCanceledError("statement timeout"), DatabaseUnavailable),
        (asyncpg.ReadOnlySQLTransactionError("a standby"), DatabaseUnavailable),
        (asyncpg.TransactionTimeoutError("too long"), DatabaseUnavailable),
        (asyncpg.DeadlockDetectedError("deadlock"), TransactionConflict),
        (asyncpg.SerializationError("conflict"), TransactionConflict),
        (asyncpg.LockNotAvailableError("locked"), TransactionConflict),
        (asyncpg.CheckViolationError("wrong"), StatementError),
        (asyncpg.exceptions.UndefinedTableError("no table"), StatementError),
        (asyncpg.exceptions._base.InterfaceError("closed"), DatabaseUnavailable),
    ],
)
def test_each_error_has_its_class(error: Exception, expected: type[Exception]):
    assert isinstance(error, errors.DRIVER_ERRORS)
    assert type(translate(error)) is expected


def test_a_value_that_the_driver_can_not_send_is_no_lost_connection():
    class BadValue(asyncpg.InterfaceError, ValueError):
        pass

    assert type(translate(BadValue("invalid input"))) is StatementError


def test_lines_that_can_hold_a_dsn_are_left_out():
    error = translate(
        asyncpg.InvalidPasswordError("password authentication failed\ndsn=postgres://a:secret@b")
    )
    assert isinstance(error, DatabaseError)
    assert str(error) == "InvalidPasswordError: password authentication failed"
