"""A real browser, controlled through the Chrome DevTools Protocol."""

import asyncio
import atexit
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.servers import need

LOAD_SECONDS = 15
# Collects all violations of the Content-Security-Policy from the start of each page.
COLLECT_VIOLATIONS = """
window.violations = [];
document.addEventListener('securitypolicyviolation',
  ({effectiveDirective, blockedURI, sourceFile}) => violations.push([effectiveDirective, blockedURI, sourceFile]));
"""


# Returns the middle of an element once it is at the same place in two frames.
WAIT_UNTIL_STILL = """
async (find) => {
  const middle = ({x, y, width, height}) => [x + width / 2, y + height / 2];
  for (let before = [], now; ; before = now) {
    now = middle(find().getBoundingClientRect());
    if (now.join() === before.join()) return now;
    await new Promise(requestAnimationFrame);
  }
}
"""


class Page:
    """A tab of the browser."""

    def __init__(self, connection: ClientConnection, context: str = "") -> None:
        """
        Args:
            connection: to the tab, or to the browser itself.
            context: the browser's name for the cookies and permissions that the tab uses.
        """
        self._connection = connection
        self._context = context
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
        """Click the element that a JavaScript expression returns, as a person does, once it has stopped moving."""
        x, y = await self.evaluate(f"({WAIT_UNTIL_STILL})(() => {element})")
        for kind in ("mousePressed", "mouseReleased"):
            await self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def allow_clipboard(self, origin: str) -> None:
        """Let the pages of an origin read and write the clipboard, as a person would who is asked."""
        permissions = ["clipboardReadWrite", "clipboardSanitizedWrite"]
        await self.send(
            "Browser.grantPermissions", origin=origin, permissions=permissions, browserContextId=self._context
        )

    async def open(self, url: str) -> None:
        """Go to a page and wait until it has loaded."""
        await self.send("Page.navigate", url=url)
        await self.wait_for("document.readyState === 'complete'")


@asynccontextmanager
async def open_page() -> AsyncIterator[Page]:
    """Open a tab with cookies of its own in the browser that all tests of this process share."""
    browser = _browser()
    async with AsyncExitStack() as stack:
        control = Page(await stack.enter_async_context(connect(browser, max_size=None, proxy=None)))
        context = (await control.send("Target.createBrowserContext"))["browserContextId"]
        target = await control.send("Target.createTarget", url="about:blank", browserContextId=context)
        url = f"{browser.partition('/devtools/')[0]}/devtools/page/{target['targetId']}"
        page = Page(await stack.enter_async_context(connect(url, max_size=None, proxy=None)), context)
        for domain in ("Page", "Log", "Runtime"):
            await page.send(f"{domain}.enable")
        await page.send("Page.addScriptToEvaluateOnNewDocument", source=COLLECT_VIOLATIONS)
        try:
            yield page
        finally:
            await control.send("Target.disposeBrowserContext", browserContextId=context)


@cache
def _browser() -> str:
    """Run a browser until this process ends, and return the URL at which it accepts commands."""
    need("chromium-headless-shell")
    directory = Path(tempfile.mkdtemp(prefix="browser-"))
    process = subprocess.Popen(
        [
            *(
                "chromium-headless-shell",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--remote-debugging-port=0",
            ),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"),
            *(f"--user-data-dir={directory}", "about:blank"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def end() -> None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        shutil.rmtree(directory, ignore_errors=True)

    atexit.register(end)
    file = directory / "DevToolsActivePort"
    deadline = time.monotonic() + LOAD_SECONDS
    while not (file.exists() and file.read_text().count("\n")):
        assert time.monotonic() < deadline, "The browser did not start."
        time.sleep(0.05)
    port, path = file.read_text().split()
    return f"ws://127.0.0.1:{port}{path}"
