"""The distributions are complete, and the locked versions are installed."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[3]
PLUGINS = sorted(
    path.parent
    for path in (ROOT / "plugins").glob("*/pyproject.toml")
    # this package runs elsewhere: inside Bugsink
    if "[project.entry-points.pointsman]" in path.read_text("utf-8")
)
LOCKS = {
    "requirements.lock": [],
    "requirements-embedded.lock": ["embedded"],
    "requirements-dev.lock": ["embedded", "dev"],
    "requirements-build.lock": None,
    "bench/requirements.lock": None,
}
PIN = re.compile(r"([a-z0-9][a-z0-9-]*)==([^ ;]+)(?: ; ([^\\]+?))? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")


def read_lock(name) -> dict[str, Version]:
    pins: dict[str, Version] = {}
    hashes = 1
    for line in (ROOT / name).read_text().splitlines():
        pin = PIN.fullmatch(line)
        if pin:
            assert hashes, f"{name}: a pin without a hash above {line}"
            assert pin[1] not in pins, f"{name}: {pin[1]} is pinned twice"
            pins[pin[1]], hashes = Version(pin[2]), 0
        else:
            assert HASH.fullmatch(line), f"{name}: neither a pin nor a hash: {line}"
            hashes += 1
    assert hashes, f"{name}: the last pin has no hash"
    return pins


def declared(folder, extras=()) -> list[Requirement]:
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    declared = list(project.get("dependencies", []))
    for extra in extras:
        declared += project["optional-dependencies"][extra]
    return [requirement for requirement in map(Requirement, declared) if requirement.name != "pointsman"]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_names_versions_and_hashes_alone(name):
    """Locks contain no host, no path and no option, so that they work with any mirror."""
    assert read_lock(name)


@pytest.mark.parametrize("name", LOCKS)
def test_our_own_names_are_not_in_a_lock(name):
    assert not [pin for pin in read_lock(name) if pin.startswith("pointsman")]


@pytest.mark.parametrize(
    ("name", "extras"), [(name, extras) for name, extras in LOCKS.items() if extras is not None]
)
def test_every_dependency_is_locked(name, extras):
    pins = read_lock(name)
    for requirement in [*declared(ROOT, extras), *(r for plugin in PLUGINS for r in declared(plugin))]:
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{name} lacks {requirement}: run make lock"
        assert version in requirement.specifier, f"{name} has {version} for {requirement}: run make lock"


def test_what_builds_is_locked():
    pins = read_lock("requirements-build.lock")
    assert pins.keys() == {"setuptools", "uv"}
    for folder in (ROOT, *PLUGINS):
        for text in tomllib.loads((folder / "pyproject.toml").read_text())["build-system"]["requires"]:
            requirement = Requirement(text)
            assert pins[requirement.name] in requirement.specifier


def test_locks_agree():
    locks = {name: read_lock(name) for name in LOCKS}
    for name, pins in locks.items():
        for other, others in locks.items():
            for package in pins.keys() & others.keys():
                assert pins[package] == others[package], f"{package} differs between {name} and {other}"
    runtime, embedded, dev = (locks[name].keys() for name in list(LOCKS)[:3])
    assert runtime <= embedded <= dev


def test_the_makefile_and_the_image_install_every_plugin():
    for name in ("Makefile", "Dockerfile"):
        text = (ROOT / name).read_text()
        assert [plugin.name for plugin in PLUGINS if f"./plugins/{plugin.name}" not in text] == []


def make(folder, *arguments):
    """Run make without the environment of a make that started the tests."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_make_without_a_target_says_what_there_is():
    output = make(ROOT).stdout
    for target in ("install", "demo", "test", "unit", "lint", "run", "lock", "image", "manifests", "clean"):
        assert f"make {target} " in output


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ("sys.exit(1)", "Python 3.11 or newer is needed"),
        ("sys.exit('ensurepip' in sys.argv[-1])", "lacks venv"),
    ],
)
def test_make_says_what_python_lacks(tmp_path, answers, message):
    for name in ("Makefile", "setup.cfg", *LOCKS):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "some-python"
    python.write_text(f"#!{sys.executable}\nimport sys\n{answers}\n")
    python.chmod(0o755)
    done = make(tmp_path, f"PYTHON={python}", ".venv/.stamps/venv")
    assert done.returncode != 0
    assert message in done.stderr
    assert (
        "no-such-python was not found" in make(tmp_path, "PYTHON=no-such-python", ".venv/.stamps/venv").stderr
    )


def build_wheel(source, target) -> set[str]:
    """Build a wheel without network, in a copy, and return the names of its files."""
    copy = target / source.name
    ignored = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "node_modules")
    shutil.copytree(source, copy, ignore=ignored)
    script = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, str(target)], cwd=copy, capture_output=True, check=True)
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def files_below(folder, *patterns) -> set[Path]:
    return {
        path
        for pattern in patterns
        for path in folder.rglob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.slow
def test_the_wheel_holds_the_whole_service(tmp_path):
    names = build_wheel(ROOT, tmp_path)
    service, sql = ROOT / "service", ROOT / "sql"
    wanted = {str(path.relative_to(service)) for path in files_below(service / "pointsman", "*")}
    wanted |= {
        f"pointsman/sql/{path.relative_to(sql)}"
        for path in files_below(sql, "*.sql", "__init__.py", "README.md")
    }
    assert wanted - names == set()
    assert any(name.startswith("pointsman/sql/migrations/") for name in names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    others = {name for name in names - wanted if ".dist-info/" not in name}
    assert others == set(), "only files of the service are packaged"


@pytest.mark.slow
@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_a_plugins_wheel_is_whole(plugin, tmp_path):
    names = build_wheel(plugin, tmp_path)
    package = f"pointsman_{plugin.name}"
    wanted = {str(path.relative_to(plugin)) for path in files_below(plugin / package, "*")}
    assert {f"{package}/__init__.py", f"{package}/py.typed"} <= wanted
    assert wanted - names == set()
    assert any(name.endswith("/entry_points.txt") for name in names)
    assert not [name for name in names if name.startswith("tests/")]
