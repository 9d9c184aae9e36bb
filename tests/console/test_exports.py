"""Large exports over a real server: whole, one at a time, and without keeping others waiting or filling the memory."""

import asyncio
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.clients import channel_path, open_client
from tests.servers import LiveServer

ENTRIES = 120_000
MAX_GROWTH_KIB = 24 * 1024
"""The export has 45 MB."""
ECHO_SECONDS = 0.01
ATTEMPTS = 3
"""A busy machine may delay any single attempt."""
FILL = f"""
from django.db import connection
from django.utils import timezone
from accounts.models import Cluster
account = Cluster.objects.get(cluster_id="demo").account_id
with connection.cursor() as cursor:
    cursor.execute(
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {ENTRIES}) "
        "INSERT INTO accounts_auditentry "
        "(account_pk, account_name, email, by_operator, source, verb, kind, name, label, changes, at) "
        "SELECT %s, 'Demo', '', FALSE, 'command', 'changed', 'account', '1', 'Demo', %s, %s FROM numbers",
        [account, '{{"name": ["", "' + "x" * 150 + '"]}}', timezone.now()],
    )
print(account)
"""


@pytest.fixture(scope="module")
def server(start: Callable[..., LiveServer]) -> LiveServer:
    return start("serve")


@pytest.fixture(scope="module")
def path(server: LiveServer) -> str:
    account = server.shell(FILL).strip()
    return f"/console/{account}/settings/export/"


@pytest.fixture
def browser(server: LiveServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url("", scheme="http"), trust_env=False, timeout=30) as browser:
        browser.get("/console/you/login/")
        form = {"login": "owner@example.com", "password": "owner-password"}
        answer = browser.post("/console/you/login/", data={**form, "csrfmiddlewaretoken": browser.cookies["csrftoken"]})
        assert answer.status_code == 302
        yield browser


def wait_until_idle(server: LiveServer) -> None:
    deadline = time.monotonic() + 60
    while True:
        before = server.cpu_seconds()
        time.sleep(1)
        if server.cpu_seconds() - before < 0.1:
            return
        assert time.monotonic() < deadline


def test_an_export_waits_for_a_slow_client_and_is_whole(server: LiveServer, browser: httpx.Client, path: str) -> None:
    before = server.memory_kib()
    with browser.stream("GET", path) as answer:
        parts = answer.iter_raw()
        received = [next(parts)]
        wait_until_idle(server)
        assert server.memory_kib() - before < MAX_GROWTH_KIB
        second = browser.get(path)
        assert second.status_code == 409
        assert "This account is already being exported." in second.text
        received += parts
    exported = json.loads(b"".join(received))
    assert len([entry for entry in exported["audit"] if entry["verb"] == "changed"]) == ENTRIES
    assert server.memory_kib() - before < MAX_GROWTH_KIB


def test_a_client_that_leaves_ends_its_export(browser: httpx.Client, path: str) -> None:
    with browser.stream("GET", path) as answer:
        next(answer.iter_raw())
    deadline = time.monotonic() + 20
    while True:
        with browser.stream("GET", path) as answer:
            if answer.status_code == 200:
                return
        assert time.monotonic() < deadline
        time.sleep(0.2)


async def echoes(server: LiveServer, key: str, is_over: threading.Event) -> list[float]:
    """Return how long messages of another connection took, in seconds, until something is over."""
    took = []
    async with open_client(server, channel_path("quick", key, "notify_self")) as client:
        while not is_over.is_set():
            begun = time.perf_counter()
            await client.send("quick?")
            await client.receive()
            took.append(time.perf_counter() - begun)
            await asyncio.sleep(0.005)
    return took


def test_others_notice_no_export(server: LiveServer, browser: httpx.Client, path: str, keys: dict[str, str]) -> None:
    medians = []
    for _ in range(ATTEMPTS):
        is_over = threading.Event()

        def download(is_over: threading.Event = is_over) -> None:
            assert browser.get(path).status_code == 200
            is_over.set()

        thread = threading.Thread(target=download)
        thread.start()
        medians.append(statistics.median(asyncio.run(echoes(server, keys["other"], is_over))))
        thread.join()
        if medians[-1] < ECHO_SECONDS:
            return
    raise AssertionError(medians)
