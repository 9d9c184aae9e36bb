"""Redis disappears from the network without a trace, or hangs: the nodes serve their clients, and recover."""

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import redis

from tests.clients import until
from tests.metrics import get
from tests.namespaces import SERVER_ADDRESS, Network
from tests.nodes.agreement import Crowd, check_served
from tests.servers import PROJECT, LiveServer, Redis, need, wait_for_port

# How long a node may take to notice that Redis is away, to serve a client then, and to be exact again, in seconds.
NOTICE_SECONDS = 15
SERVE_SECONDS = 5
RECOVERY_SECONDS = 10
# How long the CPU time of a node is measured, in seconds, and how much of it may pass on the CPU.
WATCH_SECONDS = 8
MAX_CPU = 0.25


class IsolatedNode(LiveServer):
    """A node in another network namespace, whose clients reach it through a socket of this one."""

    def __init__(self, namespace: str, directory: Path, **env: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = int(listener.getsockname()[1])
        within = ["ip", "netns", "exec", namespace]
        super().__init__(directory, within, port, **env)

    def start(self) -> None:
        with socket.create_server(("127.0.0.1", self.port)) as listener, open(self.log_path, "ab") as log:
            daphne = [sys.executable, "-m", "daphne", "-v", "0", "--fd", str(listener.fileno())]
            self.process = subprocess.Popen(
                [*self._command, *daphne, "piesite.asgi:application"],
                cwd=PROJECT,
                env=self.env,
                stdout=log,
                stderr=log,
                pass_fds=[listener.fileno()],
            )
        wait_for_port(self.port, self.process)


def readiness(node: LiveServer) -> tuple[int, bool]:
    """Return the status of /readyz, and whether it reports that Redis is reachable."""
    answer = get(node, "/readyz")
    return answer.status_code, answer.json()["redis"]


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


async def test_nodes_serve_while_redis_is_gone_from_the_network_and_are_exact_when_it_is_back(
    network: Network, start: Callable[..., LiveServer], keys: dict[str, str], secrets: dict[str, str], tmp_path: Path
) -> None:
    template = start("serve")  # has the tenants
    template.stop()
    options = ("--protected-mode", "no")
    async with AsyncExitStack() as stack:
        server = Redis(tmp_path, *options, namespace=network.server, address=SERVER_ADDRESS)
        stack.enter_context(server)
        nodes = [
            IsolatedNode(network.nodes, make_directory(tmp_path, number), **template_env(template, server.url))
            for number in range(2)
        ]
        for node in nodes:
            node.start()
            stack.callback(node.stop)
        crowd = Crowd(nodes, keys["demo"], secrets["demo"], stack)
        await crowd.gather()

        network.vanish()
        await check_served(crowd, nodes[0], "before-notice", NOTICE_SECONDS)
        await until(lambda: all(readiness(node) == (200, False) for node in nodes), NOTICE_SECONDS)
        before = [node.cpu_seconds() for node in nodes]
        begun = time.monotonic()
        await asyncio.sleep(WATCH_SECONDS)
        passed = time.monotonic() - begun
        shares = [(node.cpu_seconds() - used) / passed for node, used in zip(nodes, before, strict=True)]
        print("CPU while Redis is away:", shares)
        assert max(shares) < MAX_CPU
        for number, node in enumerate(nodes):
            await check_served(crowd, node, f"away-{number}", SERVE_SECONDS)
            assert get(node, "/healthz").status_code == 200
            assert readiness(node) == (200, False)

        assert nodes[1].stop() == 0  # SIGTERM
        nodes[1].start()
        crowd.clients[1] = await crowd.connect(nodes[1], "crowd")
        crowd.members[1] = await crowd.join(nodes[1], "people", "again")
        await check_served(crowd, nodes[1], "started-without-redis", SERVE_SECONDS)

        network.restore()
        print(f"exact again after {await crowd.until_exact(RECOVERY_SECONDS):.1f} s")
        assert all(readiness(node) == (200, True) for node in nodes)
        for node in nodes:
            assert node.stop() == 0
            assert "Traceback" not in node.log, node.log


def make_directory(parent: Path, number: int) -> Path:
    directory = parent / f"node{number}"
    directory.mkdir()
    return directory


def template_env(template: LiveServer, redis_url: str) -> dict[str, str]:
    return {"DATA_DIR": str(template.directory), "REDIS_URL": redis_url}


async def test_nodes_are_exact_again_after_redis_with_tls_has_hung(
    start: Callable[..., LiveServer], keys: dict[str, str], secrets: dict[str, str], tmp_path: Path
) -> None:
    need("redis-server")
    with Redis(tmp_path, tls=True) as server:
        nodes = [start(kind, REDIS_URL=server.url) for kind in ("serve", "daphne")]
        async with AsyncExitStack() as stack:
            crowd = Crowd(nodes, keys["demo"], secrets["demo"], stack)
            await crowd.gather()
            begun = time.monotonic()
            server.process.send_signal(signal.SIGSTOP)
            await until(lambda: all(readiness(node) == (200, False) for node in nodes), NOTICE_SECONDS)
            for number, node in enumerate(nodes):
                await check_served(crowd, node, f"away-{number}", SERVE_SECONDS)
            await asyncio.sleep(begun + 15 - time.monotonic())
            server.process.send_signal(signal.SIGCONT)
            print(f"exact again after {await crowd.until_exact(RECOVERY_SECONDS):.1f} s")
            with redis.Redis.from_url(server.url) as client:
                assert len(client.keys("*lease:*")) == 2
                for lease in client.keys("*lease:*"):
                    client.pexpire(lease, 3_000)
                await until(lambda: all(client.pttl(lease) > 8_000 for lease in client.keys("*lease:*")))
                assert len(client.keys("*lease:*")) == 2
        for node in nodes:
            assert node.stop() == 0
