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
        """One command; its result."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async for message in self._socket:
            said = message.json()
            if said.get("id") == number:
                if "error" in said:
                    raise RuntimeError(said["error"])
                return said["result"]
        raise RuntimeError("the browser went away")

    async def run(self, code: str) -> Any:
        """Run code in the page; its value."""
        answer = await self.do("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        return answer["result"].get("value")

    async def open(self, url: str) -> None:
        """Open a page and wait until it stands."""
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
        """Keep what is seen now."""
        # a fresh installation reminds of mail on each page
        await self.run(
            "[...document.querySelectorAll('div')].filter(one => one.innerText.startsWith('Email is not set up')"
            " && one.offsetHeight < 120).forEach(one => one.remove())"
        )
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": 1}
        answer = await self.do("Page.captureScreenshot", format="png", clip=clip)
        path = FOLDER / f"{name}.png"
        await asyncio.to_thread(path.write_bytes, base64.b64decode(answer["data"]))
        print(path, path.stat().st_size, "bytes")


@contextlib.asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Browser]:
    """A browser with one empty page."""
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
        told = folder / "DevToolsActivePort"
        for _ in range(300):
            await asyncio.sleep(0.1)
            if told.is_file() and told.read_text().strip():
                break
        port = int(told.read_text().split()[0])
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                page = next(one for one in await answer.json() if one["type"] == "page")
            async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                yield Browser(socket)
    finally:
        process.terminate()
        await process.wait()


async def take(bugsink: real.Bugsink, page: Browser) -> None:
    """The pictures."""
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
        f"document.querySelectorAll('[name=webhook_url]').forEach(one => {{ one.value = {INTAKE!r} }})"
    )
    await page.picture("bugsink-service", 600)
    await page.open(alerts)
    await page.picture("bugsink-alerts", 360)
    await page.open(f"{bugsink.url}/bsmain/auth_tokens/")
    await page.run(
        "[...document.querySelectorAll('a, button')].find(one => one.innerText.includes('Add Token')).click()"
    )
    await asyncio.sleep(3)
    await page.run(
        "document.querySelector('input[type=text], input:not([type])').value = 'Pointsman';"
        "(() => { const boxes = [...document.querySelectorAll('input[type=checkbox]')];"
        " for (const number of [2, 3, 4, 6]) boxes[number].checked = true; })()"
    )
    await page.picture("bugsink-token", 860)


async def main() -> None:
    """A Bugsink and a browser, and both gone afterwards."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        url = "http://127.0.0.1:9/intake/shop/THE-TOKEN"
        async with (
            real.running(VERSION, url, place / "bugsink") as bugsink,
            browser(place / "browser") as page,
        ):
            await take(bugsink, page)


asyncio.run(main())
