"""The receivers in accounts/WEBHOOKS.md: they take what the service sends, and refuse everything else."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.clients import channel_path, open_client
from tests.documentation import code_blocks
from tests.receivers import Received, Receiver
from tests.sdk.conftest import FOLDER
from tests.servers import LiveServer, free_port, wait_for_port

PAGE = "accounts/WEBHOOKS.md"
SETTINGS = {"WEBHOOK_ALLOWS_HTTP": "1", "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.1"}
WAIT_SECONDS = 30


@pytest.fixture(scope="module")
def server(start: Callable[..., LiveServer]) -> LiveServer:
    """The service, which may send webhooks to this machine."""
    return start("serve", **SETTINGS)


@pytest.fixture(scope="module")
def api(server: LiveServer) -> Iterator[httpx.Client]:
    """The REST API for the owner of the demo account."""
    headers = {"Authorization": f"Token {server.token('owner@example.com')}"}
    url = server.url("/api/v1/", scheme="http")
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=20) as client:
        yield client


def shown(language: str, package: str) -> str:
    """Return the receiver that imports from a package."""
    (code,) = (block for block in code_blocks(PAGE, language) if re.search(rf'from "?{package}\b', block))
    return code


def create_webhook(api: httpx.Client, settings: dict[str, Any]) -> dict[str, Any]:
    webhook: dict[str, Any] = api.post("webhooks/", json=settings).raise_for_status().json()
    return webhook


class Site(NamedTuple):
    """A running receiver, with its webhook."""

    url: str
    output: Path
    webhook: dict[str, Any]

    def wait_for(self, *lines: str) -> None:
        """Wait until the receiver has printed these lines."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not set(lines) <= set(self.output.read_text().splitlines()):
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.05)


@pytest.fixture(params=["django", "flask", "express"])
def site(
    request: pytest.FixtureRequest,
    api: httpx.Client,
    keys: dict[str, str],
    secrets: dict[str, str],
    tmp_path: Path,
) -> Iterator[Site]:
    """Each receiver of the page."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/webhooks"
    settings = {"cluster": "demo", "url": url, "kinds": ["client_event"], "signing_key": keys["demo"]}
    webhook = create_webhook(api, settings)
    env = {**os.environ, "WEBHOOK_SECRET": webhook["secret"], "PORT": str(port)}
    env |= {"WEBHOOK_KEY": keys["demo"], "WEBHOOK_KEY_SECRET": secrets["demo"]}
    folder, output = tmp_path, tmp_path / "output.txt"
    match request.param:
        case "django":
            (folder / "receiver.py").write_text(shown("python", "django"))
            env["PYTHONPATH"] = str(folder)
            command = [sys.executable, str(FOLDER / "webhook_site.py"), str(port)]
        case "flask":
            (folder / "receiver.py").write_text(shown("python", "flask"))
            command = [sys.executable, "-m", "flask", "--app", "receiver", "run", "--port", str(port)]
        case _:
            folder = request.getfixturevalue("node_modules")
            (folder / "receiver.mjs").write_text(shown("js", "express"))
            command = ["node", "receiver.mjs"]
    with (
        open(output, "wb") as file,
        subprocess.Popen(command, cwd=folder, env=env, stdout=file, stderr=file) as process,
    ):
        try:
            wait_for_port(port, process)
            yield Site(url, output, webhook)
        finally:
            process.terminate()
            api.delete(f"webhooks/{webhook['id']}/").raise_for_status()


def send_test_event(api: httpx.Client, site: Site) -> dict[str, Any]:
    """Send a test event, and return its delivery after the first attempt."""
    path = f"webhooks/{site.webhook['id']}/"
    sent = api.post(f"{path}test/").raise_for_status().json()
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        delivery: dict[str, Any] = api.get(f"{path}deliveries/{sent['id']}/").json()
        if delivery["attempts"]:
            return delivery
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def test_the_receiver_takes_test_events_and_messages(
    api: httpx.Client, server: LiveServer, site: Site, keys: dict[str, str]
) -> None:
    delivery = send_test_event(api, site)
    assert (delivery["state"], delivery["attempts"][0]["status"]) == ("delivered", 204), site.output.read_text()
    async with open_client(server, channel_path("chat", keys["demo"])) as client:
        await client.send("Grüße 😀\\")
        await client.settle()
        site.wait_for("client_event chat Grüße 😀\\")


async def test_the_body_on_the_page_is_that_of_a_real_request(
    api: httpx.Client, server: LiveServer, keys: dict[str, str]
) -> None:
    shown_body = json.loads(code_blocks(PAGE, "json")[0])
    with Receiver() as receiver:
        occupied = {"cluster": "demo", "url": receiver.url, "kinds": ["channel_occupied"], "channel_prefix": "chat"}
        create_webhook(api, occupied)
        async with open_client(server, channel_path("chat", keys["demo"])):
            deadline = time.monotonic() + WAIT_SECONDS
            while not receiver.requests:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
    body = json.loads(receiver.requests[0].body)
    (event,), (shown_event,) = body["events"], shown_body["events"]
    times = ("sequence", "time_ms")
    assert [*body] == [*shown_body]
    assert {**event, **{name: shown_event[name] for name in times}} == shown_event


def test_the_receiver_refuses_what_the_service_has_not_sent(api: httpx.Client, site: Site) -> None:
    with Receiver() as receiver:
        api.patch(f"webhooks/{site.webhook['id']}/", json={"url": receiver.url}).raise_for_status()
        assert send_test_event(api, site)["state"] == "delivered"
        (genuine,) = receiver.requests
    assert status(site, genuine) == 204
    forged = genuine.body.replace(b"test", b"text")
    assert status(site, genuine._replace(body=forged)) == 400
    assert status(site, genuine._replace(body=b"")) == 400
    unsigned = {name: value for name, value in genuine.headers.items() if not name.endswith(("-id", "-key"))}
    assert status(site, genuine._replace(headers=unsigned)) == 400
    wrong = {name: "wrong" if name.endswith("-signature") else value for name, value in genuine.headers.items()}
    assert status(site, genuine._replace(headers=wrong)) == 400


def status(site: Site, request: Received) -> int:
    """Send a request to the receiver as it was received elsewhere; return the status of the answer."""
    headers = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
    return httpx.post(site.url, content=request.body, headers=headers, trust_env=False).status_code
