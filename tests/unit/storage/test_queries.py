"""Named statements: each has a name, a sentence and a body, and the files of the house are well-formed."""

import threading
import time
import uuid
from importlib.resources import files

import pytest

from pointsman.storage.db import uuid5, uuid7
from pointsman.storage.queries import Queries, queries

FILES = sorted(one.name.removesuffix(".sql") for one in (files("pointsman.sql") / "queries").iterdir())


def test_a_file_is_read_into_statements_with_their_sentences():
    made = Queries(
        "x",
        "-- the top of the file is for readers\n\n-- name: one\n-- Says one thing,\n-- in two lines.\nselect 1\n"
        "  -- an indented comment stays\n\n-- name: two\n-- Says another.\nselect 2\n",
    )
    assert list(made) == ["one", "two"]
    assert made.sentences == {"one": "Says one thing, in two lines.", "two": "Says another."}
    assert made["one"] == "/* one */ select 1\n  -- an indented comment stays"
    assert made["two"] == "/* two */ select 2"


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
def test_every_file_of_the_house_can_be_read(file):
    made = queries(file)
    assert list(made)
    for name in made:
        assert made[name].startswith(f"/* {name} */ ")
        assert ";" not in made[name].rstrip(";"), "one statement each: the driver takes no more"


# -- uuid7 -----------------------------------------------------------------------------------------------------------


def test_a_uuid7_has_its_version_its_variant_and_the_time():
    before = time.time_ns() // 1_000_000
    made = uuid7()
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= after


def test_uuid7s_are_all_different_and_sort_by_time(monkeypatch):
    assert len({uuid7() for _ in range(5000)}) == 5000
    times = iter(range(1_700_000_000_000_000_000, 1_700_000_001_000_000_000, 1_000_000))
    monkeypatch.setattr(time, "time_ns", lambda: next(times))
    made = [uuid7() for _ in range(1000)]
    assert made == sorted(made)
    assert [str(one) for one in made] == sorted(str(one) for one in made)


def test_uuid7s_of_many_threads_are_all_different():
    made = []
    threads = [threading.Thread(target=lambda: made.extend(uuid7() for _ in range(5000))) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(set(made)) == 20_000


@pytest.mark.parametrize("name", ["", "shop\nfingerprint\n1\nboard\ncreate", "ä\n€ \U0001f600", "x" * 10_000])
def test_a_uuid5_is_the_one_of_the_standard_library(name):
    """Markers stand in issues for years: they must come out the same."""
    space = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    assert uuid5(space, name) == uuid.uuid5(space, name)
    assert str(uuid5(space, name)) == str(uuid.uuid5(space, name))
