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
from tests.sockets.raw import PING, PONG, PROMPT_SECONDS, exchange, open_socket, read_until
from tests.sockets.test_refusals import GOOD_HANDSHAKE, handshake

MIB = 1024 * 1024


@pytest.fixture
def server(serve: LiveServer) -> LiveServer:
    return serve


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


@pytest.mark.parametrize("is_split", [False, True], ids=["together", "split"])
@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("Content-Length: 14", PING),
        ("Transfer-Encoding: chunked", b"e\r\n" + PING + b"\r\n0\r\n\r\n"),
        ("Content-Length: 0", b""),
        ("Content-Length: 60000", bytes(60_000)),
    ],
    ids=["with a length", "chunked", "empty", "large"],
)
def test_a_frame_behind_a_handshake_with_a_body_is_handled_and_the_body_is_not(
    serve: LiveServer, keys: dict[str, str], channel: str, header: str, body: bytes, is_split: bool
) -> None:
    assert len(PING) == 14
    request = handshake(channel_path(channel, keys["demo"]), *GOOD_HANDSHAKE, header)
    frames = frame(FIN | TEXT, b"cmd_status") + frame(FIN | TEXT, b"cmd_x")
    with open_socket(serve) as connection:
        if is_split:
            for part in (request, body, frames):
                connection.sendall(part)
                time.sleep(0.05)
        else:
            connection.sendall(request + body + frames)
        received = read_until(connection, b"cmd_x")
    assert PONG not in received
    assert received.count(b"connection_count") == 1


@pytest.mark.parametrize(
    "rest", [b"", PING, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"], ids=["nothing", "frame", "request"]
)
@pytest.mark.parametrize(("method", "status"), [("GET", b"400"), ("POST", b"405")])
def test_a_failed_handshake_with_a_body_gets_one_answer_and_the_end_of_the_connection(
    serve: LiveServer, method: str, status: bytes, rest: bytes
) -> None:
    request = handshake("/v3/x", "Content-Length: 3").replace(b"GET", method.encode())
    answer, seconds = exchange(serve, request + b"abc" + rest)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [status]
    assert seconds < PROMPT_SECONDS


@pytest.mark.parametrize("path", ["//[x/v3/1", "//x]/v3/1", "//[::1/v3/1", "//v3/1"])
def test_a_path_that_looks_like_an_authority_is_refused_and_no_credential_is_echoed(
    serve: LiveServer, path: str
) -> None:
    answer, _ = exchange(serve, handshake(f"{path}?jwt=secret", *GOOD_HANDSHAKE))
    assert struct.pack("!H", closes.BAD_REQUEST.code) in answer
    assert b"secret" not in answer


def test_an_answer_names_its_status(serve: LiveServer, channel: str) -> None:
    request = f"GET /v3/{channel} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert exchange(serve, request.encode())[0].startswith(b"HTTP/1.1 426 Upgrade Required\r\n")


def test_http_1_0_has_no_upgrades(serve: LiveServer, keys: dict[str, str], channel: str) -> None:
    request = handshake(channel_path(channel, keys["demo"]), *GOOD_HANDSHAKE).replace(b"HTTP/1.1", b"HTTP/1.0")
    assert exchange(serve, request)[0].partition(b"\r\n")[0].endswith(b" 426 Upgrade Required")


@pytest.mark.parametrize("length", ["Content-Length: 17000000", "Content-Length: 99999999999999999999999"])
def test_a_refused_request_is_not_asked_to_continue(serve: LiveServer, length: str) -> None:
    request = f"POST /api/publish/batch HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{length}\r\n\r\n"
    answer, seconds = exchange(serve, request.encode())
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"413"]
    assert b"access-control-allow-origin: *" in answer.lower()
    assert seconds < PROMPT_SECONDS


@pytest.mark.parametrize("is_chunked", [False, True])
def test_the_connection_of_a_refused_body_ends_when_it_is_answered(serve: LiveServer, is_chunked: bool) -> None:
    size = 17_000_000
    head = b"POST /api/publish/batch HTTP/1.1\r\nHost: a\r\n"
    if is_chunked:
        body = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, bytes(size))
    else:
        body = b"Content-Length: %d\r\n\r\n%b" % (size, bytes(size))
    answer, seconds = exchange(serve, head + body)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"413"]
    assert seconds < 30, "Twisted closes silent connections after a minute"


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
