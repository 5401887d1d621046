"""Turn driver records into typed rows: one ``NamedTuple`` per shape of result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

_R = TypeVar("_R", bound=NamedTuple)


def rows_of(row_type: type[_R], records: Iterable[Any]) -> list[_R]:
    """Return the records of one statement as rows of ``row_type``.

    The statement's columns must be the fields of ``row_type``, in the same order. Raises TypeError otherwise.
    """
    rows: list[_R] = []
    checked = False
    for record in records:
        if not checked:
            _check_columns(row_type, record)
            checked = True
        rows.append(row_type._make(record.values()))
    return rows


def row_of(row_type: type[_R], record: Any | None) -> _R | None:
    """Return one record as a row of ``row_type``, or None for None. Raises TypeError when the columns differ."""
    if record is None:
        return None
    _check_columns(row_type, record)
    return row_type._make(record.values())


def _check_columns(row_type: type[_R], record: Mapping[str, Any]) -> None:
    columns = tuple(record.keys())
    if columns != row_type._fields:
        raise TypeError(
            f"{row_type.__name__} has the fields {row_type._fields}; the statement returns {columns}"
        )
