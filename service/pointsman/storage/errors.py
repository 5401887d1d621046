"""The errors that storage raises; no error of the driver leaves this package.

pointsman.errors.DatabaseError
├── DatabaseUnavailable   the database can't be reached, does not answer or takes no writes; try again when it is back
└── TransactionConflict   another transaction was in the way; run the transaction again
StatementError            the server refused a statement: a value it can't store, or a defect of this program
"""

from __future__ import annotations

import asyncpg

from pointsman.errors import DatabaseError


class DatabaseUnavailable(DatabaseError):
    """The database can't be reached, does not answer, or takes no writes.

    ``reason`` is a short name for logs and public answers; it never contains a part of the DSN.
    """

    def __init__(self, message: str, reason: str = "DatabaseUnavailable") -> None:
        super().__init__(message)
        self.reason = reason


class TransactionConflict(DatabaseError):
    """A deadlock, a lock that was not granted in time, or a serialization failure: the transaction can be run again."""


class StatementError(Exception):
    """The server or the driver refused a statement; ``__cause__`` is the driver's error."""


DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)

_UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    OSError,
    TimeoutError,
)
_CONFLICTS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)


def translate(error: BaseException) -> DatabaseError | StatementError:
    """Return our error for one of ``DRIVER_ERRORS``."""
    reason = type(error).__name__
    message = f"{reason}: {first_line(error)}" if str(error) else reason
    if isinstance(
        error, _CONFLICTS
    ):  # first: LockNotAvailableError is an ObjectNotInPrerequisiteStateError too
        return TransactionConflict(message)
    # an InterfaceError that is a ValueError: the driver can't encode a value
    if isinstance(error, _UNAVAILABLE) and not isinstance(error, ValueError):
        return DatabaseUnavailable(message, reason)
    return StatementError(message)


def first_line(error: BaseException) -> str:
    """Return the first line of a driver's error; later lines can contain parts of the DSN."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
