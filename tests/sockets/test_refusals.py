"""Refusals: every bad input gets its sentence and code, and does not affect other clients."""

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from urllib.parse import quote

import httpx
import pytest

from realtime.conf import MAX_BATCH_BYTES
from realtime.protocols import closes
from realtime.protocols.closes import Close
from tests.clients import channel_path, open_client
from tests.conftest import Connect
from tests.servers import LiveServer, free_port, server_command

MIB = 1024 * 1024
GOOD_HANDSHAKE = ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]


def handshake(path: str, *lines: str) -> bytes:
    """Return a handshake request with the common header lines and these."""
    common = [f"GET {path} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade"]
    return "\r\n".join([*common, *lines, "", ""]).encode("latin-1")


def error(close: Close) -> str:
    return json.dumps({"error": close.sentence}, separators=(",", ":"), ensure_ascii=False)


@pytest.mark.parametrize("key", ["", "unknown", "k" * 60, "%00", "%ff", "x" * 5000])
async def test_a_bad_key_is_refused_with_a_frame_and_4001(connect: Connect, channel: str, key: str) -> None:
    assert await (await connect(channel, key=key)).ending() == ([error(closes.BAD_KEY)], 4001)


@pytest.mark.parametrize("bad", ["", "a/b/c", "a%20b", "a%2Fb%2Fc", "%E2%82%AC", "a" * 129, "%00"])
async def test_a_path_that_is_not_a_channel_path_is_refused_with_4000(connect: Connect, bad: str) -> None:
    assert await (await connect(bad)).ending() == ([error(closes.BAD_REQUEST)], 4000)


@pytest.mark.parametrize("path", ["/", "/v3", "/v3/", "/v2/1", "/v3/1/2/3", "/admin/", "/api/publish", "//v3/1", "/é"])
async def test_a_handshake_on_any_other_path_is_refused_with_4000(
    server: LiveServer, keys: dict[str, str], path: str
) -> None:
    async with open_client(server, f"{quote(path)}?api_key={keys['demo']}") as client:
        assert await client.ending() == ([error(closes.BAD_REQUEST)], 4000)


@pytest.mark.parametrize(
    "path", ["//evil/v3/1", "///v3/1", "/v3/%31", "/v3/a%2Fb", "/%76%33/1", "/v3/1//", "/v3//1", "/V3/1", "/v3;a/1"]
)
async def test_a_path_is_compared_as_it_was_sent(server: LiveServer, keys: dict[str, str], path: str) -> None:
    async with open_client(server, f"{path}?api_key={keys['demo']}") as client:
        assert await client.ending() == ([error(closes.BAD_REQUEST)], 4000)


@pytest.mark.parametrize(
    "origin",
    [
        *("https://evil.org", "https://app.example.com", "https://example.com.evil.org", "https://evilexample.com"),
        *("https://evil.org@example.com", "https://example.com@evil.org", "https://evil.org/example.com", "null"),
        *("https://evil.org#@example.com", r"https://evil.org\@example.com", "https://example.com."),
    ],
)
async def test_an_origin_that_the_key_does_not_allow_is_refused_with_4003(
    connect: Connect, channel: str, origin: str
) -> None:
    evil = await connect(channel, key="browser", additional_headers={"Origin": origin})
    assert await evil.ending() == ([error(closes.BAD_ORIGIN)], 4003)


@pytest.mark.parametrize("origin", ["https://example.com", "http://example.com:8080", "HTTPS://Example.COM", None])
async def test_allowed_origins_and_clients_that_are_not_browsers_are_accepted(
    connect: Connect, channel: str, origin: str | None
) -> None:
    await (await connect(channel, key="browser", origin=origin)).settle()


@pytest.mark.parametrize(("name", "key"), [("private-chat", "demo"), ("chat", "protected")])
async def test_a_channel_that_requires_a_jwt_is_refused_with_4009_without_one(
    connect: Connect, name: str, key: str
) -> None:
    sentence = '{"error":"Authentication failed, provide valid jwt token."}'
    assert await (await connect(name, key=key)).ending() == ([sentence], 4009)


async def test_the_largest_message_is_delivered_and_a_larger_one_closes_with_1009(
    connect: Connect, channel: str
) -> None:
    sender, receiver = await connect(channel), await connect(channel)
    await sender.send(b"x" * MIB)
    assert await receiver.receive() == b"x" * MIB
    await sender.send(b"x" * (MIB + 1))
    assert (await sender.ending())[1] == 1009
    await receiver.settle()


async def test_text_that_is_not_utf8_closes_with_1007(connect: Connect, channel: str) -> None:
    sender, receiver = await connect(channel), await connect(channel)
    sender.socket.protocol.send_text(b"\xff")
    sender.socket.send_data()
    _, code = await sender.ending()
    assert code == 1007
    await receiver.settle()


async def test_a_client_that_does_not_read_is_closed_with_4100_and_delays_nobody(
    connect: Connect, channel: str
) -> None:
    sender, receiver, slow = await connect(channel), await connect(channel), await connect(channel)
    message, count = "x" * 65536, 1_000  # more than server, kernel and proxies keep
    for _ in range(count):
        await sender.send(message)
        assert await receiver.receive() == message
    frames, code = await slow.ending()
    assert code == 4100
    assert len(frames) < count
    assert set(frames) == {message}, "what it received before the close is complete, and no error frame follows"
    await sender.settle()


async def test_a_full_node_closes_new_connections_with_1013_and_without_an_error_frame(
    start: Callable[..., LiveServer], keys: dict[str, str], channel: str
) -> None:
    server = start("serve", MAX_CONNECTIONS="2")
    path = channel_path(channel, keys["demo"])
    async with open_client(server, path) as one, open_client(server, path):
        async with open_client(server, path) as third:
            assert await third.ending() == ([], 1013)
        assert await one.count() == 2
    async with open_client(server, path) as again:
        assert await again.count() == 1


async def test_without_its_database_tables_the_service_closes_with_1013_and_logs_why(
    tmp_path: Path, channel: str
) -> None:
    port = free_port()  # plain daphne starts without the tables, which `serve` does not
    server = LiveServer(tmp_path, server_command("daphne", port, tmp_path), port)
    server.start()
    try:
        async with open_client(server, channel_path(channel, "k" * 60)) as client:
            assert await client.ending() == ([], 1013)
    finally:
        server.stop()
    assert "Only cached API keys are accepted because of a database error: no such table: accounts_apikey" in server.log
    assert "Traceback" not in server.log


class TestOnDaphne:
    """This project's own server also sends an error frame for faults that the server layer detects."""

    @pytest.fixture
    def server(self, serve: LiveServer) -> LiveServer:
        return serve

    async def test_an_error_frame_for_an_oversized_message_precedes_1009(self, connect: Connect, channel: str) -> None:
        sender = await connect(channel)
        await sender.send(b"x" * (MIB + 1))
        assert await sender.ending() == ([error(closes.TOO_BIG)], 1009)

    async def test_an_oversized_message_is_refused_as_soon_as_its_header_arrives(
        self, connect: Connect, channel: str
    ) -> None:
        sender = await connect(channel)
        sender.socket.transport.write(b"\x82\xff" + struct.pack("!Q", 1024 * MIB) + bytes(4) + b"some bytes of it")
        assert await sender.ending() == ([error(closes.TOO_BIG)], 1009)

    async def test_a_client_that_does_not_read_costs_little_more_than_its_backlog_while_50_mb_pass(
        self, connect: Connect, channel: str, serve: LiveServer
    ) -> None:
        sender, receiver = await connect(channel), await connect(channel)
        message = "x" * 65_536

        async def relay(count: int) -> list[float]:
            delays = []
            for _ in range(count):
                begun = time.perf_counter()
                await sender.send(message)
                assert await receiver.receive() == message
                delays.append(time.perf_counter() - begun)
            return delays

        quiet = await relay(200)
        before = serve.memory_kib()
        slow = await connect(channel)
        disturbed = await relay(800)
        assert serve.memory_kib() - before < (MAX_BATCH_BYTES + 7 * MIB) // 1024
        assert median(disturbed) < 2 * median(quiet)
        assert (await slow.ending())[1] == 4100

    async def test_the_size_limit_applies_to_all_fragments_together(self, connect: Connect, channel: str) -> None:
        sender = await connect(channel)
        await sender.socket.send(b"x" * (MIB // 2) for _ in range(3))
        assert await sender.ending() == ([error(closes.TOO_BIG)], 1009)

    async def test_an_error_frame_for_invalid_utf8_precedes_1007(self, connect: Connect, channel: str) -> None:
        sender = await connect(channel)
        sender.socket.protocol.send_text(b"abc\xff")
        sender.socket.send_data()
        assert await sender.ending() == ([error(closes.NOT_UTF8)], 1007)

    async def test_a_protocol_violation_closes_with_1002(self, connect: Connect, channel: str) -> None:
        sender, receiver = await connect(channel), await connect(channel)
        sender.socket.transport.write(b"\xf1\x80\x00\x00\x00\x00")  # reserved bits
        assert (await sender.ending())[1] == 1002
        await receiver.settle()

    async def test_what_arrives_after_a_refusal_is_discarded(
        self, connect: Connect, channel: str, serve: LiveServer
    ) -> None:
        receiver = await connect(channel)
        reader, writer = await asyncio.open_connection("127.0.0.1", serve.port)
        writer.write(handshake(f"/v3/{channel}?api_key=unknown", *GOOD_HANDSHAKE))
        await reader.readuntil(error(closes.BAD_KEY).encode())
        assert await reader.readexactly(4) == b"\x88\x02" + struct.pack("!H", 4001)
        for _ in range(1000):
            writer.write(b"\x81\x84\0\0\0\0late")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        await receiver.settle()

    async def test_a_distant_client_has_time_to_receive_the_reason_and_to_answer(
        self, channel: str, serve: LiveServer
    ) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", serve.port)
        writer.write(handshake(f"/v3/{channel}?api_key=unknown", *GOOD_HANDSHAKE))
        await reader.readuntil(error(closes.BAD_KEY).encode())
        close_frame = struct.pack("!BBH", 0x88, 2, 4001)
        assert await reader.readexactly(4) == close_frame
        await asyncio.sleep(2)
        writer.write(struct.pack("!BB4xH", 0x88, 0x80 | 2, 4001))
        assert await reader.read() == b"", "TCP closes normally and is not reset"
        writer.close()

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            *((path, 426) for path in ("/v3/x", "/v3/x/", "/v3/x?api_key=secret", "/v3/a/b", "/v3/a/b/c", "/v3/%FF")),
            *((path, 404) for path in ("/v3", "/v3/")),
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
    def test_a_request_that_is_not_a_handshake_gets_an_http_error_with_a_sentence(
        self, serve: LiveServer, path: str, status: int, method: str
    ) -> None:
        response = httpx.request(method, serve.url(path, scheme="http"), trust_env=False)
        body = response.json()
        assert (response.status_code, list(body)) == (status, ["error"])
        assert body["error"].endswith(".")
        assert "secret" not in body["error"]
        if status == 426:
            assert response.headers["Upgrade"] == "websocket"

    @pytest.mark.parametrize(
        "lines",
        [
            GOOD_HANDSHAKE[1:],
            GOOD_HANDSHAKE[:1],
            [GOOD_HANDSHAKE[0], "Sec-WebSocket-Version: 12"],
            ["Sec-WebSocket-Key: short", GOOD_HANDSHAKE[1]],
            [*GOOD_HANDSHAKE, "Sec-WebSocket-Protocol: \xff\xfe"],
            [*GOOD_HANDSHAKE, "Sec-WebSocket-Extensions: ;;="],
            [*GOOD_HANDSHAKE, "Origin: \xff://["],
            [*GOOD_HANDSHAKE, "Host: a:b:c"],
        ],
    )
    def test_a_broken_handshake_gets_an_http_answer_below_500(self, serve: LiveServer, lines: list[str]) -> None:
        with socket.create_connection(("127.0.0.1", serve.port), timeout=10) as raw:
            raw.sendall(handshake("/v3/x", *lines))
            status = int(raw.recv(4096).split()[1])
        assert status < 500
