"""The code of the console's first steps, as it stands there: a client prints what a server publishes."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.browser import Page, open_page
from tests.conftest import Tenants
from tests.servers import LiveServer

SNIPPETS = """
import json
from accounts.console.endpoints import Site
from accounts.console.snippets import connecting, publishing
from accounts.models import ApiKey
key = ApiKey.objects.get(public_key="{key}")
site = Site("localhost", ":{port}", False)
uses = {{"connecting": connecting, "publishing": publishing}}
print(json.dumps({{f"{{use}} {{each.name}}": each.code for use, kind in uses.items() for each in kind(site, key)}}))
"""
SECONDS = 30


@pytest.fixture(scope="module")
def code(serve: LiveServer, keys: dict[str, str]) -> dict[str, str]:
    """The code of the page by its use and name, such as "connecting python"."""
    return dict(json.loads(serve.shell(SNIPPETS.format(key=keys["demo"], port=serve.port))))


def command(name: str, code: str, folder: Path) -> list[str]:
    """Return a command that runs code of the page. JavaScript that is for pages gets a window."""
    match name:
        case "connecting terminal" | "publishing curl" | "publishing curl-v4":
            return ["bash", "-c", code]
        case "connecting python" | "publishing python":
            return [sys.executable, "-u", "-c", code]
        case "connecting echo":
            code = code.replace("window.Pusher", "globalThis.window = globalThis;\nwindow.Pusher")
    program = folder / f"{name.replace(' ', '-')}.mjs"
    program.write_text(code)
    return ["node", str(program)]


def credentials(tenants: Tenants) -> dict[str, str]:
    """Return the environment with the key and the secret, as the page names them."""
    return {**os.environ, "WS_API_KEY": tenants.keys["demo"], "WS_API_SECRET": tenants.secrets["demo"]}


@pytest.mark.parametrize(
    ("client", "publisher"),
    [("python", "curl"), ("terminal", "curl"), ("pusher", "node"), ("pusher", "python"), ("echo", "node")],
)
def test_a_client_prints_what_a_server_publishes(
    tenants: Tenants, node_modules: Path, tmp_path: Path, code: dict[str, str], client: str, publisher: str
) -> None:
    client, publisher = f"connecting {client}", f"publishing {publisher}"
    env = credentials(tenants)
    listen = command(client, code[client], node_modules)
    secret = tenants.secrets["demo"]
    publish = command(publisher, code[publisher].replace('"SECRET"', f'"{secret}"'), node_modules)
    printed = tmp_path / "printed"
    with printed.open("wb") as output:
        process = subprocess.Popen(listen, cwd=node_modules, env=env, stdin=subprocess.PIPE, stdout=output)
    try:
        deadline = time.monotonic() + SECONDS
        while b"Hello!" not in printed.read_bytes():  # it may not be subscribed yet
            assert process.poll() is None
            assert time.monotonic() < deadline
            subprocess.run(publish, cwd=node_modules, env=env, check=True, timeout=SECONDS, capture_output=True)
            time.sleep(0.2)
    finally:
        process.kill()
        process.communicate()


@asynccontextmanager
async def console_of_a_browser(code: str) -> AsyncIterator[Page]:
    """Open a page in whose console somebody pastes code; `printed` has what the code prints there."""
    async with open_page() as page:
        await page.evaluate("window.printed = []; console.log = (text) => { printed.push(text); }")
        await page.evaluate(code)
        yield page


@pytest.mark.parametrize(("client", "publisher"), [("browser", "curl"), ("v4", "curl-v4")])
async def test_a_browser_prints_what_a_server_publishes(
    tenants: Tenants, code: dict[str, str], client: str, publisher: str
) -> None:
    publish = ["bash", "-c", code[f"publishing {publisher}"]]
    async with console_of_a_browser(code[f"connecting {client}"]) as page, asyncio.timeout(SECONDS):
        while not await page.evaluate(
            "printed.some((text) => text.includes('Hello!'))"
        ):  # it may not be subscribed yet
            await asyncio.to_thread(
                subprocess.run, publish, env=credentials(tenants), check=True, timeout=SECONDS, capture_output=True
            )


async def test_clients_of_v4_print_what_one_of_them_says(code: dict[str, str]) -> None:
    v4 = code["connecting v4"]
    async with console_of_a_browser(v4) as first, console_of_a_browser(v4) as second:
        for page in (first, second):
            await page.wait_for("printed.some((text) => text.includes('subscribe_success'))")
        await first.evaluate("say('Hello from a client!')")
        await second.wait_for("printed.some((text) => text.includes('Hello from a client!'))")
        assert json.loads((await second.evaluate("printed"))[-1])["system::channel"] == "hello"
