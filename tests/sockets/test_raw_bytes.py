"""Bytes that no client library would send cost little and do not affect other clients."""

import contextlib
import os
import re
import socket
import struct
import time

import httpx
import pytest

from realtime.protocols import closes
from tests.clients import channel_path, open_client
from tests.conformance.test_short_paths import BINARY, FIN, TEXT, frame
from tests.conftest import Connect
from tests.servers import LiveServer
from tests.sockets.test_refusals import GOOD_HANDSHAKE, handshake

MIB = 1024 * 1024
PING = frame(FIN | TEXT, b"cmd_ping")
PONG = b'{"system":"pong"}'


@pytest.fixture
def server(serve: LiveServer) -> LiveServer:
    return serve


def open_socket(server: LiveServer) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_until(connection: socket.socket, expected: bytes) -> bytes:
    received = b""
    while expected not in received:
        chunk = connection.recv(65_536)
        assert chunk, f"the server closed the connection after {received!r}"
        received += chunk
    return received


def test_a_message_sent_together_with_the_handshake_is_handled(
    serve: LiveServer, keys: dict[str, str], channel: str
) -> None:
    with open_socket(serve) as connection:
        connection.sendall(handshake(channel_path(channel, keys["demo"]), *GOOD_HANDSHAKE) + PING)
        read_until(connection, PONG)


async def test_a_client_that_sends_much_before_the_handshake_is_answered_is_served_or_disconnected(
    serve: LiveServer, connect: Connect, keys: dict[str, str], channel: str
) -> None:
    watcher = await connect(channel)
    for size in (17_000, 60_000, 70_000, 500_000):
        with open_socket(serve) as early, contextlib.suppress(ConnectionError):
            early.sendall(
                handshake(channel_path(channel, keys["demo"]), *GOOD_HANDSHAKE)
                + frame(FIN | BINARY, b"x" * size, mask=bytes(4))
                + PING
            )
            assert await watcher.receive() == b"x" * size
            read_until(early, PONG)
        deadline = time.monotonic() + 2
        while await watcher.count() != 1:
            assert time.monotonic() < deadline, f"a closed connection is still counted after {size} early bytes"


@pytest.mark.parametrize("early", [b"\r\n\r\n", handshake("/v3/x", *GOOD_HANDSHAKE), b"GET / HTTP/1.1\r\n\r\n"])
def test_what_arrives_while_a_handshake_is_pending_is_not_a_second_request(
    serve: LiveServer, channel: str, early: bytes
) -> None:
    for number in range(20):
        with open_socket(serve) as connection:
            # Looking up an unknown key takes a moment.
            connection.sendall(handshake(channel_path(channel, f"{number}".zfill(60)), *GOOD_HANDSHAKE))
            with contextlib.suppress(ConnectionError):
                connection.sendall(early)
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while chunk := connection.recv(65_536):
                    received += chunk
            assert received.count(b"HTTP/1.1") == 1
            # Bytes that arrive before the answer may be read as frames; they are not valid frames either.
            assert any(struct.pack("!H", code) in received for code in (closes.BAD_KEY.code, 1002))


@pytest.mark.parametrize("root", ["/evil", "//evil.example", "\xff", "/healthz", "%ff"])
def test_a_client_cannot_set_the_root_path_of_the_service(serve: LiveServer, root: str) -> None:
    headers = {"Daphne-Root-Path": root.encode("latin-1")}
    answers = [
        httpx.get(serve.url("/admin/", scheme="http"), headers=given, trust_env=False) for given in ({}, headers)
    ]
    assert [(answer.status_code, answer.headers["Location"]) for answer in answers] == [
        (302, "/admin/login/?next=/admin/")
    ] * 2


@pytest.mark.parametrize("path", ["/api/publish", "/api/publish/batch", "/admin/login/", "/nowhere", "/v3/x"])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_larger_than_the_largest_batch_is_refused_before_it_has_arrived(
    serve: LiveServer, connect: Connect, channel: str, path: str, is_chunked: bool
) -> None:
    watcher = await connect(channel)
    length = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {10 * 1024 * MIB}"
    with open_socket(serve) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n".encode())
        sent = 0
        piece = b"%x\r\n%s\r\n" % (MIB, b"x" * MIB) if is_chunked else b"x" * MIB
        with contextlib.suppress(ConnectionError):
            while sent < 40 * MIB:
                sent += connection.send(piece[sent % len(piece) :])
                await watcher.settle()
        assert _temporary_bytes(serve) <= 17 * MIB, "the body is not kept"
        received = connection.recv(65_536)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert re.search(rb'\r\n\r\n\{"(error|detail)":"[^"]+\."\}$', received)


def _temporary_bytes(server: LiveServer) -> int:
    """Return the size of the largest temporary file that a server holds open."""
    folder = f"/proc/{server.process.pid}/fd"
    sizes = [0]
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"{folder}/{name}").endswith("(deleted)"):
                sizes.append(os.stat(f"{folder}/{name}").st_size)
    return max(sizes)


async def test_a_batch_of_the_largest_size_is_still_read(
    serve: LiveServer, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    body = b'{"messages":[{"channelId":"1","message":"%s"}]}' % (b" " * (16 * MIB - 60))
    headers = {"key": keys["demo"], "secret": secrets["demo"]}
    url = serve.url("/api/publish/batch", scheme="http")
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.post(url, content=body, headers=headers)
    assert answer.status_code == 413
    assert answer.json()["error"].startswith("messages[0]: "), "the batch was read and validated"


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5, 5"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding:\x0bchunked"],
        ["Transfer-Encoding : chunked"],
        ["Content-Length : 5"],
        ["Content-Length: +5"],
        ["Content-Length: -5"],
        ["Content-Length: 0x5"],
        ["Content-Length: \xb2"],
        ["Content-Length: " + "9" * 5000],
        ["a: b\0"],
        ["\0: b"],
        ["no colon"],
    ],
)
@pytest.mark.parametrize("is_pipelined", [False, True])
def test_a_request_that_another_server_could_read_differently_gets_400_and_ends_the_connection(
    serve: LiveServer, lines: list[str], is_pipelined: bool
) -> None:
    """What a proxy takes for the body must not be read as a request here (RFC 9112, section 11.2)."""
    good = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    bad = "\r\n".join(["POST /healthz HTTP/1.1", "Host: localhost", *lines, "", ""]).encode("latin-1")
    with open_socket(serve) as connection:
        connection.sendall((good if is_pipelined else b"") + bad + b"0\r\n\r\n" + good * 3)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(65_536):
                received += chunk
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", received)
    assert statuses[-1:] == [b"400"]
    assert len(statuses) == 1 + is_pipelined


async def test_clients_that_disconnect_before_the_answer_leave_nothing_behind(
    serve: LiveServer, connect: Connect, keys: dict[str, str], channel: str
) -> None:
    request = handshake(channel_path(channel, keys["demo"], "presence"), *GOOD_HANDSHAKE)
    for _ in range(10):
        crowd = [open_socket(serve) for _ in range(50)]
        for connection in crowd:
            connection.sendall(request)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
    watcher = await connect(channel)
    deadline = time.monotonic() + 2
    while await watcher.count() != 1:
        assert time.monotonic() < deadline
    assert "Traceback" not in serve.log


async def test_a_client_that_disconnects_in_the_middle_of_anything_leaves_nothing_behind(
    serve: LiveServer, keys: dict[str, str], channel: str
) -> None:
    path = channel_path(channel, keys["demo"], "presence")
    whole = handshake(path, *GOOD_HANDSHAKE) + PING + frame(FIN | TEXT, b"x" * 300)
    for stop in range(0, len(whole), 7):
        with open_socket(serve) as connection:
            connection.sendall(whole[:stop])
    async with open_client(serve, channel_path(channel, keys["demo"])) as client:
        deadline = time.monotonic() + 2
        while await client.count() != 1:
            assert time.monotonic() < deadline
