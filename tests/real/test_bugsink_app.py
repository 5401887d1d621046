"""The app of plugins/bugsink-messaging in a real Bugsink: its form, its tasks, posted alerts, and refusals."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import html
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from configuration import ADMIN, SHOP, SOURCES
from polling import until
from real import bugsink as real
from service_fixture import RunningService

VERSIONS = real.versions((2, 5, 1))
APP = real.REPOSITORY / "plugins" / "bugsink-messaging"
RECORDED = APP / "tests" / "recorded.json"
TOKEN = "token-in-the-path-of-the-tests"
INSTALLED = '\nINSTALLED_APPS += ["pointsman_bugsink_messaging"]\n'

pytestmark = pytest.mark.real


class Post(msgspec.Struct, frozen=True):
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def decoded(self) -> Any:
        return json.loads(self.body)

    def verify(self, secret: str) -> None:
        """Verify the signature as the README describes it."""
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        key = base64.b64decode(secret.removeprefix("whsec_"))
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert self.headers["webhook-signature"] == f"v1,{expected}"
        assert abs(int(self.headers["webhook-timestamp"]) - time.time()) < 60
        assert self.headers["content-type"] == "application/json"


class Receiver:
    """Server that records posts; ``statuses`` are the next responses, then 202. 0 delays the response for a minute."""

    def __init__(self) -> None:
        self.url = ""
        self.posts: list[Post] = []
        self.statuses: list[int] = []

    async def handle(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.posts.append(Post(request.path, headers, await request.read()))
        status = self.statuses.pop(0) if self.statuses and TOKEN in request.path else 202
        if status == 0:
            await asyncio.sleep(60)
        return web.Response(status=status, text="a response text")

    async def arrived(self, path: str, count: int) -> list[Post]:
        """Wait for a number of posts to a path and return them."""

        async def look() -> list[Post] | None:
            posts = [post for post in self.posts if post.path == path]
            return posts if len(posts) >= count else None

        posts = await until(look, 20)
        assert len(posts) == count
        return posts


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield receiver
    finally:
        await runner.cleanup()


def build(folder: Path) -> Path:
    """Build the app's wheel without network, in a copy of the source."""
    copy = folder / "source"
    shutil.copytree(APP, copy, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__", "tests"))
    script = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", script, str(folder)], cwd=copy, capture_output=True, text=True, check=True
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


@contextlib.asynccontextmanager
async def running(version: str, url: str, folder: Path, step: Callable[[str], None], settings: str = ""):
    """Run a Bugsink with the app.

    All tests share the venv, so the wheel is installed into another folder on the path of Bugsink's Python.
    """
    python = await real.installed(version)
    home = folder / "bugsink"
    wheel = await asyncio.to_thread(build, folder / "wheel")
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    await asyncio.to_thread(real._run, [python, *install, "--target", home, wheel])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(real, "_SETTINGS", real._SETTINGS + settings.replace("%", "%%") + INSTALLED)
        async with real.running(version, url, home) as bugsink:
            step(f"Bugsink {version} is up, with the app in its settings and a service of kind custom")
            yield bugsink


async def add(bugsink: real.Bugsink, url: str, secret: str) -> tuple[int, str]:
    """Submit the form of the kind Pointsman; return the service's number, or 0, and the resulting page."""
    page = await bugsink._form(
        f"/projects/{bugsink.project}/alerts/service/add/",
        {
            "display_name": "Pointsman, signed",
            "kind": "pointsman",
            "webhook_url": url,
            "signing_secret": secret,
            "action": "add",
        },
    )
    return max((int(number) for number in re.findall(r'value="test:(\d+)"', page)), default=0), page


async def page(bugsink: real.Bugsink, path: str) -> str:
    async with bugsink._session.get(path) as response:
        assert response.status == 200
        return await response.text()


@pytest.mark.parametrize("version", VERSIONS)
async def test_signed_alerts_with_their_event(tmp_path: Path, step, version: str):
    """Every alert is posted signed, with environment, release and trace, and otherwise like an alert of kind custom."""
    async with (
        receiver() as receiver_,
        running(version, f"{receiver_.url}/custom", tmp_path, step) as bugsink,
    ):
        secret, signed = await _set_up(bugsink, receiver_, step)
        await _check_alerts(bugsink, receiver_, secret, signed, step)
        await _failures(bugsink, receiver_, signed, step)
        log = (bugsink.folder / "snappea.log").read_text("utf-8")
        assert "pointsman_bugsink_messaging" in log, "snappea ran our tasks"
        assert TOKEN not in log
        assert secret not in log
        step("snappea's log holds neither token nor secret")


async def _set_up(bugsink: real.Bugsink, receiver_: Receiver, step) -> tuple[str, int]:
    """Check migrations, the form and the Test button."""
    manage = (bugsink.python, "-m", "bugsink.scripts.manage")
    output = await bugsink._finish(*manage, "makemigrations", "--check", "--dry-run")
    assert "No changes detected" in output
    step("makemigrations --check: No changes detected")

    form = await page(bugsink, f"/projects/{bugsink.project}/alerts/service/add/")
    assert re.search(r'<option value="pointsman"[^>]*>\s*Pointsman\s*</option>', form)
    secret = html.unescape(re.search(r'name="signing_secret" value="(whsec_[^"]+)"', form)[1])
    for url, entered, error in (
        (f"{receiver_.url}/{TOKEN}", "no secret", "openssl rand -base64 32"),
        ("http://192.0.2.1/intake", secret, "192.0.2.1"),
        ("ftp://127.0.0.1/intake", secret, "http"),
    ):
        number, refused = await add(bugsink, url, entered)
        assert number == 0
        assert error in refused
    service, _ = await add(bugsink, f"{receiver_.url}/{TOKEN}", secret)
    assert service
    edit = await page(bugsink, f"/projects/{bugsink.project}/alerts/service/{service}/edit/")
    assert secret in html.unescape(edit)
    assert f"{receiver_.url}/{TOKEN}" in edit
    step("the form offers the kind, proposes a secret, refuses what is none and what the policy forbids")

    await bugsink.press_test(service)
    (test,) = await receiver_.arrived(f"/{TOKEN}", 1)
    test.verify(secret)
    alert = test.decoded
    assert (alert["alert_reason"], alert["project"], alert["project_name"]) == (
        "TEST",
        bugsink.project,
        "Shop",
    )
    assert alert["pointsman"]["event"] is None
    assert await bugsink.failure(service) == {}
    step("the Test button posts a signed test")
    return secret, service


async def _check_alerts(bugsink: real.Bugsink, receiver_: Receiver, secret: str, service: int, step) -> None:
    """Check the alerts NEW, REGRESSED and UNMUTED."""
    await bugsink.send_error("empty-basket", "shop@2.3.0")
    new = (await receiver_.arrived(f"/{TOKEN}", 2))[1]
    new.verify(secret)
    alert = new.decoded
    ours = alert.pop("pointsman")
    (custom,) = await receiver_.arrived("/custom", 1)
    assert alert == custom.decoded
    event = ours["event"]
    assert (event["environment"], event["release"], event["level"]) == ("production", "shop@2.3.0", "error")
    assert (event["server_name"], event["transaction"]) == ("shop-1", "/basket/average")
    trace = event["stacktrace"].split("\n")
    assert trace[:2] == ["ZeroDivisionError: division by zero", "(most recent call first)"]
    assert trace[2].endswith(" in average_price_cents")
    assert any(
        re.match(r'    > \d+      return sum\(basket\["prices_cents"\]\) /', line) for line in trace
    ), trace
    key = bugsink.dsn.partition("//")[2].partition("@")[0]
    assert key not in new.body.decode(), "the DSN is a local variable of the shop"
    assert (ours["id"], ours["bugsink"], ours["left_out"]) == (new.headers["webhook-id"], bugsink.version, [])
    stored_event = await bugsink.api("GET", f"events/{event['id']}/")
    assert stored_event["event_id"].replace("-", "") == event["event_id"]
    assert event["url"].startswith(f"{bugsink.url}/issues/issue/{alert['id']}/event/")
    step(f"alert NEW is signed and has environment, release, trace; {len(new.body)} bytes")
    if os.environ.get("BUGSINK_RECORD"):
        headers = {"Content-Type": "application/json"}
        headers |= {name: value for name, value in new.headers.items() if name.startswith("webhook-")}
        recorded = {"secret": secret, "headers": headers, "body": new.body.decode()}
        text = json.dumps(recorded, indent=1, ensure_ascii=False) + "\n"
        await asyncio.to_thread(RECORDED.write_text, text, "utf-8")

    issue = alert["id"]
    await bugsink.api("POST", f"issues/{issue}/resolve/")
    await bugsink.send_error("empty-basket", "shop@2.3.1")
    back = (await receiver_.arrived(f"/{TOKEN}", 3))[2]
    back.verify(secret)
    regressed = back.decoded["pointsman"]
    assert (back.decoded["alert_reason"], regressed["event"]["release"]) == ("REGRESSED", "shop@2.3.1")
    assert regressed["id"] != ours["id"]
    body = {"period_name": "hour", "nr_of_periods": 1, "gte_threshold": 2}
    await bugsink.api("POST", f"issues/{issue}/mute-until/", body)
    await bugsink.send_error("empty-basket", "shop@2.3.2")
    unmuted = (await receiver_.arrived(f"/{TOKEN}", 4))[3]
    unmuted.verify(secret)
    assert (unmuted.decoded["alert_reason"], bool(unmuted.decoded["unmute_reason"])) == ("UNMUTED", True)
    last = unmuted.decoded["pointsman"]
    assert last["event"]["release"] == "shop@2.3.2"
    if "events_at" in alert:  # since 2.6.2 the history can be read
        history = (await bugsink.api("GET", f"issue-history/?issue={issue}"))["results"]
        entries = {entry["id"]: (entry["kind"], entry["triggering_event"]) for entry in history}
        for added, kind in ((ours, "first_seen"), (regressed, "regressed"), (last, "unmuted")):
            assert entries[added["history_id"]] == (kind, added["event"]["id"])
    await receiver_.arrived("/custom", 3)
    assert await bugsink.failure(service) == {}
    step("alerts REGRESSED and UNMUTED name the history's entry and its event")


async def _failures(bugsink: real.Bugsink, receiver_: Receiver, service: int, step) -> None:
    """Check the retries, the failure that Bugsink records, and that the next success clears it."""

    async def failed() -> dict[str, Any]:
        return await bugsink.failure(service)

    before = len(await receiver_.arrived(f"/{TOKEN}", 4))
    receiver_.statuses[:] = [503, 503]
    await bugsink.press_test(service)
    tries = (await receiver_.arrived(f"/{TOKEN}", before + 3))[before:]
    assert len({post.headers["webhook-id"] for post in tries}) == 1
    assert len({post.body for post in tries}) == 1
    assert await failed() == {}
    step("answered 503 twice, it is posted a third time under the same id")

    receiver_.statuses[:] = [503] * 3
    await bugsink.press_test(service)
    failure = await until(failed, 20)
    assert (failure["last_failure_status_code"], failure["last_failure_error_type"]) == (503, "HTTPError")
    assert (failure["last_failure_response_text"], failure["last_failure_is_json"]) == ("a response text", 0)
    assert "Last alert failed" in await page(bugsink, f"/projects/{bugsink.project}/alerts/")
    await bugsink.press_test(service)

    async def cleared() -> bool:
        return not await failed()

    await until(cleared, 20)
    step("answered 503 three times, Bugsink notes it; the next success clears it")

    await receiver_.arrived(f"/{TOKEN}", before + 7)
    receiver_.statuses[:] = [0]
    await bugsink.press_test(service)
    assert (await until(failed, 20))["last_failure_error_type"] == "ReadTimeout"
    await receiver_.arrived(f"/{TOKEN}", before + 8)
    step("a server that never responds is called once")

    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    closed_port, _ = await add(bugsink, f"http://127.0.0.1:{port}/{TOKEN}", await _secret(bugsink))
    await bugsink.press_test(closed_port)
    failure = await until(lambda: bugsink.failure(closed_port), 20)
    assert failure["last_failure_error_type"] == "ConnectionError"
    assert TOKEN not in failure["last_failure_error_message"]
    step("connection refused: Bugsink records it without the token")


async def _secret(bugsink: real.Bugsink) -> str:
    form = await page(bugsink, f"/projects/{bugsink.project}/alerts/service/add/")
    return html.unescape(re.search(r'name="signing_secret" value="(whsec_[^"]+)"', form)[1])


_SERVICES = """
import json, sys
import django
django.setup()
from alerts.models import MessagingServiceConfig
project, url = int(sys.argv[1]), sys.argv[2]
for kind, path in (("pointsman", "/signed"), ("custom", "/second")):
    config = json.dumps({"webhook_url": url + path, "signing_secret": "whsec_" + "A" * 32})
    print(MessagingServiceConfig.objects.create(project_id=project, display_name=kind, kind=kind, config=config).id)
"""


async def test_a_bugsink_that_is_not_supported_runs_on(tmp_path: Path, step):
    """The app logs it in both processes; a service of its kind sends nothing, and other services send their alerts."""
    older = "\nimport pointsman_bugsink_messaging\npointsman_bugsink_messaging.SUPPORTED = ('2.4.9',)\n"
    async with (
        receiver() as receiver_,
        running(VERSIONS[0], f"{receiver_.url}/custom", tmp_path, step, older) as bugsink,
    ):
        for name in ("gunicorn", "snappea"):
            log = (bugsink.folder / f"{name}.log").read_text("utf-8")
            assert f"supports Bugsink 2.4.9; this is {bugsink.version}" in log
        form = await page(bugsink, f"/projects/{bugsink.project}/alerts/service/add/")
        assert 'value="pointsman"' not in form
        step("both logs name the versions; the form does not offer the kind")
        output = await bugsink._finish(bugsink.python, "-c", _SERVICES, str(bugsink.project), receiver_.url)
        ours, _ = map(int, output.split())
        await bugsink.send_error("empty-basket", "shop@2.3.0")
        await receiver_.arrived("/custom", 1)
        await receiver_.arrived("/second", 1)
        await bugsink.press_test(ours)
        edit = f"/projects/{bugsink.project}/alerts/service/{ours}/edit/"
        assert (await page(bugsink, f"/projects/{bugsink.project}/alerts/")).count("test:") == 3
        fields = {"display_name": "x", "kind": "pointsman", "action": "save"}
        assert "does not support this version" in await bugsink._form(edit, fields)
        assert not [post for post in receiver_.posts if post.path == "/signed"]
        assert "is not sent: pointsman-bugsink-messaging does not support" in (
            bugsink.folder / "snappea.log"
        ).read_text("utf-8")
        step("a service of the kind from before sends nothing; those beside it are sent")


async def test_pointsman_takes_its_alerts_by_the_token_in_the_path(
    service: RunningService, tmp_path: Path, step
):
    """A source of the kind bugsink needs no change: a test makes no ticket, an alert makes one."""
    async with service.replica(SOURCES):
        intake = f"{service.url}/intake/shop/{SHOP}"
        async with running(VERSIONS[0], f"{service.url}/health", tmp_path, step) as bugsink:
            alert_service, _ = await add(bugsink, intake, await _secret(bugsink))
            await bugsink.press_test(alert_service)
            await bugsink.send_error("empty-basket", "shop@2.3.0")

            async def opened() -> list[dict[str, Any]]:
                listed = await service.call("GET", "/api/v1/tickets", token=ADMIN, status=200)
                return listed["tickets"]

            (ticket,) = await until(opened, 20)
            assert ticket["title"] == "ZeroDivisionError: division by zero"
            assert await bugsink.failure(alert_service) == {}
            step("Pointsman makes a ticket of an alert, none of a test")
