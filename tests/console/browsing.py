"""The console of a running server, in a real browser."""

import base64
import json
from typing import Any

from tests.browser import Page
from tests.console.tenants import Tenants
from tests.servers import LiveServer, Shell

WIDTHS = (1280, 390)
"""The widths of the screens on which the pages are tested, in pixels."""

# Faults of these impacts keep people from using a page.
SERIOUS = ("serious", "critical")


class Service:
    """A running server with the tenants of the console's tests."""

    def __init__(self, server: LiveServer, shell: Shell, tenants: Tenants, sessions: dict[str, str]) -> None:
        """
        Args:
            server: the server.
            shell: runs Python on it.
            tenants: what its database contains.
            sessions: the session keys of its people, by role.
        """
        self.server = server
        self.tenants = tenants
        self.sessions = sessions
        self._shell = shell

    def url(self, path: str = "/") -> str:
        return self.server.url(path, host="localhost", scheme="http")

    def shell(self, code: str) -> str:
        """Run Python on the server, and return what it prints."""
        return self._shell.run(code)


class Console:
    """A tab of a browser that shows the console."""

    def __init__(self, page: Page, service: Service, axe: str) -> None:
        """
        Args:
            page: the tab.
            service: the server.
            axe: the source of axe-core.
        """
        self.page = page
        self.service = service
        self._axe = axe

    async def log_in(self, role: str) -> None:
        """Log the person of this role in, instead of whoever is."""
        await self.page.send(
            "Network.setCookie",
            url=self.service.url(),
            name="sessionid",
            value=self.service.sessions[role],
            httpOnly=True,
        )

    async def resize(self, width: int, *, dark: bool = False) -> None:
        """Change the width of the screen, in pixels, and between light and dark colours."""
        await self.page.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.page.send("Emulation.setEmulatedMedia", features=scheme)

    async def open(self, path: str) -> None:
        """Open a page of the shop's account, or any page of the server if the path begins with a slash."""
        own = f"/console/{self.service.tenants.shop.account}/"
        await self.page.open(self.service.url(path if path.startswith("/") else own + path))

    async def click(self, text: str) -> None:
        """Click the first link or button with this text or name, and wait for the next page if it leads to one."""
        found = (
            "[...document.querySelectorAll('a, button')].find((element) => element.checkVisibility() && "
            f"[element.textContent.trim(), element.getAttribute('aria-label')].includes({json.dumps(text)}))"
        )
        await self.page.wait_for(found)
        await self.page.evaluate(f"{found}.scrollIntoView({{block: 'center'}})")
        await self.page.click(found)

    async def fill(self, name: str, value: str) -> None:
        """Set the value of the field with this name."""
        field = f"document.querySelector('main [name=\"{name}\"]')"
        await self.page.wait_for(field)
        await self.page.evaluate(
            f"{field}.value = {json.dumps(value)}; {field}.dispatchEvent(new Event('input', {{bubbles: true}}))"
        )

    async def wait_for_text(self, text: str) -> None:
        """Wait until the page shows a text."""
        await self.page.wait_for(
            f"document.readyState === 'complete' && document.body.textContent.includes({json.dumps(text)})"
        )

    async def text(self, selector: str = "body") -> str:
        """Return the text of the first element that a CSS selector finds."""
        return str(await self.page.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    async def html(self) -> str:
        """Return the whole document."""
        return str(await self.page.evaluate("document.documentElement.outerHTML"))

    async def check(self) -> None:
        """Check that this page has reported no error, fits the screen, and has no serious fault of accessibility."""
        assert self.page.errors == []
        assert await self.page.evaluate("violations") == []
        assert await self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "The page is too wide."
        assert await self.faults() == []

    async def faults(self) -> list[Any]:
        """Return the serious faults of accessibility of this page: the rule, what it says, and where."""
        await self.page.evaluate(f"{{{self._axe}}}; void 0")
        found = await self.page.evaluate("axe.run().then(({violations}) => violations)")
        return [
            (fault["id"], fault["help"], [node["html"] for node in fault["nodes"]])
            for fault in found
            if fault["impact"] in SERIOUS
        ]

    async def screenshot(self) -> bytes:
        """Return a picture of the whole page, as PNG."""
        size = (await self.page.send("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        picture = await self.page.send("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(picture["data"])
