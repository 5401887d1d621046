"""Errors that end a command or a request. The message names the object, the cause and the next step.

PointsmanError
├── ConfigError     settings or the configuration file are wrong
├── SchemaError     the database's schema does not fit this program
├── DatabaseError   the database can't be used
└── Overloaded      a limit on concurrent work is reached
"""

from __future__ import annotations

from collections.abc import Sequence


class PointsmanError(Exception):
    """An error that an operator must fix. ``exit_code`` is the exit status of the command line."""

    exit_code = 1


class ConfigError(PointsmanError):
    """Settings or the configuration file are wrong. ``problems`` lists every mistake with its remedy."""

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class SchemaError(PointsmanError):
    """The database's schema does not fit this program."""

    exit_code = 3


class DatabaseError(PointsmanError):
    """The database can't be reached, or it refused a statement."""

    exit_code = 4


class Overloaded(PointsmanError):
    """Too many requests are waiting; the same request can succeed later."""
