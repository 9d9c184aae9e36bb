"""Slow is not dead: clients on slow links keep their connections, and those that are gone lose them."""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.clients import channel_path, open_client
from tests.conformance.test_short_paths import FIN, TEXT, frame
from tests.servers import LiveServer
from tests.sockets.raw import Open, Raw
from tests.sockets.test_refusals import GOOD_HANDSHAKE, handshake

MIB = 1024 * 1024
PING_SECONDS = 1
PONG_SECONDS = 3
# Daphne looks at its connections every two seconds.
CHECK_SECONDS = 2
# How long a message takes on the slow link, in seconds: several times as long as a client may be silent.
TRANSFER_SECONDS = 12


@pytest.fixture(scope="module")
def impatient(start: Callable[..., LiveServer]) -> LiveServer:
    """A server that pings soon, and waits only a few seconds for the answer."""
    return start("daphne", "--ping-interval", str(PING_SECONDS), "--ping-timeout", str(PONG_SECONDS))


def read_slowly(client: Raw, size: int, seconds: float) -> int:
    """Read as many bytes, spread over so much time; return how many came."""
    received, pieces = 0, 100
    for _ in range(pieces):
        wanted = min(size // pieces + 1, size - received)
        while wanted > 0:
            chunk = client.socket.recv(wanted)
            if not chunk:
                return received
            received, wanted = received + len(chunk), wanted - len(chunk)
        time.sleep(seconds / pieces)
    return received


async def test_a_large_message_that_arrives_slowly_is_delivered(
    impatient: LiveServer, raw: Open, keys: dict[str, str], channel: str
) -> None:
    path = channel_path(channel, keys["demo"])
    async with open_client(impatient, path) as receiver:
        sender = raw(impatient, channel)
        data = frame(FIN | TEXT, b"x" * (MIB - 1))
        for start in range(0, len(data), len(data) // 100):
            sender.send(data[start : start + len(data) // 100])
            await asyncio.sleep(TRANSFER_SECONDS / 100)
        assert await receiver.receive() == "x" * (MIB - 1)


async def test_a_client_that_reads_a_large_message_slowly_gets_it(
    impatient: LiveServer, raw: Open, keys: dict[str, str], channel: str
) -> None:
    path = channel_path(channel, keys["demo"])
    async with open_client(impatient, path) as sender:
        receiver = raw(impatient, channel, receive_buffer=16 * 1024)
        size = 1_000_000
        for _ in range(4):
            await sender.send("x" * size)
        received = await asyncio.to_thread(read_slowly, receiver, 4 * size, TRANSFER_SECONDS)
        assert received == 4 * size


async def test_a_client_that_answers_no_ping_is_dropped(
    impatient: LiveServer, raw: Open, keys: dict[str, str], channel: str
) -> None:
    silent = raw(impatient, channel)
    begun = time.monotonic()
    _, code = await asyncio.to_thread(silent.ending)
    assert code == 1006
    assert PONG_SECONDS < time.monotonic() - begun < PING_SECONDS + PONG_SECONDS + 3 * CHECK_SECONDS


async def test_a_client_that_stops_reading_is_dropped_also_while_data_waits(
    impatient: LiveServer, raw: Open, keys: dict[str, str], channel: str
) -> None:
    path = channel_path(channel, keys["demo"])
    async with open_client(impatient, path) as sender:
        raw(impatient, channel, receive_buffer=16 * 1024)
        assert await sender.count() == 2
        for _ in range(4):
            await sender.send("x" * 1_000_000)
        async with asyncio.timeout(30):
            while await sender.count() == 2:  # noqa: ASYNC110
                await asyncio.sleep(0.2)


async def test_what_one_request_publishes_reaches_a_client_of_a_common_link(
    serve: LiveServer, raw: Open, keys: dict[str, str], secrets: dict[str, str], channel: str
) -> None:
    headers = {"key": keys["demo"], "secret": secrets["demo"]}
    client = raw(serve, channel, receive_buffer=64 * 1024)
    batch: list[dict[str, Any]] = [{"channelId": channel, "message": "x" * 65_000} for _ in range(100)]
    async with serve.http_client(headers=headers) as http:
        assert (await http.post("/api/publish/batch", json={"messages": batch})).status_code == 200
        assert (await http.post("/api/publish", json={"channelId": channel, "message": "last"})).status_code == 200
    size = 100 * len(frame(FIN | TEXT, b"x" * 65_000, mask=None)) + len(frame(FIN | TEXT, b"last", mask=None))

    def read() -> bytes:
        received = bytearray()
        while len(received) < size:
            chunk = client.socket.recv(50_000)  # 2.5 MB a second
            if not chunk:
                break
            received += chunk
            time.sleep(0.02)
        return bytes(received[-4:])

    assert await asyncio.to_thread(read) == b"last"


async def test_a_client_that_has_lost_its_network_is_no_longer_counted(
    start: Callable[..., LiveServer], keys: dict[str, str], channel: str
) -> None:
    """Half-open TCP: the client's side is frozen, so it neither answers nor ends the connection."""
    server = start("daphne", "--ping-interval", "1", "--ping-timeout", "2")
    async with open_client(server, channel_path(channel, keys["demo"])) as stays:
        gone = socket.create_connection(("127.0.0.1", server.port))
        gone.sendall(handshake(channel_path(channel, keys["demo"]), *GOOD_HANDSHAKE))
        deadline = time.monotonic() + 10
        while await stays.count() != 2:
            assert time.monotonic() < deadline
        while await stays.count() != 1:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        gone.close()
