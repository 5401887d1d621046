"""Named statements: each has a name, a sentence and a body, and the files of the house are well-formed."""

from importlib.resources import files

import pytest

from pointsman.storage.queries import Queries, queries

FILES = sorted(entry.name.removesuffix(".sql") for entry in (files("pointsman.sql") / "queries").iterdir())


def test_a_file_is_read_into_statements_with_their_sentences():
    statements = Queries(
        "x",
        "-- the top of the file is for readers\n\n-- name: one\n-- Says one thing,\n-- in two lines.\nselect 1\n"
        "  -- an indented comment stays\n\n-- name: two\n-- Says another.\nselect 2\n",
    )
    assert list(statements) == ["one", "two"]
    assert statements.sentences == {"one": "Says one thing, in two lines.", "two": "Says another."}
    assert statements["one"] == "/* one */ select 1\n  -- an indented comment stays"
    assert statements["two"] == "/* two */ select 2"


@pytest.mark.parametrize(
    "text",
    [
        "-- name: one\n-- A.\nselect 1\n-- name: one\n-- B.\nselect 2\n",
        "-- name: one\nselect 1\n",
        "-- name: one\n-- Only words.\n",
        "-- name: one\n",
    ],
)
def test_a_statement_that_stands_twice_or_lacks_a_part_is_refused_by_name(text):
    with pytest.raises(ValueError, match=r"x\.sql.*one"):
        Queries("x", text)


def test_an_unknown_name_is_told_with_its_file():
    with pytest.raises(KeyError, match=r"queue\.sql.*nothing_like_it"):
        queries("queue")["nothing_like_it"]


@pytest.mark.parametrize("file", FILES)
def test_every_file_can_be_read(file):
    statements = queries(file)
    assert list(statements)
    for name in statements:
        assert statements[name].startswith(f"/* {name} */ ")
        assert ";" not in statements[name].rstrip(";"), "one statement each: the driver takes no more"


def test_a_name_occurs_in_one_file_only():
    """pg_stat_statements shows the name of a statement without its file."""
    names = [name for file in FILES for name in queries(file)]
    assert sorted(names) == sorted(set(names))
