"""Slow, incomplete, excessive, large and malformed requests cost a bounded amount and do not affect other clients."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from statistics import median
from types import MappingProxyType

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from realtime.server import http_limits
from tests.clients import Client, channel_path, open_client, until
from tests.servers import LiveServer
from tests.sockets.test_refusals import GOOD_HANDSHAKE, handshake

MIB = 1024 * 1024
HASTY_SECONDS = 2
# How long what needs no waiting may take on a busy machine. The server's own time limits are longer.
SOON_SECONDS = 5
Raw = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(scope="module")
def server(start: Callable[..., LiveServer]) -> LiveServer:
    return start("serve")


@pytest.fixture(scope="module", params=["daphne", "shut"])
def hasty(request: pytest.FixtureRequest, start: Callable[..., LiveServer]) -> LiveServer:
    """A server with shorter timeouts than the defaults."""
    return start(request.param, REQUEST_HEAD_SECONDS=str(HASTY_SECONDS), REQUEST_SECONDS=str(HASTY_SECONDS))


@pytest.fixture(scope="module", params=["daphne", "shut"])
def narrow(request: pytest.FixtureRequest, start: Callable[..., LiveServer]) -> LiveServer:
    """A server with low limits for each address."""
    return start(
        request.param,
        MAX_CONNECTIONS_PER_ADDRESS="5",
        CONNECTS_PER_MINUTE_PER_ADDRESS="20",
        REQUESTS_PER_MINUTE_PER_ADDRESS="10",
        MAX_HTTP_PER_ADDRESS="20",
    )


@contextlib.asynccontextmanager
async def raw(server: LiveServer, *, local: str = "127.0.0.1") -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=(local, 0))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def seconds_to_the_end(reader: asyncio.StreamReader) -> float:
    """Return how long it takes until the server ends a connection."""
    begun = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while await reader.read(65536):
            pass
    return time.monotonic() - begun


async def trickle(writer: asyncio.StreamWriter, data: bytes, pause: float = 0.5) -> None:
    """Send the data over and over, one byte at a time with pauses."""
    with contextlib.suppress(ConnectionError):
        while True:
            for byte in data:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(pause)


async def others_are_served(server: LiveServer, keys: dict[str, str], local: str = "127.0.0.9") -> None:
    """Check that a client at another address is served without delay."""
    begun = time.monotonic()
    async with open_client(server, channel_path("well", keys["demo"]), local_addr=(local, 0)) as client:
        await client.settle()
    assert time.monotonic() - begun < SOON_SECONDS


async def test_a_request_that_is_not_complete_in_time_is_disconnected(hasty: LiveServer, keys: dict[str, str]) -> None:
    first = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
    post = b"POST /api/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n"
    heads = [b"", b"GET /v3/1", first, handshake("/v3/1", *GOOD_HANDSHAKE)[:-2], post, first + b"\r\n" + first]
    async with contextlib.AsyncExitStack() as stack:
        silent, slow = [[await stack.enter_async_context(raw(hasty)) for _ in heads] for _ in range(2)]
        for (_, writer), head in zip((*silent, *slow), (*heads, *heads), strict=True):
            writer.write(head)
        trickling = [asyncio.create_task(trickle(writer, b"X-A: b\r\n")) for _, writer in slow]
        ended = await asyncio.gather(*(seconds_to_the_end(reader) for reader, _ in (*silent, *slow)))
        for task in trickling:
            task.cancel()
        assert max(ended) < HASTY_SECONDS + 2 * http_limits.SWEEP_SECONDS + 1
    await others_are_served(hasty, keys)


async def test_thousands_of_silent_connections_take_little_memory_and_lock_nobody_out(
    hasty: LiveServer, keys: dict[str, str]
) -> None:
    before = hasty.memory_kib()
    async with contextlib.AsyncExitStack() as stack:
        silent = [
            await stack.enter_async_context(raw(hasty, local=f"127.0.1.{number % 10 + 1}")) for number in range(3_000)
        ]
        assert (hasty.memory_kib() - before) / len(silent) < 20
        await others_are_served(hasty, keys)
        ended = await asyncio.gather(*(seconds_to_the_end(reader) for reader, _ in silent))
        assert max(ended) < HASTY_SECONDS + 5
    await others_are_served(hasty, keys)


async def test_the_number_of_http_connections_from_an_address_is_limited(
    narrow: LiveServer, keys: dict[str, str]
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        held = [await stack.enter_async_context(raw(narrow, local="127.0.2.1")) for _ in range(20)]
        await asyncio.sleep(0.2)
        with contextlib.suppress(ConnectionError):  # the server may reset the connection before it is open
            reader, _ = await stack.enter_async_context(raw(narrow, local="127.0.2.1"))
            assert await seconds_to_the_end(reader) < SOON_SECONDS
        await others_are_served(narrow, keys)
        for _, writer in held[:5]:
            writer.transport.abort()
        await asyncio.sleep(0.2)
        reader, writer = await stack.enter_async_context(raw(narrow, local="127.0.2.1"))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.read(100)).startswith(b"HTTP/1.1 200")


async def test_the_number_of_websockets_from_an_address_is_limited(
    narrow: LiveServer, keys: dict[str, str], channel: str
) -> None:
    path, local = channel_path(channel, keys["demo"]), ("127.0.3.1", 0)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(open_client(narrow, path, local_addr=local)) for _ in range(5)]
        await clients[0].settle()
        refused = await stack.enter_async_context(open_client(narrow, path, local_addr=local))
        assert await refused.ending() == ([], 1013)
        await others_are_served(narrow, keys, "127.0.3.2")
        await clients[0].socket.close()
        again = await stack.enter_async_context(open_client(narrow, path, local_addr=local))
        await again.settle()


async def test_the_rate_of_handshakes_from_an_address_is_limited_including_refused_ones(
    narrow: LiveServer, keys: dict[str, str]
) -> None:
    async def connect(local: str, key: str) -> int | None:
        async with open_client(narrow, channel_path("often", key), local_addr=(local, 0)) as client:
            if key == keys["demo"]:
                with contextlib.suppress(ConnectionClosed):
                    await client.settle()
                    return None
            return (await client.ending())[1]

    codes = [await connect("127.0.4.1", "unknown" if number % 2 else keys["demo"]) for number in range(25)]
    assert codes[:20] == [None, 4001] * 10
    assert codes[20:] == [1013] * 5
    assert await connect("127.0.4.2", keys["demo"]) is None


async def test_behind_a_proxy_the_limits_apply_to_the_addresses_of_the_clients(
    start: Callable[..., LiveServer], keys: dict[str, str], channel: str
) -> None:
    server = start("serve", NUM_PROXIES="1", MAX_CONNECTIONS_PER_ADDRESS="2", MAX_HTTP_PER_ADDRESS="3")
    path = channel_path(channel, keys["demo"])
    async with contextlib.AsyncExitStack() as stack:

        async def connect(forwarded: str) -> Client:
            headers = {"X-Forwarded-For": forwarded}
            client = await stack.enter_async_context(open_client(server, path, additional_headers=headers))
            return client

        for address in ("10.0.0.1", "10.0.0.2", "1.1.1.1, 10.0.0.3", "2001:db8::1", "2001:db8:0:1::1"):
            for client in [await connect(address) for _ in range(2)]:
                await client.settle()
        for address in ("10.0.0.1", "9.9.9.9, 10.0.0.3", "2001:db8::2"):
            assert (await (await connect(address)).ending())[1] == 1013


async def test_the_rate_of_requests_from_an_address_is_limited(narrow: LiveServer) -> None:
    async def statuses(local: str, count: int) -> list[int]:
        transport = httpx.AsyncHTTPTransport(local_address=local)
        async with httpx.AsyncClient(
            base_url=narrow.url("", scheme="http"), transport=transport, trust_env=False
        ) as http:
            answers = [await http.get("/") for _ in range(count)]
        for answer in answers:
            if answer.status_code == 429:
                assert answer.json()["detail"].startswith("Too many requests came from your address; wait ")
                assert 1 <= int(answer.headers["retry-after"]) <= 60
        return [answer.status_code for answer in answers]

    assert await statuses("127.0.5.1", 12) == [200] * 10 + [429] * 2
    assert await statuses("127.0.5.2", 1) == [200]


async def test_a_flood_of_page_requests_does_not_starve_websockets(server: LiveServer, keys: dict[str, str]) -> None:
    """On a busy machine both take longer, so a client's wait is compared with that for a page."""
    done = asyncio.Event()
    pages: list[float] = []

    async def flood(number: int) -> None:
        transport = httpx.AsyncHTTPTransport(local_address=f"127.0.6.{number + 1}", verify=False)
        async with httpx.AsyncClient(
            base_url=server.url("", scheme="http"), transport=transport, trust_env=False, timeout=60
        ) as http:
            while not done.is_set():
                begun = time.monotonic()
                assert (await http.get("/console/you/login/")).status_code == 200
                pages.append(time.monotonic() - begun)

    async with open_client(server, channel_path("flood", keys["demo"])) as client:
        flooding = [asyncio.create_task(flood(number)) for number in range(100)]
        await until(lambda: bool(pages), seconds=30)
        waits = []
        for _ in range(15):
            begun = time.monotonic()
            await client.settle()
            waits.append(time.monotonic() - begun)
        threads = len(list((server.proc / "task").iterdir()))
        done.set()
        await asyncio.gather(*flooding)
    print(f"a client waited {median(waits) * 1000:.0f} ms, a page {median(pages) * 1000:.0f} ms, {threads} threads")
    assert median(waits) < median(pages) / 4
    assert threads < 64


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 600 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n" + b" a\r\n" * 10_000 + b"\r\n",
    ],
    ids=["a long URL", "a long header", "many headers", "a folded header"],
)
async def test_a_large_request_head_is_refused(server: LiveServer, keys: dict[str, str], request_: bytes) -> None:
    async with raw(server) as (reader, writer):
        writer.write(request_)
        answer = b""
        with contextlib.suppress(ConnectionError):  # the kernel resets the connection because of unread data
            answer = await reader.read(100)
        assert answer.startswith(b"HTTP/1.1 400") or not answer
        assert await seconds_to_the_end(reader) < SOON_SECONDS
    await others_are_served(server, keys)


async def test_thousands_of_options_are_refused(server: LiveServer, keys: dict[str, str], channel: str) -> None:
    path = channel_path(channel, keys["demo"], *["a"] * 5_000)
    begun = time.monotonic()
    async with open_client(server, path) as client:
        assert (await client.ending())[1] == 4000
    assert time.monotonic() - begun < SOON_SECONDS


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_is_refused_before_it_has_arrived(
    server: LiveServer, keys: dict[str, str], chunked: bool
) -> None:
    before = server.memory_kib()
    head = b"POST /api/publish/batch HTTP/1.1\r\nHost: localhost\r\n"
    async with raw(server) as (reader, writer):
        if chunked:
            writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                for _ in range(40):
                    writer.write(b"100000\r\n" + bytes(MIB) + b"\r\n")
                    await writer.drain()
        else:
            writer.write(head + b"Content-Length: 1000000000000\r\n\r\n")
        answer = await reader.read(1000)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert answer.endswith(b'{"error":"The request is larger than 16777216 bytes; send less at a time."}')
    assert server.memory_kib() - before < 8 * 1024
    await others_are_served(server, keys)


async def test_the_number_of_large_bodies_received_at_the_same_time_is_limited(
    server: LiveServer, keys: dict[str, str]
) -> None:
    head = b"POST /api/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n" + bytes(1000)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(http_limits.MAX_LARGE_BODIES):
            _, writer = await stack.enter_async_context(raw(server))
            writer.write(head)
        await asyncio.sleep(0.3)
        reader, writer = await stack.enter_async_context(raw(server))
        writer.write(head)
        assert (await reader.read(1000)).startswith(b"HTTP/1.1 503 ")
        await others_are_served(server, keys)
    await asyncio.sleep(0.3)
    async with raw(server) as (reader, writer):
        writer.write(head)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(10), 0.3)


@pytest.mark.parametrize("is_behind_proxy", [False, True])
async def test_one_address_cannot_take_all_places_for_large_bodies(
    start: Callable[..., LiveServer], keys: dict[str, str], secrets: dict[str, str], is_behind_proxy: bool
) -> None:
    server = start("serve", NUM_PROXIES="1" if is_behind_proxy else "0")
    head = b"POST /api/publish HTTP/1.1\r\nHost: localhost\r\n"
    if is_behind_proxy:
        head += b"X-Forwarded-For: 198.51.100.1\r\n"
    announced = b"Content-Length: 1000000\r\n\r\n" + bytes(1000)
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % 1_000_000 + bytes(200_000)
    async with contextlib.AsyncExitStack() as stack:
        for number in range(2 * http_limits.MAX_LARGE_BODIES):
            _, writer = await stack.enter_async_context(raw(server, local="127.0.0.3"))
            writer.write(head + (announced, chunked)[number % 2])
            await writer.drain()
        local, headers = "127.0.0.4", {}
        if is_behind_proxy:
            local, headers = "127.0.0.3", {"X-Forwarded-For": "198.51.100.2"}
        await large_publishes_succeed(server, keys, secrets, local=local, headers=headers)


async def test_a_chunked_body_counts_as_large_when_it_is(
    server: LiveServer, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    start = b"POST /api/publish HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
    async with contextlib.AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(raw(server, local="127.0.0.5"))
            for _ in range(2 * http_limits.MAX_LARGE_BODIES)
        ]
        for _, writer in opened:
            writer.write(start)
        await large_publishes_succeed(server, keys, secrets, local="127.0.0.5")
        for _, writer in opened:
            writer.write(b"%x\r\n" % 1_000_000 + bytes(200_000))
        answers = [asyncio.create_task(reader.readline()) for reader, _ in opened]
        await until(lambda: sum(map(asyncio.Task.done, answers)) >= http_limits.MAX_LARGE_BODIES)
        await large_publishes_succeed(server, keys, secrets, local="127.0.0.6")
        done = [answer for answer in answers if answer.done()]
        assert {answer.result() for answer in done} == {b"HTTP/1.1 503 Service Unavailable\r\n"}
        assert len(done) < len(answers), "some are received"
        for answer in answers:
            answer.cancel()


async def large_publishes_succeed(
    server: LiveServer,
    keys: dict[str, str],
    secrets: dict[str, str],
    *,
    local: str,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> None:
    body = {"key": keys["demo"], "secret": secrets["demo"], "channelId": "large", "message": "x" * 300_000}
    transport = httpx.AsyncHTTPTransport(local_address=local)
    async with httpx.AsyncClient(transport=transport, trust_env=False) as http:
        url = server.url("/api/publish", scheme="http")
        answers = await asyncio.gather(*(http.post(url, json=body, headers=headers) for _ in range(12)))
    assert [answer.status_code for answer in answers] == [200] * 12


async def test_refused_clients_that_never_close_are_disconnected(server: LiveServer, keys: dict[str, str]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        readers = []
        for _ in range(300):
            reader, writer = await stack.enter_async_context(raw(server))
            writer.write(handshake("/v3/1?api_key=unknown", *GOOD_HANDSHAKE))
            readers.append(reader)
        ended = await asyncio.gather(*map(seconds_to_the_end, readers))
        assert max(ended) < 10
    await others_are_served(server, keys)


async def test_clients_that_do_not_answer_pings_are_disconnected(
    start: Callable[..., LiveServer], keys: dict[str, str], channel: str
) -> None:
    server = start("daphne", "--ping-interval", "1", "--ping-timeout", "2")
    async with (
        open_client(server, channel_path(channel, keys["demo"])) as answers,
        raw(server) as (reader, writer),
    ):
        writer.write(handshake(channel_path(channel, keys["demo"]), *GOOD_HANDSHAKE))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        assert await answers.count() == 2
        assert await seconds_to_the_end(reader) < 10
        assert await answers.count() == 1
