"""A connection to Redis with TLS, which is taken over from redis-py and asyncio."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from realtime.cluster import redis_connection
from realtime.cluster.redis_connection import Connection, ReplyHandler, make_pool, open_connection
from tests.servers import Redis, free_port

LARGE = b"x" * 5_000_000


class Replies(ReplyHandler):
    """Keeps what a connection gets."""

    def __init__(self) -> None:
        self.replies: asyncio.Queue[Any] = asyncio.Queue()
        self.losses: list[str] = []

    def handle_reply(self, reply: Any) -> None:
        self.replies.put_nowait(reply)

    def handle_end_of_replies(self) -> None: ...

    def handle_loss(self, connection: Connection, reason: str) -> None:
        self.losses.append(reason)

    async def next(self) -> Any:
        async with asyncio.timeout(10):
            return await self.replies.get()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with Redis(tmp_path_factory.mktemp("redis"), tls=True) as server:
        yield server


@pytest.fixture
def replies() -> Replies:
    return Replies()


def encode(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


async def connect(url: str, replies: Replies) -> Connection:
    return await open_connection(make_pool({"address": url}), replies)


@pytest.mark.parametrize("is_direct", [True, False])
async def test_commands_and_replies_of_any_size_arrive_whole(
    redis: Redis, replies: Replies, is_direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_direct:
        monkeypatch.setattr(redis_connection, "_TLS_NAMES", ("_of_another_version",))
    connection = await connect(redis.url, replies)
    for size in (1, 200, 16_383, 16_384, 16_385, 5_000_000):
        connection.write(encode(b"ECHO", LARGE[:size]))
        assert await replies.next() == LARGE[:size]
    for number in range(1_000):
        connection.write(encode(b"ECHO", b"%d" % number))
    assert [await replies.next() for _ in range(1_000)] == [b"%d" % number for number in range(1_000)]
    connection.abort()
    await asyncio.wait_for(connection.ended, 10)
    assert replies.losses == []


async def test_the_end_of_a_connection_is_noticed(redis: Redis, replies: Replies) -> None:
    connection = await connect(redis.url, replies)
    connection.write(encode(b"QUIT"))
    assert await replies.next() == b"OK"
    await asyncio.wait_for(connection.ended, 10)
    assert replies.losses == ["the connection was closed"]
    connection.write(encode(b"PING"))  # is lost, as on any dead connection


@contextlib.asynccontextmanager
async def forged(redis: Redis, is_forging: Callable[[], bool]) -> AsyncIterator[int]:
    """Yield a port that leads to Redis, and replaces what Redis sends while it is to forge."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_redis, from_redis = (await asyncio.open_connection("127.0.0.1", redis.port))[::-1]

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter, *, from_redis: bool) -> None:
            while data := await source.read(65_536):
                target.write(b"\x17\x03\x03\x00\x20" + bytes(32) if from_redis and is_forging() else data)
            target.close()

        await asyncio.gather(copy(reader, to_redis, from_redis=False), copy(from_redis, writer, from_redis=True))

    port = free_port()
    async with await asyncio.start_server(serve, "127.0.0.1", port):
        yield port


async def test_what_was_not_encrypted_by_redis_ends_the_connection_with_the_reason(
    redis: Redis, replies: Replies, caplog: pytest.LogCaptureFixture
) -> None:
    is_forging = False
    async with forged(redis, lambda: is_forging) as port:
        connection = await connect(redis.url.replace(str(redis.port), str(port)), replies)
        connection.write(encode(b"ECHO", b"genuine"))
        assert await replies.next() == b"genuine"
        is_forging = True
        connection.write(encode(b"ECHO", b"hello"))
        await asyncio.wait_for(connection.ended, 10)
    [reason] = replies.losses
    assert "DECRYPTION_FAILED_OR_BAD_RECORD_MAC" in reason
    assert replies.replies.empty()
    assert caplog.messages == []
