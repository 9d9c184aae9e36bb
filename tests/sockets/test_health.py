"""The answers that a node gives to health probes."""

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from piesite import __version__
from tests.clients import channel_path, open_client, until
from tests.metrics import get, scrape
from tests.servers import LiveServer, Redis


def ready(server: LiveServer) -> tuple[int, dict[str, Any]]:
    answer = get(server, "/readyz")
    return answer.status_code, answer.json()


def test_a_node_is_alive_and_ready_whatever_the_host_header(serve: LiveServer) -> None:
    headers = {"Host": "probe.invalid"}
    assert get(serve, "/healthz", headers).json() == {"alive": True, "version": __version__}
    answer = get(serve, "/readyz", headers)
    content = answer.json()
    assert 0 <= content.pop("loop_lag_seconds") < 1
    assert (answer.status_code, content) == (200, {"ready": True, "draining": False, "database": True, "redis": None})


async def test_an_unreachable_database_is_reported_but_the_node_stays_ready(
    start: Callable[..., LiveServer], keys: dict[str, str], channel: str
) -> None:
    server = start("serve")
    path = channel_path(channel, keys["demo"])
    async with open_client(server, path) as one, open_client(server, path) as two:
        assert ready(server)[1]["database"] is True
        database, away = server.directory / "db.sqlite3", server.directory / "away"
        database.rename(away)
        await until(lambda: ready(server)[1]["database"] is False)
        status, content = ready(server)
        assert (status, content["ready"]) == (200, True)
        await one.send("still here")
        assert await two.receive() == "still here"
        away.rename(database)
        await until(lambda: ready(server)[1]["database"] is True)


async def test_a_database_that_does_not_answer_does_not_delay_probes(start: Callable[..., LiveServer]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = start("daphne", DATABASE_URL=f"postgres://ws:ws@127.0.0.1:{silent.getsockname()[1]}/ws")
        for _ in range(3):
            begun = time.monotonic()
            status, content = ready(server)
            assert time.monotonic() - begun < 0.9
            assert (status, content["ready"], content["database"]) == (200, True, False)
        server.stop()


async def test_an_unreachable_redis_is_reported_but_the_node_stays_ready(
    start: Callable[..., LiveServer], tmp_path: Path
) -> None:
    with Redis(tmp_path) as redis:
        server = start("serve", REDIS_URL=redis.url)
        await until(lambda: ready(server)[1]["redis"] is True)
        assert scrape(server)["redis_up"] == 1
        redis.stop()
        await until(lambda: ready(server)[1]["redis"] is False)
        status, content = ready(server)
        assert (status, content["ready"], content["database"]) == (200, True, True)
        assert scrape(server)["redis_up"] == 0
        redis.start()
        await until(lambda: ready(server)[1]["redis"] is True)
        assert scrape(server)["redis_up"] == 1
        server.stop()


async def test_a_node_whose_loop_was_blocked_is_not_ready_until_it_has_caught_up(
    start: Callable[..., LiveServer],
) -> None:
    server = start("serve")
    assert ready(server)[0] == 200
    server.process.send_signal(signal.SIGSTOP)
    probe = asyncio.create_task(asyncio.to_thread(lambda: get(server, "/readyz").json()))
    await asyncio.sleep(6)
    server.process.send_signal(signal.SIGCONT)
    content = await probe
    assert content["ready"] is False
    assert 5 < content["loop_lag_seconds"] < 9
    await until(lambda: ready(server)[0] == 200, 5)
    assert scrape(server)["loop_lag_seconds"] > 5
