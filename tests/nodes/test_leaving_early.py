"""A client that leaves while its node waits for Redis to confirm its channel leaves nothing behind."""

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import metrics
from tests.clients import channel_path, open_client
from tests.servers import LiveServer, Redis
from tests.sockets.test_refusals import GOOD_HANDSHAKE, handshake


@pytest.mark.parametrize("kind", ["daphne", "shut"])
async def test_clients_that_leave_while_they_join_are_not_counted(
    start: Callable[..., LiveServer], keys: dict[str, str], tmp_path: Path, kind: str
) -> None:
    with Redis(tmp_path) as redis, start(kind, REDIS_URL=redis.url) as server:
        async with open_client(server, channel_path("first", keys["demo"])) as client:  # the key is in the cache then
            await client.settle()
        await metrics.until(lambda values: values["connections"] == 0, server)
        redis.process.send_signal(signal.SIGSTOP)
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        for number, waiting in enumerate(clients):
            waiting.sendall(handshake(channel_path(f"early-{number}", keys["demo"]), *GOOD_HANDSHAKE))
        await metrics.until(lambda values: values["connections"] == 3, server)
        for waiting in clients:
            waiting.close()
        await metrics.until(lambda values: values["connections"] == 0 == values["channels"], server)
        redis.process.send_signal(signal.SIGCONT)
        await metrics.until(lambda values: values["redis_up"] == 1, server)
        assert metrics.scrape(server)["connections_opened_total"] == 4
