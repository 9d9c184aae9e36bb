"""A real browser, controlled through the Chrome DevTools Protocol."""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from tests.servers import need

LOAD_SECONDS = 15
# Collects all violations of the Content-Security-Policy from the start of each page.
COLLECT_VIOLATIONS = """
window.violations = [];
document.addEventListener('securitypolicyviolation',
  ({effectiveDirective, blockedURI, sourceFile}) => violations.push([effectiveDirective, blockedURI, sourceFile]));
"""


class Page:
    """A tab of the browser."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count()
        self.errors: list[str] = []
        """The errors that the browser reported, on all pages that were opened."""

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        number = next(self._numbers)
        await self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        async with asyncio.timeout(LOAD_SECONDS):
            while True:
                message = json.loads(await self._connection.recv())
                self._record_errors(message)
                if message.get("id") == number:
                    assert "error" not in message, message
                    return dict(message["result"])

    def _record_errors(self, message: dict[str, Any]) -> None:
        entry = message.get("params", {})
        match message.get("method"):
            case "Log.entryAdded" if entry["entry"]["level"] == "error":
                url = entry["entry"].get("url", "")
                if not url.endswith("/favicon.ico"):  # requested if a page names no icon
                    self.errors.append(f"{entry['entry']['text']} {url}")
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(entry["exceptionDetails"]))

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression on this page, awaited if it is a promise."""
        result = await self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript expression is true, on this page or on the next one if the page is navigating."""
        async with asyncio.timeout(LOAD_SECONDS):
            while True:
                with contextlib.suppress(AssertionError):  # the page is navigating
                    if await self.evaluate(f"Boolean({condition})"):
                        return
                await asyncio.sleep(0.05)

    async def click(self, element: str) -> None:
        """Click the element that a JavaScript expression returns, as a person does."""
        x, y = await self.evaluate(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({element}.getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def open(self, url: str) -> None:
        """Go to a page and wait until it has loaded."""
        await self.send("Page.navigate", url=url)
        await self.wait_for("document.readyState === 'complete'")


@asynccontextmanager
async def open_page(directory: Path) -> AsyncIterator[Page]:
    """Run a browser with one tab.

    Args:
        directory: the folder of the browser's profile.
    """
    need("chromium")
    process = subprocess.Popen(  # noqa: ASYNC220
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"),
            *(f"--user-data-dir={directory}", "about:blank"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with connect(await _debugger_url(directory), max_size=None, proxy=None) as connection:
            page = Page(connection)
            for domain in ("Page", "Log", "Runtime"):
                await page.send(f"{domain}.enable")
            await page.send("Page.addScriptToEvaluateOnNewDocument", source=COLLECT_VIOLATIONS)
            yield page
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        shutil.rmtree(directory, ignore_errors=True)


async def _debugger_url(directory: Path) -> str:
    """Return the URL at which the tab accepts commands."""
    file = directory / "DevToolsActivePort"
    async with asyncio.timeout(LOAD_SECONDS):
        while not (file.exists() and "\n" in file.read_text()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    port = file.read_text().split()[0]
    async with httpx.AsyncClient(trust_env=False) as client:
        targets = (await client.get(f"http://127.0.0.1:{port}/json")).json()
    return str(next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page"))
