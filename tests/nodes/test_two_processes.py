"""What a client of one process may rely on towards clients of another: when it is heard, and in which order."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.clients import Client, channel_path, open_client
from tests.servers import LiveServer, Redis

RELOADS, TRIES = 30, 100
ROUNDS, PUBLISHES = 10, 60
# How long a client that reloads a page may wait until its connection is open, in seconds.
OPEN_SECONDS = 0.5


@pytest.fixture(scope="module")
def pair(start: Callable[..., LiveServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[LiveServer]]:
    """Two processes on one Redis."""
    with Redis(tmp_path_factory.mktemp("redis")) as redis:
        nodes = [start(kind, REDIS_URL=redis.url) for kind in ("serve", "daphne")]
        yield nodes
        for node in nodes:
            node.stop()


async def test_the_last_client_of_a_channel_leaves_and_the_next_is_open_soon(
    pair: list[LiveServer], keys: dict[str, str], channel: str
) -> None:
    path = channel_path(channel, keys["demo"])
    waits: list[float] = []
    async with AsyncExitStack() as stack:
        left = await stack.enter_async_context(open_client(pair[0], path))
        elsewhere = await stack.enter_async_context(open_client(pair[1], path))
        for number in range(RELOADS):
            left.socket.transport.abort()
            begun = time.monotonic()
            left = await stack.enter_async_context(open_client(pair[0], path))
            waits.append(time.monotonic() - begun)
            await elsewhere.send(str(number))
            assert await left.receive() == str(number)
    print(f"open after {max(waits):.3f} s at most")
    assert max(waits) < OPEN_SECONDS


async def test_who_is_counted_hears_what_is_sent_then(
    pair: list[LiveServer], keys: dict[str, str], channel: str
) -> None:
    for number in range(TRIES):
        path = channel_path(f"{channel}-{number}", keys["demo"])
        async with AsyncExitStack() as stack:

            async def wait_and_send(sender: Client, text: str) -> None:
                while await sender.count() != 2:
                    pass
                await sender.send(text)

            sender = await stack.enter_async_context(open_client(pair[number % 2], path))
            sending = asyncio.create_task(wait_and_send(sender, str(number)))
            receiver = await stack.enter_async_context(open_client(pair[1 - number % 2], path))
            assert await receiver.receive() == str(number)
            await sending


@asynccontextmanager
async def publisher(
    node: LiveServer, key: str, secret: str, channel: str
) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Yield a function that publishes a message through a process, each over a new connection."""
    body = {"key": key, "secret": secret, "channelId": channel}
    async with node.http_client("/api/", headers={"Connection": "close"}) as http:

        async def publish(message: str) -> None:
            answer = await http.post("publish", json={**body, "message": message})
            assert answer.status_code == 200, answer.text

        yield publish


async def test_awaited_publishes_arrive_everywhere_in_their_order(
    pair: list[LiveServer], keys: dict[str, str], secrets: dict[str, str], channel: str
) -> None:
    expected = [str(number) for number in range(ROUNDS * PUBLISHES)]
    async with AsyncExitStack() as stack:
        publishers = [
            await stack.enter_async_context(publisher(node, keys["demo"], secrets["demo"], channel)) for node in pair
        ]
        path = channel_path(channel, keys["demo"])
        listeners = [await stack.enter_async_context(open_client(node, path)) for node in pair]
        for number, publish in zip(expected, itertools.cycle(publishers), strict=False):
            await publish(number)
        for listener in listeners:
            assert [await listener.receive() for _ in expected] == expected


async def test_concurrent_publishes_arrive_everywhere_in_the_same_order(
    pair: list[LiveServer], keys: dict[str, str], secrets: dict[str, str], channel: str
) -> None:
    async def publish_many(name: str, node: LiveServer) -> None:
        async with publisher(node, keys["demo"], secrets["demo"], channel) as publish:
            for number in range(PUBLISHES):
                await publish(f"{name} {number}")

    async with AsyncExitStack() as stack:
        path = channel_path(channel, keys["demo"])
        listeners = [await stack.enter_async_context(open_client(node, path)) for node in pair for _ in range(2)]
        await asyncio.gather(*(publish_many(name, pair[number % 2]) for number, name in enumerate("abcd")))
        heard = [[str(await listener.receive()) for _ in range(4 * PUBLISHES)] for listener in listeners]
        for listener in listeners:
            await listener.settle()
    assert all(messages == heard[0] for messages in heard[1:])
    for name in "abcd":
        numbers = [message for message in heard[0] if message.startswith(name)]
        assert numbers == [f"{name} {number}" for number in range(PUBLISHES)]
