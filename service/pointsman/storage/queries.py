"""Load named SQL statements from ``sql/queries``.

A statement starts at a line ``-- name: some_name``. The comment lines below describe its purpose in a sentence, and it
ends where the next statement starts. The name precedes the statement as a comment, so that it is visible in
pg_stat_statements.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


class Queries:
    """The statements of one file, by name: ``queries("queue")["claim_lanes"]``.

    Raises ValueError for a repeated name, and for a statement without a sentence or a body.
    """

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.sentences: dict[str, str] = {}
        self._statements: dict[str, str] = {}
        parts = _NAME.split(text)
        for name, block in zip(parts[1::2], parts[2::2], strict=True):
            if name in self._statements:
                raise ValueError(f"sql/queries/{file}.sql names {name} twice")
            lines = block.strip().splitlines()
            comments = [line[3:] for line in lines if line.startswith("-- ")]
            body = "\n".join(line for line in lines if not line.startswith("-- "))
            if not comments or not body.strip():
                raise ValueError(f"sql/queries/{file}.sql: {name} lacks its sentence or its statement")
            self.sentences[name] = " ".join(comments)
            self._statements[name] = f"/* {name} */ {body.strip()}"

    def __getitem__(self, name: str) -> str:
        try:
            return self._statements[name]
        except KeyError:
            raise KeyError(f"sql/queries/{self.file}.sql has no statement named {name}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)


@cache
def queries(file: str) -> Queries:
    """Return the statements of ``sql/queries/<file>.sql``."""
    return Queries(file, (files("pointsman.sql") / "queries" / f"{file}.sql").read_text("utf-8"))
