"""The numbers of states in sql/ are those of pointsman.domain.states."""

from __future__ import annotations

import enum
import re
from importlib.resources import files

import pytest

from pointsman.domain import states

SQL = files("pointsman.sql")
QUERIES = sorted(entry.name for entry in (SQL / "queries").iterdir() if entry.name.endswith(".sql"))

COLUMNS: dict[tuple[str, str], type[enum.IntEnum]] = {
    ("destination", "kind"): states.DestinationKind,
    ("destination_state", "breaker"): states.BreakerState,
    ("report", "state"): states.ReportState,
    ("ticket", "kind"): states.TicketKind,
    ("ticket", "status"): states.TicketStatus,
    ("enrichment", "state"): states.EnrichmentState,
    ("lane", "state"): states.LaneState,
    ("delivery", "kind"): states.DeliveryKind,
    ("delivery", "state"): states.DeliveryState,
    ("link", "state"): states.LinkState,
    ("link", "remote_state"): states.TicketStatus,
    ("webhook", "state"): states.WebhookState,
    ("webhook_key", "kind"): states.WebhookKeyKind,
}
NAMES = "state|kind|status|breaker|remote_state"


def migrations() -> str:
    folder = SQL / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return "\n".join((folder / name).read_text("utf-8") for name in names)


def columns_with_numbers() -> dict[tuple[str, str], tuple[set[int], dict[str, int]]]:
    """Return the values of the CHECK constraint and the named values of the comment, of each smallint column."""
    columns = {}
    for table, body in re.findall(r"^create table (\w+) \((.*?)^\)", migrations(), re.MULTILINE | re.DOTALL):
        for line in body.splitlines():
            if column := re.match(r"\s*(\w+)\s+smallint\b(.*)", line):
                check = re.search(rf"check \({column[1]} in \(([\d, ]+)\)\)", column[2])
                comment = column[2].partition("-- ")[2].partition(";")[0]
                columns[table, column[1]] = (
                    {int(number) for number in check[1].split(",")} if check else set(),
                    {name: int(number) for number, name in re.findall(r"(\d+) (\w+)", comment)},
                )
    return columns


def test_each_smallint_column_has_an_enumeration():
    assert set(columns_with_numbers()) == set(COLUMNS)


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_constraints_and_comments_name_the_values_of_the_enumeration(table: str, column: str):
    checked, named = columns_with_numbers()[table, column]
    members = {member.name.lower(): member.value for member in COLUMNS[table, column]}
    assert checked == set(members.values())
    assert named == members


def tables_of(statement: str) -> dict[str, set[str]]:
    """Return the tables that each alias, or name of a table, of a statement stands for."""
    aliases: dict[str, set[str]] = {}
    tables = {table for table, _ in COLUMNS}
    for table, alias in re.findall(r"\b(?:from|join|update|into)\s+(\w+)(?:\s+as)?(?:\s+(\w+))?", statement):
        if table in tables:
            aliases.setdefault(table, set()).add(table)
            if alias not in ("", "set", "where", "on", "using", "join", "select", "values", "cross", "left"):
                aliases.setdefault(alias, set()).add(table)
    return aliases


def comparisons(statement: str) -> list[tuple[str, str, list[int]]]:
    """Return alias, column and numbers of each comparison or assignment of a state with literals."""
    pattern = rf"(?:\b(\w+)\.)?\b({NAMES})\b(?: \+ 0)? *(?:=|<>|in) *\(?((?:\d+(?:, )?)+)(?![\w.]| -)"
    return [
        (alias, column, [int(number) for number in numbers.split(",") if number.strip()])
        for alias, column, numbers in re.findall(pattern, statement)
    ]


@pytest.mark.parametrize("file", QUERIES)
def test_literals_of_the_statements_are_values_of_their_columns(file: str):
    text = re.sub(r"^\s*--.*$", "", (SQL / "queries" / file).read_text("utf-8"), flags=re.MULTILINE)
    wrong = []
    for statement in re.split(r"\n\n+", text):
        aliases = tables_of(statement)
        for alias, column, numbers in comparisons(statement):
            tables = aliases.get(alias) or set().union(*aliases.values())
            allowed = [set(COLUMNS[table, column]) for table in tables if (table, column) in COLUMNS]
            if not any(set(numbers) <= values for values in allowed):
                wrong.append((" ".join(statement.split())[:60], alias, column, numbers))
    assert not wrong


def test_partial_indexes_name_values_of_their_columns():
    pattern = r"create (?:unique )?index \w+ on (\w+) [^;]*?\bwhere state = (\d)"
    indexes = re.findall(pattern, migrations())
    assert indexes
    for table, number in indexes:
        assert int(number) in set(COLUMNS[table, "state"])


def test_the_comparisons_are_found():
    statement = "update lane l set state = 3 from delivery d where d.state in (0, 2) and l.state <> 4"
    assert comparisons(statement) == [("", "state", [3]), ("d", "state", [0, 2]), ("l", "state", [4])]
    assert tables_of(statement) == {
        "lane": {"lane"},
        "l": {"lane"},
        "delivery": {"delivery"},
        "d": {"delivery"},
    }
    assert sum(len(comparisons((SQL / "queries" / file).read_text("utf-8"))) for file in QUERIES) > 100
