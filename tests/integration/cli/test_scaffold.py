"""A new plugin package works unchanged: it installs, is discovered, passes its tests, and delivers."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from configuration import SOURCES
from pointsman.cli.scaffold import package
from pointsman.cli.scaffold.commands import plugin
from pointsman.errors import PointsmanError
from pointsman.plugin_host import factory
from pointsman.plugin_host.registry import Registry
from polling import until
from service_fixture import RunningService

NAME, MODULE = "road-works", "pointsman_road_works"
ROOT = Path(__file__).parents[3]


# -- names and places --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "desk", "my-desk", "desk2", "a-1-b", "x" * package.LONGEST_NAME])
def test_good_names_are_taken(name: str):
    package.check_name(name, ())


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-",
        "Desk",
        "my_desk",
        "my desk",
        "2desk",
        "desk-",
        "-desk",
        "my--desk",
        "désk",
        "../desk",
        "desk\n",
        "$name",
    ],
)
def test_odd_names_are_refused(name: str):
    with pytest.raises(PointsmanError, match="is no name for a plugin"):
        package.check_name(name, ())


def test_what_is_wrong_with_a_name_is_reported():
    with pytest.raises(PointsmanError, match="41 characters, 40 at most"):
        package.check_name("x" * 41, ())
    with pytest.raises(PointsmanError, match=r"leave out pointsman-.*new desk"):
        package.check_name("pointsman-desk", ())
    with pytest.raises(PointsmanError, match="installed already"):
        package.check_name("my-desk", ("My_Desk",))


def test_installed_plugins_are_known():
    assert {"folder", "forgejo", "github", "jira"} <= package.installed()


def test_every_file_is_filled_in():
    """No placeholder is left, all Python compiles, and the entry point leads to the package."""
    texts = package.files("my-desk")
    for path, text in texts.items():
        assert "${" not in path + text
        if path.endswith(".py"):
            compile(text, path, "exec")
    project = tomllib.loads(texts["pyproject.toml"])["project"]
    assert project["name"] == "pointsman-my-desk"
    assert project["entry-points"]["pointsman"] == {"my-desk": "pointsman_my_desk"}
    assert {"README.md", ".gitignore", "pointsman_my_desk/py.typed", "tests/test_conformance.py"} <= set(
        texts
    )


def test_every_template_is_used():
    folder = Path(package.__file__).parent / "templates"
    assert {path.name for path in folder.iterdir()} == {
        *package._TEMPLATES.values(),
        *package._SOURCE_TEMPLATES.values(),
    }


def new(*arguments: str):
    return CliRunner().invoke(plugin, ["new", *arguments])


def test_the_command_writes_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The default folder is pointsman-NAME; the output names the next steps."""
    monkeypatch.chdir(tmp_path)
    done = new("my-desk")
    assert done.exit_code == 0, done.output
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {f"pointsman-my-desk/{path}" for path in package.files("my-desk")}
    assert "wrote pointsman-my-desk/pyproject.toml" in done.output
    assert "python -m pip install --editable ./pointsman-my-desk" in done.output
    (tmp_path / "empty").mkdir()
    assert new("my-desk", "--folder", str(tmp_path / "empty")).exit_code == 0


@pytest.mark.slow
def test_a_new_source_passes_its_own_tests_and_is_well_written(tmp_path: Path):
    folder = tmp_path / "pointsman-my-alarms"
    done = new("--source", "my-alarms", "--folder", str(folder))
    assert done.exit_code == 0, done.output
    texts = package.files("my-alarms", source=True)
    assert not [path for path, text in texts.items() if "${" in path + text]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environ["PYTHONPATH"] = str(folder)
    for arguments in (
        ["pytest", "-q", "-p", "no:cacheprovider", f"--pointsman-report={tmp_path / 'card.json'}"],
        ["ruff", "check", "--no-cache", "."],
        ["ruff", "format", "--no-cache", "--diff", "."],
    ):
        ran = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
    [card] = json.loads((tmp_path / "card.json").read_text("utf-8"))["sources"]
    assert (card["kind"], card["grade"], card["remarks"]) == ("my-alarms", "A", [])
    environ["MYPYPATH"] = os.pathsep.join([str(ROOT / "service"), str(folder)])
    arguments = [
        "--strict",
        "--explicit-package-bases",
        "--follow-imports=silent",
        "-p",
        "pointsman_my_alarms",
    ]
    cache = f"--cache-dir={tmp_path / 'cache'}"
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments, cache],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_command_overwrites_nothing(tmp_path: Path):
    (tmp_path / "mine").write_text("mine")
    for folder in (tmp_path, tmp_path / "mine"):
        done = new("my-desk", "--folder", str(folder))
        assert done.exit_code == 1
        assert "exists and is not an empty folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_command_says_what_it_can_not(tmp_path: Path):
    assert "no name for a plugin" in new("My Desk", "--folder", str(tmp_path / "new")).stderr
    assert "installed already" in new("forgejo", "--folder", str(tmp_path / "new")).stderr
    (tmp_path / "file").write_text("")
    done = new("my-desk", "--folder", str(tmp_path / "file" / "below"))
    assert (done.exit_code, "can't be written" in done.stderr) == (1, True)
    assert not (tmp_path / "new").exists()


# -- a package, installed ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build the package, and install its wheel into a venv without network. Return its folder and the site-packages."""
    folder = tmp_path_factory.mktemp("new") / f"pointsman-{NAME}"
    package.write(NAME, folder)
    target = tmp_path_factory.mktemp("wheel")
    script = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, str(target)], cwd=folder, capture_output=True, check=True)
    [wheel] = target.glob("*.whl")
    venv = target / "venv"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(venv)], capture_output=True, check=True
    )
    [site] = venv.glob("lib/python*/site-packages")
    # the venv must see the packages of this environment, editable ones included
    here = [path for path in sys.path if path.endswith("site-packages")]
    (site / "here.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in here))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return folder, site


def run(
    built: tuple[Path, Path], *arguments: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the Python of the venv."""
    folder, site = built
    python = site.parents[2] / "bin" / "python"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    return subprocess.run(
        [str(python), *arguments], cwd=cwd or folder, env=environ, capture_output=True, text=True, check=False
    )


@pytest.fixture
def installed(built: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    """Import the new package in this process for one test."""
    folder, site = built
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.syspath_prepend(str(folder / "tests"))
    yield folder
    for name in [module for module in sys.modules if module.partition(".")[0] in (MODULE, "fake_road_works")]:
        del sys.modules[name]


@pytest.mark.slow
def test_a_new_plugin_is_found_and_fits(installed: Path):
    registry = Registry.load()
    [status] = [status for status in registry.statuses if status.name == NAME]
    assert (status.refused, status.trackers, status.origin) == ("", (NAME,), f"pointsman-{NAME}")
    assert version(f"pointsman-{NAME}") == "0.1.0"
    tracker = registry.trackers[NAME]
    settings = factory.make_settings(tracker.Settings, {"url": "https://works.example.com", "token": "t"})
    assert tracker.connection(settings).base_url == "https://works.example.com/api"


@pytest.mark.slow
def test_a_new_plugin_is_listed_by_its_venv(built: tuple[Path, Path], tmp_path: Path):
    done = run(built, "-m", "pointsman", "plugins", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [row] = [row for row in json.loads(done.stdout) if row["name"] == NAME]
    assert (row["trackers"], row["refused"]) == ([NAME], "")


@pytest.mark.slow
def test_a_new_plugins_own_tests_pass_with_the_best_grade(built: tuple[Path, Path], tmp_path: Path):
    report = tmp_path / "report.json"
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--pointsman-report={report}"]
    done = run(built, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    [card] = json.loads(report.read_text("utf-8"))["trackers"]
    assert (card["kind"], card["version"], card["grade"], card["remarks"]) == (NAME, "0.1.0", "A", [])
    assert card["cells"]["run"] == card["cells"]["passed"] > 400


@pytest.mark.slow
def test_a_new_plugin_is_well_written(built: tuple[Path, Path], tmp_path: Path):
    """It passes mypy and ruff."""
    folder, _ = built
    cache = f"--cache-dir={tmp_path / 'cache'}"
    done = run(built, "-m", "ruff", "check", "--no-cache", ".")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run(built, "-m", "ruff", "format", "--no-cache", "--diff", ".")
    assert done.returncode == 0, done.stdout + done.stderr
    environ = {
        **os.environ,
        "MYPYPATH": os.pathsep.join([str(ROOT / "service"), str(folder), str(folder / "tests")]),
    }
    arguments = ["--strict", "--explicit-package-bases", "--follow-imports=silent", cache, "-p", MODULE]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
async def test_a_new_plugin_goes_the_whole_way(installed: Path, service: RunningService):
    """An alert becomes an issue; a person closes it, and its webhook closes the ticket; a regression reopens it."""
    double = importlib.import_module("fake_road_works")
    async with double.FakeRoadWorks(token="tracker-token") as fake:
        config = (
            SOURCES
            + f'[[destination]]\nslug = "there"\ntracker = "{NAME}"\nwebhook_secrets = ["hook-secret-of-the-tests"]\n'
            + f'[destination.settings]\nurl = "{fake.url}"\ntoken = "tracker-token"\n[[route]]\ndestination = "there"\n'
        )
        async with service.replica(config):
            ticket = (await service.alert())["ticket"]
            link = await service.linked(ticket)
            assert (link["key"], fake.issues_created()) == ("#1", 1)
            fake.webhook_url = f"{service.url}/webhooks/{NAME}/there"
            fake.webhook_secret = "hook-secret-of-the-tests"
            assert await fake.close_issue(1) == 200
            await service.status(ticket, "closed")
            await service.alert("REGRESSED", last_seen="2026-11-21T10:00:00Z")

            async def reopened() -> bool:
                return fake.issues[1]["state"] == "open" and len(fake.comments[1]) == 1

            await until(reopened)
            assert fake.issues_created() == 1
