"""Install a real Bugsink from PyPI into a venv and run it on loopback with an empty database.

The venvs are kept in `.cache/` below the repository; BUGSINK_VENVS names another folder.
https://www.bugsink.com/docs/single-server-install/
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest

from polling import until

REPOSITORY = Path(__file__).parents[2]
SHOP = Path(__file__).with_name("shop.py")
ADMIN = "admin@shop.example"

_SETTINGS = """
# Differences for a test on loopback: plain http, no phone home, alerts to loopback only.
SECURE_PROXY_SSL_HEADER = None
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = USE_X_REAL_IP = False
ALLOWED_HOSTS = ["127.0.0.1"]
BUGSINK.update({
    "BASE_URL": %(url)r,
    "PHONEHOME": False,
    "ALERTS_WEBHOOK_OUTBOUND_MODE": "allowlist_only",
    "ALERTS_WEBHOOK_ALLOW_LIST": ["127.0.0.0/8"],
    "ALERTS_WEBHOOK_DENY_NON_GLOBAL": False,
})
"""

_PEOPLE = """
import json, sys
import django
django.setup()
from django.contrib.auth import get_user_model
from projects.models import Project, ProjectMembership, ProjectRole
from teams.models import Team, TeamMembership, TeamRole
name, admin, password = sys.argv[1:]
user = get_user_model().objects.create_superuser(username=admin, email=admin, password=password)
team = Team.objects.create(name="Engineers")
TeamMembership.objects.create(team=team, user=user, role=TeamRole.ADMIN, accepted=True)
project = Project.objects.create(team=team, name=name)
ProjectMembership.objects.create(project=project, user=user, role=ProjectRole.ADMIN, accepted=True)
print(json.dumps({"project": project.id, "dsn": project.dsn}))
"""

_REQUIREMENTS = """
import re
from importlib.metadata import requires
for requirement in requires("bugsink"):
    if "extra ==" not in requirement:
        print("certifi" if re.match(r"certifi\\b", requirement) else requirement)
"""


def versions(oldest: tuple[int, int, int] = (2, 0, 0)) -> list[str]:
    """Return the versions of BUGSINK_VERSIONS that are new enough."""
    wanted = os.environ.get("BUGSINK_VERSIONS", "2.6.2").split(",")
    return [version for version in wanted if tuple(map(int, version.split("."))) >= oldest]


class Unreachable(Exception):
    """No package index responds."""


# -- installing ------------------------------------------------------------------------------------------------------


async def install(version: str) -> Path:
    """Return the Python of a venv with this Bugsink; the first call takes a minute to create it. Raises Unreachable."""
    base = Path(os.environ.get("BUGSINK_VENVS") or REPOSITORY / ".cache")
    return await asyncio.to_thread(_install, version, base / f"bugsink-{version}")


async def installed(version: str) -> Path:
    """Install as ``install`` does, but skip the test if no package index responds."""
    try:
        return await install(version)
    except Unreachable as unreachable:
        pytest.skip(f"Bugsink {version} can't be installed, no package index responds: {unreachable}")


def _install(version: str, folder: Path) -> Path:
    python, stamp = folder / "bin" / "python", folder / "made-by"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.with_name(".gitignore").write_text("*\n", "utf-8")
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.is_file() and stamp.read_text("utf-8") == sys.version:
            return python
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", folder])
        try:
            _pip(python, f"bugsink=={version}", "sentry-sdk")
        except subprocess.CalledProcessError as failed:
            if "certifi" not in failed.stderr:
                raise
            # Bugsink requires a recent certifi, which a package index may not have yet
            _pip(python, "--no-deps", f"bugsink=={version}")
            _pip(python, *_run([python, "-c", _REQUIREMENTS]).splitlines(), "sentry-sdk")
        stamp.write_text(sys.version, "utf-8")
    return python


def _pip(python: Path, *wanted: str) -> None:
    options = ["--quiet", "--disable-pip-version-check", "--retries", "2"]
    try:
        _run([python, "-m", "pip", "install", *options, *wanted])
    except subprocess.CalledProcessError as failed:
        if "from versions: none" in failed.stderr or "connection broken" in failed.stderr:
            raise Unreachable(failed.stderr.strip().rpartition("\n")[2]) from None
        raise


def _run(command: list[str | Path]) -> str:
    """Run a program to its end and return its output; an error includes the output."""
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    if completed.returncode:
        error = subprocess.CalledProcessError(
            completed.returncode, command, completed.stdout, completed.stderr
        )
        error.add_note(f"{completed.stdout}\n{completed.stderr}"[-4000:])
        raise error
    return completed.stdout


# -- running ---------------------------------------------------------------------------------------------------------


class Bugsink:
    """A running Bugsink with one project; created by ``running``."""

    def __init__(self, version: str, python: Path, folder: Path, project_name: str) -> None:
        self.version = version
        self.python = python
        self.folder = folder
        self.project_name = project_name
        self.project = 0
        self.dsn = ""
        self.token = ""
        self.url = ""
        self.service = 0
        self.password = secrets.token_hex(12)
        self._session: aiohttp.ClientSession = None  # type: ignore[assignment]
        self._stack = contextlib.AsyncExitStack()

    # -- installation and start -------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException as error:
            self.explain(error)
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        sock = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        conf = self.folder / "bugsink_conf.py"
        make = ["--template=singleserver", "--host=127.0.0.1", f"--base-dir={self.folder}", f"-o={conf}"]
        await self._finish(self.python.with_name("bugsink-create-conf"), *make)
        with conf.open("a") as file:
            file.write(_SETTINGS % {"url": self.url})
        manage = (self.python, "-m", "bugsink.scripts.manage")
        await self._finish(*manage, "migrate")
        await self._finish(*manage, "migrate", "snappea", "--database=snappea")
        people = json.loads(
            await self._finish(self.python, "-c", _PEOPLE, self.project_name, ADMIN, self.password)
        )
        self.project, self.dsn = people["project"], people["dsn"]
        self.token = (await self._finish(*manage, "create_auth_token")).split()[-1]
        await self._stack.enter_async_context(self._child("snappea", *manage, "runsnappea"))
        gunicorn = ("--workers=1", "--threads=4", f"--bind=fd://{sock.fileno()}", "bugsink.wsgi")
        web = await self._stack.enter_async_context(
            self._child("gunicorn", self.python, "-m", "gunicorn", *gunicorn, pass_fds=(sock.fileno(),))
        )
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                self.url,
                # gunicorn drops connections that idle for two seconds
                connector=aiohttp.TCPConnector(force_close=True),
                cookie_jar=aiohttp.CookieJar(unsafe=True),
                timeout=aiohttp.ClientTimeout(total=20),
            )
        )

        async def ready() -> bool:
            assert web.returncode is None, "gunicorn ended"
            async with self._session.get("/accounts/login/") as response:
                return response.status == 200

        await until(ready, 30)

    @property
    def _environ(self) -> dict[str, str]:
        """Environment of the processes, without proxies and settings of this process."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(self.folder),
            "PYTHONUNBUFFERED": "1",
            "DJANGO_SETTINGS_MODULE": "bugsink_conf",
        }

    async def _finish(self, *command: str | Path) -> str:
        """Run a program to its end and return its output."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.folder,
            env=self._environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, error = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, f"{command} ended with {process.returncode}: {error.decode()[-3000:]}"
        return out.decode()

    @contextlib.asynccontextmanager
    async def _child(
        self, name: str, *command: str | Path, **options: Any
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run a program for the time of the context, with its output in a file."""
        with (self.folder / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command, cwd=self.folder, env=self._environ, stdout=log, stderr=log, **options
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()

    def explain(self, error: BaseException) -> None:
        """Add the ends of the logs to an error."""
        for path in sorted(self.folder.glob("*.log")):
            error.add_note(f"--- {path.name}\n{path.read_text('utf-8', 'replace')[-3000:]}")

    # -- actions of people -------------------------------------------------------------------------------------

    async def log_in(self) -> None:
        """Log in as the administrator with the web form."""
        page = await self._form("/accounts/login/", {"username": ADMIN, "password": self.password})
        assert "/accounts/logout/" in page, "the login was refused"

    async def add_service(self, webhook_url: str, kind: str = "custom") -> int:
        """Add a messaging service with the web form and return its number."""
        path = f"/projects/{self.project}/alerts/service/add/"
        fields = {"display_name": "Pointsman", "kind": kind, "webhook_url": webhook_url, "action": "add"}
        page = await self._form(path, fields)
        numbers = [int(number) for number in re.findall(r'value="test:(\d+)"', page)]
        assert numbers, f"the form refused the service: {re.findall(r'(?i)webhook [^<]{10,200}', page)}"
        return max(numbers)

    async def press_test(self, service: int) -> None:
        """Press the Test button of a service."""
        await self._form(f"/projects/{self.project}/alerts/", {"action": f"test:{service}"})

    async def _form(self, path: str, fields: dict[str, str]) -> str:
        """Open a page, submit its form and return the resulting page."""
        async with self._session.get(path) as response:
            page = await response.text()
            assert response.status == 200, f"GET {path}: {response.status}"
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        assert token, f"{path} has no form"
        fields = {"csrfmiddlewaretoken": token[1], **fields}
        async with self._session.post(path, data=fields, headers={"Referer": self.url + path}) as response:
            page = await response.text()
            assert response.status == 200, f"POST {path}: {response.status} {page[:300]}"
            return page

    # -- actions of applications-------------------------------------------------------------------------------

    async def send_error(self, fault: str, release: str) -> str:
        """Run the shop with a fault that its sentry-sdk reports; return the printed exception."""
        return (await self._finish(self.python, SHOP, self.dsn, release, fault)).strip()

    # -- Bugsink's own API and tables --------------------------------------------------------------------------

    async def api(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call the API and return the decoded response. https://www.bugsink.com/docs/api/."""
        headers = {"Authorization": f"Bearer {self.token}"}
        path = f"/api/canonical/0/{path}"
        async with self._session.request(method, path, json=body, headers=headers) as response:
            text = await response.text()
            assert response.status < 300, f"{method} {path}: {response.status} {text}"
            return json.loads(text) if text else None

    async def counted(self, issue: str, events: int) -> None:
        """Wait until Bugsink has digested a number of events of an issue."""

        async def look() -> bool:
            return (await self.api("GET", f"issues/{issue}/"))["digested_event_count"] >= events

        await until(look, 20)

    async def failure(self, service: int) -> dict[str, Any]:
        """Return the columns of a service's last failure; empty if the last alert succeeded."""
        return await asyncio.to_thread(self._failure, service)

    def _failure(self, service: int) -> dict[str, Any]:
        uri = f"file:{self.folder / 'db.sqlite3'}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=10)) as con:
            cursor = con.execute("select * from alerts_messagingserviceconfig where id = ?", (service,))
            columns = [column[0] for column in cursor.description]
            (row,) = cursor.fetchall()
        values = zip(columns, row, strict=True)
        return {
            name: value for name, value in values if name.startswith("last_failure") and value is not None
        }


@contextlib.asynccontextmanager
async def running(
    version: str, webhook_url: str, folder: Path, *, project: str = "Shop", kind: str = "custom"
) -> AsyncIterator[Bugsink]:
    """Run a Bugsink with one project whose alerts go to ``webhook_url``. Raises Unreachable."""
    python = await install(version)
    async with Bugsink(version, python, folder, project) as bugsink:
        try:
            await bugsink.log_in()
            bugsink.service = await bugsink.add_service(webhook_url, kind)
            yield bugsink
        except BaseException as error:
            bugsink.explain(error)
            raise
