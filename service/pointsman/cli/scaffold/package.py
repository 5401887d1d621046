"""Create the files of a new plugin package from templates."""

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
    """Raise PointsmanError if a plugin can't have this name, or an installed plugin has it."""
    if name.startswith("pointsman-"):
        raise PointsmanError(
            f"leave out pointsman-, it is added: pointsman plugin new {name.removeprefix('pointsman-')}"
        )
    if not _NAME.fullmatch(name):
        raise PointsmanError(
            f"{name!r} is no name for a plugin: lower-case letters and digits, segments joined by hyphens, "
            "a letter first, such as my-tracker"
        )
    if len(name) > LONGEST_NAME:
        raise PointsmanError(
            f"the name has {len(name)} characters, {LONGEST_NAME} at most: it is part of URLs"
        )
    if _normalize(name) in {_normalize(other) for other in taken}:
        raise PointsmanError(f"a plugin {name} is installed already: choose another name")


def installed() -> set[str]:
    """Return the names of installed plugins: those of their entry points and of their distributions."""
    names = {point.name for point in entry_points(group="pointsman")}
    for distribution in distributions():
        name = distribution.name or ""
        if _normalize(name).startswith("pointsman-"):
            names.add(name[len("pointsman-") :])
    return names


def files(name: str, *, source: bool = False) -> dict[str, str]:
    """Return the files of a tracker or source plugin: their text by path."""
    segments = name.split("-")
    values = {
        "name": name,
        "word": "_".join(segments),
        "module": "_".join(["pointsman", *segments]),
        "camel": "".join(segment.capitalize() for segment in segments),
        "upper": "_".join(segments).upper(),
        "title": " ".join(segment.capitalize() for segment in segments),
        "purpose": "Reports from" if source else "Issues on",
    }
    folder = resources.files("pointsman.cli.scaffold") / "templates"
    texts = {}
    for path, template in (_SOURCE_TEMPLATES if source else _TEMPLATES).items():
        text = string.Template((folder / template).read_text("utf-8")).substitute(values)
        texts[string.Template(path).substitute(values)] = text
    texts |= {string.Template(path).substitute(values): "" for path in _EMPTY}
    return texts


def write(name: str, folder: Path, *, source: bool = False) -> list[Path]:
    """Write the package into a new or empty folder. Return the paths. Raises PointsmanError if that is not possible."""
    texts = {folder / path: text for path, text in files(name, source=source).items()}
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise PointsmanError(f"{folder} exists and is not an empty folder: name another with --folder")
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    except OSError as error:
        raise PointsmanError(f"{folder} can't be written: {error.strerror or error}") from error
    return list(texts)


def _normalize(name: str) -> str:
    """Return the name by which distributions are compared: lower case, with single hyphens."""
    return re.sub(r"[-_.]+", "-", name).lower()
