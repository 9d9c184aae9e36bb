"""Workers and their supervisor: each survives the other's worst day, and nothing is left behind."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from realtime.server.supervisor import HANG_SECONDS, MAX_FAILED_STARTS
from tests.clients import channel_path, open_client, until
from tests.servers import PROJECT, LiveServer
from tests.sockets.workers import WORKERS, until_replaced, worker_pids


@pytest.fixture
def server(fresh_workers: LiveServer) -> LiveServer:
    return fresh_workers


def is_running(pid: int) -> bool:
    try:
        # A process that has ended and has nobody to wait for it stays as a zombie.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def all_have_served(server: LiveServer) -> None:
    """Wait until every worker has started its node, whose numbers any of them adds up."""
    async with server.http_client() as http:

        async def count() -> int:
            text = (await http.get("/metrics")).text
            return int(float(text.partition("\npiesocket_processes ")[2].split()[0]))

        while await count() < WORKERS:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_a_worker_that_hangs_is_killed_and_replaced(
    server: LiveServer, keys: dict[str, str], channel: str
) -> None:
    await all_have_served(server)
    before = worker_pids(server)
    victim = min(before)
    os.kill(victim, signal.SIGSTOP)
    await until_replaced(server, victim, HANG_SECONDS + 30)
    assert max(before) in worker_pids(server)
    assert f"A worker has been silent for {HANG_SECONDS:g} seconds" in server.log
    await all_have_served(server)
    async with open_client(server, channel_path(channel, keys["demo"])) as client:
        await client.settle()


async def test_workers_end_with_a_supervisor_that_is_killed(server: LiveServer) -> None:
    await all_have_served(server)
    workers = worker_pids(server)
    server.process.kill()
    server.process.wait()
    await until(lambda: not any(map(is_running, workers)), 20)
    socket.create_server(("127.0.0.1", server.port)).close()


@pytest.mark.parametrize("workers", [1, WORKERS])
def test_a_second_service_on_the_same_port_fails_to_start(server: LiveServer, workers: int) -> None:
    command = [sys.executable, "manage.py", "serve", "--port", str(server.port), "--workers", str(workers)]
    done = subprocess.run(command, cwd=PROJECT, env=server.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"Cannot listen on 127.0.0.1 port {server.port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_workers_that_cannot_start_end_the_supervisor_with_their_error(server: LiveServer) -> None:
    env = {**server.env, "DJANGO_SETTINGS_MODULE": "tests.sockets.broken_settings"}
    command = [sys.executable, "manage.py", "serve", "--port", "0", "--workers", str(WORKERS)]
    done = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=90)
    assert done.returncode == 1
    assert "No module named 'piesite.nothing'" in done.stderr
    assert f"{MAX_FAILED_STARTS} workers in a row ended before they served anything" in done.stderr
