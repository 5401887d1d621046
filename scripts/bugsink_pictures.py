# ruff: noqa: INP001, T201 - run by its path, for people
"""Take the pictures of docs/bugsink.md from a real Bugsink, with headless Chromium.

``PYTHONPATH=tests python scripts/bugsink_pictures.py``; CHROMIUM names the browser.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from real import bugsink as real

VERSION = os.environ.get("BUGSINK_VERSION", "2.6.2")
FOLDER = Path(__file__).parents[1] / "docs" / "images"
INTAKE = "https://pointsman.example.com/intake/shop/THE-TOKEN"
WIDTH = 1120


class Browser:
    """One page of a browser, driven by its debugging protocol: https://chromedevtools.github.io/devtools-protocol/."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    async def do(self, method: str, **params: Any) -> Any:
        """Send a command and return its result."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async for message in self._socket:
            response = message.json()
            if response.get("id") == number:
                if "error" in response:
                    raise RuntimeError(response["error"])
                return response["result"]
        raise RuntimeError("the browser closed the connection")

    async def run(self, code: str) -> Any:
        """Run code in the page and return its value."""
        response = await self.do("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        return response["result"].get("value")

    async def open(self, url: str) -> None:
        """Open a page and wait until it is loaded."""
        await self.do("Page.navigate", url=url)
        for _ in range(200):
            await asyncio.sleep(0.05)
            if (
                await self.run(f"document.readyState == 'complete' && location.href.startswith({url!r})")
                is True
            ):
                break
            if await self.run("document.readyState") == "complete":
                break
        await asyncio.sleep(0.4)

    async def picture(self, name: str, height: int) -> None:
        """Save a picture of the visible page."""
        # a fresh installation reminds of mail on each page
        await self.run(
            "[...document.querySelectorAll('div')].filter(element => element.innerText.startsWith('Email is not set up')"
            " && element.offsetHeight < 120).forEach(element => element.remove())"
        )
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": 1}
        answer = await self.do("Page.captureScreenshot", format="png", clip=clip)
        path = FOLDER / f"{name}.png"
        await asyncio.to_thread(path.write_bytes, base64.b64decode(answer["data"]))
        print(path, path.stat().st_size, "bytes")


@contextlib.asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Browser]:
    """Run a browser with an empty page."""
    program = os.environ.get("CHROMIUM", "chromium")
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--remote-debugging-port=0",
    ]
    process = await asyncio.create_subprocess_exec(
        program,
        *options,
        f"--user-data-dir={folder}",
        f"--window-size={WIDTH},1400",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        port_file = folder / "DevToolsActivePort"
        for _ in range(300):
            await asyncio.sleep(0.1)
            if port_file.is_file() and port_file.read_text().strip():
                break
        port = int(port_file.read_text().split()[0])
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as response:
                page = next(target for target in await response.json() if target["type"] == "page")
            async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                yield Browser(socket)
    finally:
        process.terminate()
        await process.wait()


async def take(bugsink: real.Bugsink, page: Browser) -> None:
    """Take the pictures."""
    await page.do("Page.enable")
    await page.open(f"{bugsink.url}/accounts/login/")
    await page.run(
        f"document.querySelector('[name=username]').value = {real.ADMIN!r};"
        f"document.querySelector('[name=password]').value = {bugsink.password!r};"
        "document.querySelector('[name=password]').form.submit()"
    )
    await asyncio.sleep(2)
    alerts = f"{bugsink.url}/projects/{bugsink.project}/alerts/"
    await page.open(f"{alerts}service/add/")
    # the kind decides which fields the form has
    await page.run(
        "(() => { const kind = document.querySelector('[name=kind]'); kind.value = 'custom';"
        " kind.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )
    await asyncio.sleep(3)
    await page.run(
        "document.querySelector('[name=display_name]').value = 'Pointsman';"
        f"document.querySelectorAll('[name=webhook_url]').forEach(field => {{ field.value = {INTAKE!r} }})"
    )
    await page.picture("bugsink-service", 600)
    await page.open(alerts)
    await page.picture("bugsink-alerts", 360)
    await page.open(f"{bugsink.url}/bsmain/auth_tokens/")
    await page.run(
        "[...document.querySelectorAll('a, button')].find(element => element.innerText.includes('Add Token')).click()"
    )
    await asyncio.sleep(3)
    await page.run(
        "document.querySelector('input[type=text], input:not([type])').value = 'Pointsman';"
        "(() => { const boxes = [...document.querySelectorAll('input[type=checkbox]')];"
        " for (const number of [2, 3, 4, 6]) boxes[number].checked = true; })()"
    )
    await page.picture("bugsink-token", 860)


async def main() -> None:
    """Run a Bugsink and a browser and take the pictures."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        url = "http://127.0.0.1:9/intake/shop/THE-TOKEN"
        async with (
            real.running(VERSION, url, path / "bugsink") as bugsink,
            browser(path / "browser") as page,
        ):
            await take(bugsink, page)


asyncio.run(main())
