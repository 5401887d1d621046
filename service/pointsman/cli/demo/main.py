"""Run the demo: a service with an embedded database, and the scenario that checks it through public interfaces."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import click

from pointsman import app, logs
from pointsman.cli.demo.scenario import MailSink, Progress, Scenario, StepFailed
from pointsman.config import settings as process
from pointsman.config.settings import Settings, Smtp
from pointsman.crypto import sha256
from pointsman.plugin_api import Secret
from pointsman.plugin_host.registry import Registry
from pointsman.storage import migrate
from pointsman.storage.db import Database
from pointsman.storage.embedded import supervisor
from pointsman.storage.embedded.supervisor import EmbeddedServer

_CONFIGURATION = """\
# The demo's configuration. `pointsman plan` and `pointsman apply` take files like this one.

[[source]]
slug = "shop"                       # a Bugsink project posts its alerts here
kind = "bugsink"
token = {{ file = "{secrets}/shop" }}

[[source]]
slug = "helpdesk"                   # an application posts its customers' tickets here
kind = "tickets"
token = {{ file = "{secrets}/helpdesk" }}

[[destination]]
slug = "team-folder"
tracker = "folder"                  # each issue is a Markdown file
[destination.settings]
path = "{issues}"

[[route]]                           # everything goes there
destination = "team-folder"
"""


async def main(*, once: bool, port: int) -> int:
    """Run the demo. Return the exit code: 0 if every step succeeded."""
    progress = Progress()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    base = process.load().data_dir
    logs.configure("pretty", level="warning")
    try:
        async with _own_server(base) as (folder, server):
            progress.step(f"PostgreSQL {server.version} runs, embedded", f"data in {folder}")
            await _run(progress, folder, server, stop=None if once else stop, port=port)
    except StepFailed as error:
        click.echo(f"{click.style('✗', fg='red')} {error}", err=True)
        return 1
    except supervisor.EmbeddedError as error:
        click.echo(f"pointsman: {error}", err=True)
        return 1
    return 0


@contextlib.asynccontextmanager
async def _own_server(base: Path) -> AsyncIterator[tuple[Path, EmbeddedServer]]:
    """Start an embedded server. While another demo uses the first folder, use the next one."""
    for number in range(1, 10):
        folder = base / ("demo" if number == 1 else f"demo-{number}")
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(supervisor.serve(folder))
            if server.owned:
                yield folder, server
                return
            click.echo(f"{folder} is in use by {server.holder}; using the next folder")
    raise StepFailed(f"every demo folder below {base} is in use by a running demo: stop one")


async def _run(
    progress: Progress, folder: Path, server: EmbeddedServer, *, stop: asyncio.Event | None, port: int
) -> None:
    issues = folder / "issues"
    tokens = {name: _token(folder / "secrets" / name) for name in ("shop", "helpdesk", "operator")}
    config = folder / "pointsman.toml"
    config.write_text(_CONFIGURATION.format(secrets=folder / "secrets", issues=issues), "utf-8")
    log_path = folder / "pointsman.log"
    sink = MailSink()
    async with contextlib.AsyncExitStack() as stack:
        logs.configure("json", stream=stack.enter_context(log_path.open("a", encoding="utf-8")))
        smtp_port = await stack.enter_async_context(sink.running())
        sock = _socket(port)
        settings = Settings(
            database_url=Secret(server.dsn),
            port=sock.getsockname()[1],
            config=config,
            data_dir=folder,
            smtp=Smtp(host="127.0.0.1", port=smtp_port),
            mail_from="Helpdesk <helpdesk@shop.example>",
            admin_token_sha256=sha256(tokens["operator"].encode()),
            log="json",
        )
        database = await stack.enter_async_context(Database.open(server.dsn))
        await migrate.migrate(database)
        replica = await stack.enter_async_context(
            app.running(settings, database, Registry.load(), sock=sock, drain_seconds=5.0)
        )
        if port and sock.getsockname()[1] != port:
            click.echo(f"           port {port} is taken, so another port is used")
        progress.step(f"Pointsman listens at {replica.url}", f"log in {log_path}")
        session = await stack.enter_async_context(aiohttp.ClientSession(replica.url))
        scenario = Scenario(progress, session, tokens, issues, sink)
        await scenario.check_health()
        await scenario.run_alert()
        await scenario.run_support_ticket()
        if stop is None:
            click.echo("\nEvery step succeeded.")
            return
        _print_next_steps(replica.url, tokens, issues)
        click.echo("\nThe service runs until you press Ctrl-C.")
        await stop.wait()


def _token(path: Path) -> str:
    """Return a token that is kept between runs, so that a copied command still works."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(16), "ascii")
    return path.read_text("ascii").strip()


def _socket(port: int) -> socket.socket:
    """Return a socket bound to the port, or to a free one."""
    for candidate in (port, 0):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", candidate))
        except OSError:
            sock.close()
            continue
        sock.setblocking(False)
        return sock
    raise StepFailed("no port is free on 127.0.0.1")


def _print_next_steps(url: str, tokens: dict[str, str], issues: Path) -> None:
    alert = {"id": "my-first-alert", "alert_reason": "NEW", "title": "MyError: it works"}
    host = url.removeprefix("http://")
    click.echo(
        f"""
Every step succeeded. Try it yourself:

  tickets and their timelines   http://operator:{tokens["operator"]}@{host}/console/
  Bugsink posts its alerts to   {url}/intake/shop/{tokens["shop"]}
  your application posts to     {url}/api/v1/tickets
                                (Authorization: Bearer {tokens["helpdesk"]})
  the issues are files in       {issues}

Try:  curl -H 'Content-Type: application/json' -d '{json.dumps(alert)}' \\
        {url}/intake/shop/{tokens["shop"]}"""
    )
