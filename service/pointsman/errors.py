"""What the core says when it can't go on: the thing, the cause and the next step."""

from __future__ import annotations

from collections.abc import Sequence


class PointsmanError(Exception):
    """Something a person must mend. ``exit_code`` is what the command line ends with."""

    exit_code = 1


class ConfigError(PointsmanError):
    """Settings or the configuration file are wrong; every mistake is in ``problems``, each with its cure."""

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class SchemaError(PointsmanError):
    """The database's schema does not fit this program."""

    exit_code = 3


class DatabaseError(PointsmanError):
    """The database can't be reached or refused us."""

    exit_code = 4


class Overloaded(PointsmanError):
    """Too much waits already; come again later."""
