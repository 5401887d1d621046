"""What the author of a source supplies: the class, and requests as its sender makes them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pointsman.config.secrets import decode_secret
from pointsman.plugin_api import Action, Source

Sign = Callable[[str, bytes], Mapping[str, str]]
"""Returns the headers that sign a body with a secret; their names in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceExample:
    """A request of the sender: the ``body`` as decoded JSON, and the headers it needs, in lower case.

    ``actions`` are those of its reports, in order; none for an irrelevant request. ``later`` is a body that reports
    the same problems again, later: everything that changes with time is changed in it. ``needed`` are the fields
    without which it is Unreadable, as paths with dots.
    """

    name: str
    body: Any
    actions: tuple[Action, ...] = ("opened",)
    headers: Mapping[str, str] = field(default_factory=dict)
    later: Any = None
    needed: tuple[str, ...] = ()

    @property
    def raw(self) -> bytes:
        """Return the body as bytes."""
        return json.dumps(self.body).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCase:
    """A kind of source under test.

    ``settings`` are plain values, secrets as texts. ``test`` is what the sender's test button posts, if there is one.
    ``signing`` and ``sign`` belong to a kind that verifies signatures: the settings that require a signature made
    with ``secret``, and how the sender signs; ``other_secret`` is another one of the same form. ``lenient`` is False
    if an unknown field is an error on purpose.
    """

    source: type[Source]
    examples: Sequence[SourceExample]
    settings: Mapping[str, Any] = field(default_factory=dict)
    test: SourceExample | None = None
    secret: str = ""
    other_secret: str = ""
    signing: Mapping[str, Any] = field(default_factory=dict)
    sign: Sign | None = None
    lenient: bool = True

    def make(self, more: Mapping[str, Any] | None = None) -> Source:
        """Return a source with these settings."""
        values = {**self.settings, **(more or {})}
        return self.source(msgspec.convert(values, self.source.Settings, dec_hook=decode_secret))

    def requests(self) -> Sequence[SourceExample]:
        """Return all examples, the test button's included."""
        return [*self.examples, *([self.test] if self.test is not None else [])]


Path = tuple[str | int, ...]

UNUSUAL_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 2**63, 1e300),
    *("", " ", "x", "\u202e\u0000\x1b[31m", "x" * 20_000),
    *([], {}, [[]], [None], [0, "x"], {"": None}, {"x": [{}]}),
)


def paths_in(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every value in a decoded body, the body itself first."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths_in(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from paths_in(inner, (*path, number))


def value_at(value: Any, path: Path) -> Any:
    """Return the value at a path."""
    for key in path:
        value = value[key]
    return value


def with_value(value: Any, path: Path, new: Any) -> Any:
    """Return the body with another value at a path."""
    if not path:
        return copy.deepcopy(new)
    result = copy.deepcopy(value)
    value_at(result, path[:-1])[path[-1]] = copy.deepcopy(new)
    return result


def without_value(value: Any, path: Path) -> Any:
    """Return the body without the value at a path."""
    result = copy.deepcopy(value)
    del value_at(result, path[:-1])[path[-1]]
    return result


def parse_path(dotted: str) -> Path:
    """Return ``alerts.0.status`` as a path."""
    return tuple(int(key) if key.isdigit() else key for key in dotted.split("."))
