"""Regular expressions that mean the same to every Python from 3.11 on."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import re
import re._constants as op  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

HARMLESS = {
    r'"(?:[^"\\]++|\\.)*+"?': "an attempt that fails has taken nothing, or the backslash that ends the text",
}
SINGLE = {op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN}


def _patterns(value: Any) -> Iterator[re.Pattern[Any]]:
    match value:
        case re.Pattern():
            yield value
        case msgspec.Struct():
            yield from _patterns(msgspec.structs.astuple(value))
        case list() | tuple() | set() | frozenset():
            for item in value:
                yield from _patterns(item)
        case dict():
            yield from _patterns(list(value.values()))


def _modules() -> Iterator[str]:
    points = importlib.metadata.entry_points(group="pointsman")
    for package in sorted({"pointsman", *(point.module.partition(".")[0] for point in points)}):
        packages = pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
        yield from (module.name for module in packages if not module.name.endswith("__main__"))


def _possessive_of_more(tree: Any) -> Iterator[Any]:
    """What is repeated possessively in a parsed pattern and is more than one character."""
    for code, argument in tree:
        if code is op.POSSESSIVE_REPEAT and (len(argument[2]) != 1 or argument[2][0][0] not in SINGLE):
            yield argument[2]
        for part in argument if isinstance(argument, (tuple, list)) else ():
            for inner in part if isinstance(part, list) else [part]:
                if isinstance(inner, parser.SubPattern):
                    yield from _possessive_of_more(inner)


@pytest.mark.parametrize(
    ("pattern", "count"), [("(?:ab|c)*+", 1), ("(x(?:a|bc){2,4}+)?", 1), ("[ab]*+(?>(?:ab|c)*)", 0)]
)
def test_what_is_looked_for_is_found(pattern: str, count: int):
    assert len(list(_possessive_of_more(parser.parse(pattern)))) == count


def test_none_repeats_a_group_possessively():
    """Until Python 3.11.5 such a repeat swallows what a last attempt had begun to match: https://github.com/python/cpython/issues/106052.
    ``(?>(?:...)*)`` says the same, rightly.
    """
    seen, wrong = 0, []
    for name in _modules():
        for pattern in _patterns(list(vars(importlib.import_module(name)).values())):
            seen += 1
            text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
            if text not in HARMLESS and any(
                _possessive_of_more(parser.parse(pattern.pattern, pattern.flags))
            ):
                wrong.append(f"{name}: {pattern.pattern[:80]!r}")
    assert seen > 100
    assert not wrong, "\n".join(wrong)
