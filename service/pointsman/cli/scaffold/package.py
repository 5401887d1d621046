"""A new plugin package: which files it has, and what stands in them."""

from __future__ import annotations

import re
import string
from collections.abc import Collection
from importlib import resources
from importlib.metadata import distributions, entry_points
from pathlib import Path

from pointsman.errors import PointsmanError

LONGEST_NAME = 40

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TEMPLATES = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "README.md.txt",
    ".gitignore": "gitignore.txt",
    "${module}/__init__.py": "init.py.txt",
    "${module}/tracker.py": "tracker.py.txt",
    "${module}/wire.py": "wire.py.txt",
    "tests/fake_${word}.py": "fake.py.txt",
    "tests/test_wire.py": "test_wire.py.txt",
    "tests/test_conformance.py": "test_conformance.py.txt",
}
_SOURCE_TEMPLATES = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "source_README.md.txt",
    ".gitignore": "gitignore.txt",
    "${module}/__init__.py": "source_init.py.txt",
    "${module}/source.py": "source.py.txt",
    "tests/test_${word}.py": "test_source.py.txt",
}
_EMPTY = ("${module}/py.typed",)


def check_name(name: str, taken: Collection[str]) -> None:
    """Refuse a name that can't be one, or that another plugin has; the message says what can."""
    if name.startswith("pointsman-"):
        raise PointsmanError(
            f"leave out pointsman-, it is added: pointsman plugin new {name.removeprefix('pointsman-')}"
        )
    if not _NAME.fullmatch(name):
        raise PointsmanError(
            f"{name!r} is no name for a plugin: lower-case letters and digits, words joined by hyphens, "
            "a letter first, such as my-tracker"
        )
    if len(name) > LONGEST_NAME:
        raise PointsmanError(
            f"the name has {len(name)} characters, {LONGEST_NAME} at most: it stands in addresses"
        )
    if _alike(name) in {_alike(one) for one in taken}:
        raise PointsmanError(f"a plugin {name} is installed already: choose another name")


def installed() -> set[str]:
    """The names that installed plugins go by: those of their entry points and of their distributions."""
    found = {point.name for point in entry_points(group="pointsman")}
    names = (one.name for one in distributions())
    found |= {name[len("pointsman-") :] for name in names if name and _alike(name).startswith("pointsman-")}
    return found


def files(name: str, *, source: bool = False) -> dict[str, str]:
    """The package's files by their path in it: those of a tracker, or of a source."""
    words = name.split("-")
    values = {
        "name": name,
        "word": "_".join(words),
        "module": "_".join(["pointsman", *words]),
        "camel": "".join(word.capitalize() for word in words),
        "upper": "_".join(words).upper(),
        "title": " ".join(word.capitalize() for word in words),
        "what": "Reports from" if source else "Issues on",
    }
    folder = resources.files("pointsman.cli.scaffold") / "templates"
    made = {}
    for path, template in (_SOURCE_TEMPLATES if source else _TEMPLATES).items():
        text = string.Template((folder / template).read_text("utf-8")).substitute(values)
        made[string.Template(path).substitute(values)] = text
    made |= {string.Template(path).substitute(values): "" for path in _EMPTY}
    return made


def write(name: str, folder: Path, *, source: bool = False) -> list[Path]:
    """Write the package into a folder that is not there yet, or empty; the paths that were written."""
    made = {folder / path: text for path, text in files(name, source=source).items()}
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise PointsmanError(f"{folder} is there and not an empty folder: name another with --folder")
        for path, text in made.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    except OSError as error:
        raise PointsmanError(f"{folder} can't be written: {error.strerror or error}") from error
    return list(made)


def _alike(name: str) -> str:
    """Names of distributions that differ in this alone are one."""
    return re.sub(r"[-_.]+", "-", name).lower()
