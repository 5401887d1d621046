"""Check the documentation: code blocks run, links resolve, and lists are complete."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import string
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec
import pytest
from prometheus_client import Counter, Gauge, Histogram

from configuration import ADMIN
from pointsman.cli import main
from pointsman.config import file as config_file
from pointsman.config.secrets import Vault
from pointsman.domain.retry_policy import Outcome
from pointsman.plugin_host import snapshot
from pointsman.plugin_host.registry import Registry
from pointsman.web.metrics import Metrics
from pointsman.web.problems import TITLES
from pointsman_forgejo.testing import FakeForgejo
from polling import until
from service_fixture import RunningService

ROOT = Path(__file__).parents[3]
SKIPPED = {".venv", ".git", "node_modules", "build"}
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part in SKIPPED or part.startswith(".") for part in path.relative_to(ROOT).parts)
)
OURS = [
    path
    for path in PAGES
    if path.parent in (ROOT, ROOT / "docs", ROOT / "sql") or path == ROOT / "plugins" / "README.md"
]
_BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^`([\w./-]+\.\w+)`:$", re.MULTILINE)


class Block(msgspec.Struct, frozen=True):
    """Code block; ``file`` is the file name in the line before the block, if there is one."""

    language: str
    text: str
    file: str = ""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, *languages: str) -> list[Block]:
    text = path.read_text("utf-8")
    items = []
    for match in _BLOCK.finditer(text):
        before = text[: match.start()].rstrip().rpartition("\n")[2]
        file = _FILE.fullmatch(before)
        inner = "".join(line.removeprefix(match[1]) for line in match[3].splitlines(keepends=True))
        if not languages or match[2] in languages:
            items.append(Block(match[2], inner, file[1] if file else ""))
    return items


def with_blocks(*languages: str) -> list[Any]:
    return [pytest.param(path, id=name(path)) for path in OURS if blocks(path, *languages)]


def rows(path: Path, heading: str = "") -> list[list[str]]:
    """Return the rows of the tables below a heading, or of the whole page without a heading."""
    text = path.read_text("utf-8")
    if heading:
        text = re.split(r"^#", text.partition(f"{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    ]
    return [row for row in cells if not set(row[0]) <= set("- :")]


def names(path: Path, heading: str = "") -> set[str]:
    """Return the code in the first column."""
    return {word for row in rows(path, heading) for word in re.findall(r"`([^`]+)`", row[0])}


# -- links and listings ------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_somewhere(path: Path):
    text = _BLOCK.sub("", path.read_text("utf-8"))
    for target in re.findall(r"\]\(([^()\s]+)\)", text):
        parts = urlsplit(target)
        if parts.scheme:
            assert parts.scheme == "https", target
            continue
        linked = (path.parent / parts.path).resolve() if parts.path else path
        assert linked.exists(), f"{name(path)} links to {target}"
        if parts.fragment:
            assert parts.fragment in anchors(linked), f"{name(path)} links to {target}"


def test_every_page_can_be_reached_from_the_readme():
    linked, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in linked:
            continue
        linked.add(page)
        targets = re.findall(r"\]\(([^()\s#]+\.md)[#)]?", page.read_text("utf-8"))
        todo += [(page.parent / target).resolve() for target in targets if "://" not in target]
    assert set(OURS) - linked == set()


def test_every_setting_is_described():
    read = set()
    for file in ("config/settings.py", "storage/embedded/binaries.py"):
        source = (ROOT / "service" / "pointsman" / file).read_text("utf-8")
        read |= set(re.findall(r'"((?:POINTSMAN|FORGEJO|DATABASE|XDG)_[A-Z_]+)"', source))
    described = {row[0].strip("`") for row in rows(ROOT / "docs" / "settings.md")} - {"variable"}
    assert described == read


def test_no_page_names_a_setting_that_is_not_there():
    known = {row[0].strip("`") for row in rows(ROOT / "docs" / "settings.md")} | {
        "POINTSMAN_TEST_DATABASE_URL"
    }
    for path in PAGES:
        used = set(re.findall(r"\bPOINTSMAN_[A-Z_]+\b", path.read_text("utf-8")))
        assert used <= known, name(path)


def test_every_command_is_described():
    described = {
        command
        for path in (ROOT / "README.md", ROOT / "docs" / "operations.md")
        for command in re.findall(r"pointsman ([a-z][a-z-]*)", path.read_text("utf-8"))
    }
    assert set(main.main.commands) - described == set()
    listed = {
        command.removeprefix("pointsman ")
        for command in names(ROOT / "docs" / "operations.md")
        if "pointsman " in command
    }
    assert set(main.main.commands) - listed == set()


def test_every_option_is_described():
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    for command in _all_commands(main.main):
        for option in (word for each in command.params for word in each.opts if word.startswith("--")):
            assert option in page, f"pointsman {command.name} {option}"


def _all_commands(group: click.Group) -> Iterator[click.Command]:
    """Return the commands of a group and of its subgroups."""
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from _all_commands(command)


def test_every_type_of_problem_is_described():
    page = ROOT / "docs" / "api.md"
    documented = {row[0].strip("`"): int(row[1]) for row in rows(page, "## Problems") if row[1].isdigit()}
    assert documented == {name: status for name, (status, _) in TITLES.items()}


def test_every_metric_is_described():
    metrics = Metrics()
    kinds = {Counter: "_total", Gauge: "", Histogram: ""}
    defined = {
        metric._name + kinds[type(metric)] for metric in vars(metrics).values() if type(metric) in kinds
    }
    assert names(ROOT / "docs" / "operations.md", "## Metrics") == defined


def test_every_outcome_is_described():
    assert {row[0].strip("`") for row in rows(ROOT / "docs" / "delivery.md", "## Outcomes")} - {
        "outcome"
    } == set(Outcome)


@pytest.mark.parametrize("kind", sorted(Registry.load().trackers))
def test_every_setting_of_a_tracker_is_described(kind: str):
    fields = msgspec.structs.fields(Registry.load().trackers[kind].Settings)
    documented = {
        row[0].strip("`"): row[1] for row in rows(ROOT / "docs" / "configuration.md", f"### `{kind}`")[1:]
    }
    assert set(documented) == {field.name for field in fields}
    for field in fields:
        assert documented[field.name].startswith("yes") == field.required, field.name


@pytest.mark.parametrize("kind", ["alertmanager", "generic", "sentry"])
def test_every_setting_of_a_source_is_described(kind: str):
    fields = msgspec.structs.fields(Registry.load().sources[kind].Settings)
    documented = {row[0].strip("`") for row in rows(ROOT / "docs" / "sources.md", f"### `{kind}`")[1:]}
    assert documented == {field.name for field in fields}


def test_every_kind_of_source_is_in_the_table():
    documented = {
        row[0].partition("`")[2].partition("`")[0] for row in rows(ROOT / "docs" / "sources.md", "# Sources")
    }
    assert set(Registry.load().sources) <= documented


# -- commands ----------------------------------------------------------------------------------------------------


def commands(block: Block) -> list[list[str]]:
    """Return the command lines of a block as lists of words; of a console block those after the prompt."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    return [shlex.split(line, comments=True) for line in join_quotes(lines) if line.strip()]


def join_quotes(lines: list[str]) -> list[str]:
    """Join lines whose quoted text continues in the next line."""
    joined: list[str] = []
    for line in lines:
        if joined and joined[-1].count("'") % 2:
            joined[-1] += "\n" + line
        else:
            joined.append(line)
    return joined


def pointsman_calls(path: Path) -> list[list[str]]:
    items = []
    for block in blocks(path, "sh", "console"):
        for words in commands(block):
            for number, word in enumerate(words):
                if word == "pointsman" and (number == 0 or words[number - 1] in ("|", "--", "1")):
                    rest = words[number + 1 :]
                    end = rest.index("|") if "|" in rest else len(rest)
                    items.append(rest[:end] + (["1/1"] if "xargs" in words[:number] else []))
    return items


@pytest.mark.parametrize(
    ("path", "words"),
    [
        pytest.param(path, words, id=f"{name(path)}: {' '.join(words)}")
        for path in PAGES
        for words in pointsman_calls(path)
    ],
)
def test_commands_in_the_pages_exist(path: Path, words: list[str]):
    command = main.main.commands[words[0]]
    with command.make_context(words[0], list(words[1:])):
        pass


def make_targets(text: str) -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE))


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_make_targets_in_the_pages_exist(path: Path):
    targets = make_targets((ROOT / "Makefile").read_text("utf-8"))
    used = {words[1] for block in blocks(path, "sh") for words in commands(block) if words[0] == "make"}
    assert used - targets == set()


# -- the configuration file --------------------------------------------------------------------------------------


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Set every environment variable that a block names."""
    named = {
        name
        for path in PAGES
        for block in blocks(path, "toml")
        for name in re.findall(r'env = "(\w+)"', block.text)
    }
    values = {variable: f"{variable.lower().replace('_', '-')}-of-the-tests" for variable in named}
    for variable, value in values.items():
        monkeypatch.setenv(variable, value)
    return values


class AnyFile(Vault):
    """Create the files that a block names."""

    def resolve(self, reference):
        return super().resolve({"env": "SHOP_TOKEN"} if "file" in reference else reference)


@pytest.mark.parametrize("path", with_blocks("toml"))
def test_the_toml_of_a_page_is_one_valid_file(path: Path, secrets: dict[str, str], example):
    """Skip blocks that are files of their own (pyproject.toml)."""
    text = "\n".join(block.text for block in blocks(path, "toml") if not block.file)
    kinds = snapshot.installed_kinds(Registry.load(), {})
    desired = config_file.read(text, path.name, kinds, AnyFile(()))
    assert desired.sources and desired.destinations and desired.routes
    assert desired.warnings == []


# -- Python ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", with_blocks("python"))
def test_the_python_of_a_page_runs(path: Path):
    """Run the blocks of a page in order; blocks that are files are tested as files."""
    if path.name == "conformance.md":
        pytest.skip("its example is run as a file, in tests/integration/testing")
    space: dict[str, Any] = {"__name__": "page"}
    for block in blocks(path, "python"):
        if not block.file:
            exec(compile(block.text, name(path), "exec", dont_inherit=True), space)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build the example plugin of the page and return its folder and the folder of the unpacked wheel."""
    folder = tmp_path_factory.mktemp("plugin") / "pointsman-notebook"
    for block in blocks(ROOT / "plugins" / "README.md"):
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, "utf-8")
    target = tmp_path_factory.mktemp("wheel")
    script = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, str(target)], cwd=folder, capture_output=True, check=True)
    [wheel] = target.glob("*.whl")
    site = target / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return folder, site


@pytest.fixture
def example(built: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    """Install the example plugin."""
    folder, site = built
    monkeypatch.syspath_prepend(str(site))
    yield folder
    sys.modules.pop("pointsman_notebook", None)


def test_the_example_plugin_is_found_and_fits(example: Path):
    registry = Registry.load()
    [status] = [status for status in registry.statuses if status.name == "notebook"]
    assert (status.refused, status.trackers, status.origin) == ("", ("notebook",), "pointsman-notebook")
    assert importlib.metadata.version("pointsman-notebook") == "0.1.0"


def test_the_example_plugins_own_tests_pass(built: tuple[Path, Path]):
    folder, site = built
    environ = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


async def test_the_example_plugin_goes_the_whole_way(example: Path, service: RunningService, tmp_path: Path):
    """An alert becomes an issue in the notebook; closed there, its ticket closes; a regression reopens it."""
    book = tmp_path / "notebook.json"
    text = "\n".join(block.text for block in blocks(ROOT / "plugins" / "README.md", "toml") if not block.file)
    text = text.replace('{ env = "SHOP_TOKEN" }', '"shop-token-of-the-tests"').replace(
        "/srv/notebook.json", str(book)
    )
    async with service.replica(text):
        ticket = (await service.alert())["ticket"]
        link = await service.linked(ticket)
        [issue] = json.loads(book.read_text("utf-8"))
        assert link["key"] == "1" and issue["marker"].startswith("pm1-")
        closed = {**issue, "state": "closed", "changed": "2100-01-01T00:00:00+00:00"}
        book.write_text(json.dumps([closed]), "utf-8")
        await until(lambda: status(service, ticket, "closed"), 30)
        await service.alert("REGRESSED", last_seen="2026-11-21T10:00:00Z")

        async def reopened() -> bool:
            [now] = json.loads(book.read_text("utf-8"))
            return now["state"] == "open" and len(now["comments"]) == 1

        await until(reopened)


async def status(service: RunningService, ticket: str, wanted: str) -> bool:
    return (await service.ticket(ticket))["status"] == wanted


# -- requests ----------------------------------------------------------------------------------------------------


class Request(msgspec.Struct):
    """Request of a curl command."""

    method: str
    path: str
    headers: dict[str, str]
    body: str


def curl(words: list[str]) -> Request:
    """Parse a curl command; fail for an unknown option."""
    request = Request("", "", {}, "")
    rest = iter(words[1:])
    for word in rest:
        match word:
            case "-X":
                request.method = next(rest)
            case "-H":
                key, _, value = next(rest).partition(":")
                request.headers[key] = value.strip()
            case "-d":
                request.body = next(rest)
                json.loads(request.body)
            case _:
                assert word.startswith("http://127.0.0.1:8080/"), word
                request.path = word.removeprefix("http://127.0.0.1:8080")
    request.method = request.method or ("POST" if request.body else "GET")
    return request


EXACT = {
    "state",
    "status",
    "type",
    "title",
    "kind",
    "source",
    "errors",
    "data",
    "destination",
    "reporter",
    "n",
}


def alike(shown: Any, real: Any, place: str = "answer") -> None:
    """Check that a response looks like the documented one: the same keys, and the same texts where they are constant."""
    assert type(shown) is type(real), place
    if isinstance(shown, dict):
        assert set(shown) == set(real), place
        for key, value in shown.items():
            if key in EXACT and not isinstance(value, (dict, list)):
                assert value == real[key], f"{place}.{key}"
            alike(value, real[key], f"{place}.{key}")
    elif isinstance(shown, list):
        assert len(shown) == len(real), place
        for number, (shown_item, real_item) in enumerate(zip(shown, real, strict=True)):
            alike(shown_item, real_item, f"{place}[{number}]")


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", ROOT / "docs" / "api.md", ROOT / "docs" / "sources.md"], ids=name
)
async def test_requests_are_answered_as_shown(path: Path, service: RunningService, secrets: dict[str, str]):
    """Every curl command of a page, in order, against a double of Forgejo and the configuration of the README, or of the
    page itself.
    """
    page = path if path.name == "sources.md" else ROOT / "README.md"
    text = "\n".join(block.text for block in blocks(page, "toml"))
    async with (
        FakeForgejo(repository="acme/shop", token=secrets["FORGEJO_TOKEN"]) as tracker,
        service.replica(re.sub("https://(codeberg.org|forgejo.example.com)", tracker.url, text)),
    ):
        known = {**secrets, "POINTSMAN_ADMIN_TOKEN": ADMIN}
        asked = [block for block in blocks(path) if block.language == "json" or "curl " in block.text]
        count = 0
        for number, block in enumerate(asked):
            if block.language != "sh":
                continue
            for line in commands(block):
                request = curl([string.Template(word).substitute(known) for word in line])
                answer = await ask(service, request)
                count += 1
                known["TICKET"] = answer.get("id") or answer.get("ticket") or known.get("TICKET", "")
            follower = asked[number + 1] if number + 1 < len(asked) else None
            if follower is not None and follower.language == "json":
                alike(json.loads(follower.text), answer)
        assert count >= 2
        await until(lambda: undelivered(service))
        assert tracker.issues_created() >= 2


async def ask(service: RunningService, request: Request) -> dict[str, Any]:
    """Send a request when no delivery is pending, so that the response is the same each time."""
    await until(lambda: undelivered(service))
    async with service.client.request(
        request.method, request.path, headers=request.headers, data=request.body or None
    ) as got:
        answer: dict[str, Any] = await got.json(content_type=None)
        assert got.status == (answer["status"] if "problem" in got.content_type else got.status), answer
        return answer


async def undelivered(service: RunningService) -> bool:
    """Return whether no delivery is pending; the metrics page is cached, so the database is queried."""
    import asyncpg

    con = await asyncpg.connect(service.settings.database_url.reveal())
    try:
        return not await con.fetchval("select count(*) from delivery where state = 0")
    finally:
        await con.close()


async def test_the_webhook_of_the_readme_closes_its_ticket(service: RunningService, secrets: dict[str, str]):
    """Configure URL and secret of the webhook as the page says."""
    page = (ROOT / "README.md").read_text("utf-8")
    [address] = re.findall(r"`\{PUBLIC_URL\}(/webhooks/\S+)`", page)
    [secret] = re.findall(r"the value of `(\w+)`", page)
    text = "\n".join(block.text for block in blocks(ROOT / "README.md", "toml"))
    async with (
        FakeForgejo(repository="acme/shop", token=secrets["FORGEJO_TOKEN"]) as tracker,
        service.replica(text.replace("https://codeberg.org", tracker.url)),
    ):
        response = await service.call("POST", f"/intake/shop/{secrets['SHOP_TOKEN']}", json=ALERT, status=202)
        link = await service.linked(response["ticket"])
        tracker.webhook_url, tracker.webhook_secret = f"{service.url}{address}", secrets[secret]
        assert await tracker.close_issue(int(link["key"])) == 200
        assert (await service.ticket(response["ticket"]))["status"] == "closed"


ALERT = {"id": "4711", "alert_reason": "NEW", "title": "KeyError: basket"}


def test_json_blocks_are_json():
    for path in OURS:
        for block in blocks(path, "json"):
            json.loads(block.text)


def test_what_the_demo_prints_is_what_the_readme_shows():
    """Every documented step is a step of the demo."""
    demo = ROOT / "service" / "pointsman" / "cli" / "demo"
    source = "".join((demo / name).read_text("utf-8") for name in ("main.py", "scenario.py"))
    [shown] = [block.text for block in blocks(ROOT / "README.md", "text") if "✓" in block.text]
    for line in re.findall(r"✓ (.+)$", shown, re.MULTILINE):
        words = re.split(r": |\d+\.\d+| http", line)[0]
        assert words in source or words in re.sub(r"\{[^}]*\}", "", source), words
