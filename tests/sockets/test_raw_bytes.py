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
from realtime.server import http_limits
from tests.clients import channel_path, open_client
from tests.conformance.test_short_paths import BINARY, FIN, TEXT, frame
from tests.conftest import Connect
from tests.servers import LiveServer
from tests.sockets.raw import Open
from tests.sockets.test_refusals import GOOD_HANDSHAKE, error, handshake

MIB = 1024 * 1024
PROMPT_SECONDS = http_limits.REJECTED_SECONDS - 0.5
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
    assert re.search(rb'\r\n\r\n\{"error":"[^"]+\."\}$', received)


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
        ["Content-Length: 5", "Content-Length: 5"],
        ["Transfer-Encoding: identity", "Content-Length: 5"],
        ["Transfer-Encoding: identity"],
        ["a: b\nContent-Length: 5"],
        ["a: b\rContent-Length: 5"],
        ["a: b", " folded: c"],
        ["a: b", "\tContent-Length: 5"],
        ["Content-Length:", " 5"],
        ["Host: localhost"],
        ["Host: elsewhere"],
        ["a: b\x01"],
        ["a b: c"],
        [": b"],
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


@pytest.mark.parametrize(
    "head",
    [
        "GET  /healthz HTTP/1.1\r\nHost: a",
        "GET /healthz  HTTP/1.1\r\nHost: a",
        " GET /healthz HTTP/1.1\r\nHost: a",
        "GET\t/healthz HTTP/1.1\r\nHost: a",
        "GET /healthz\x0bHTTP/1.1\r\nHost: a",
        "GET /healthz HTTP/1.1 \r\nHost: a",
        "GET /healthz HTTP/1.2\r\nHost: a",
        "GET /healthz HTTP/2.0\r\nHost: a",
        "GET /healthz http/1.1\r\nHost: a",
        "GET /healthz\r\nHost: a",
        "GET /healthz HTTP/1.1\nHost: a",
        "GET /healthz HTTP/1.1\r\n Host: a",
        "GET /healthz HTTP/1.1",
        "GET /healthz HTTP/1.1\r\nHost: a b",
        "GET /healthz HTTP/1.1\r\nHost: a/b",
        "GET /healthz HTTP/1.1\r\nHost: user@a",
        "GET /healthz HTTP/1.1\r\nHost: a:b",
        "GET healthz HTTP/1.1\r\nHost: a",
        "GET * HTTP/1.1\r\nHost: a",
        "GET /healthz#a HTTP/1.1\r\nHost: a",
        "GET /\xe9 HTTP/1.1\r\nHost: a",
        "GET /?\xe9 HTTP/1.1\r\nHost: a",
        "GET /" + "a" * 20_000 + " HTTP/1.1\r\nHost: a",
        "GET / HTTP/1.1\r\nHost: a\r\na: " + "b" * 20_000,
        "GET / HTTP/1.1\r\nHost: a" + "\r\na: b" * 600,
        "GET / HTTP/1.1\r\nHost: a" + "\r\na: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" * 490,
        "GET http:///healthz HTTP/1.1\r\nHost: a",
        "GET http://user@a/healthz HTTP/1.1\r\nHost: a",
        "GET file://a/healthz HTTP/1.1\r\nHost: a",
        "GET http:healthz HTTP/1.1\r\nHost: a",
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80",
        "G@T /healthz HTTP/1.1\r\nHost: a",
        "POST /healthz HTTP/1.0\r\nTransfer-Encoding: chunked",
    ],
    ids=lambda head: head[:50],
)
def test_a_head_that_is_not_valid_http_gets_400_with_a_sentence_and_the_end_of_the_connection(
    serve: LiveServer, head: str
) -> None:
    answer, seconds = exchange(serve, f"{head}\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"))
    assert re.fullmatch(rb'HTTP/1\.1 400 .*\r\n\r\n\{"error":"[^"]+\."\}', answer, re.DOTALL)
    assert seconds < PROMPT_SECONDS


def exchange(server: LiveServer, request: bytes) -> tuple[bytes, float]:
    """Send bytes; return what the server sends until it ends the connection, and how long that takes in seconds."""
    begun = time.monotonic()
    with open_socket(server) as connection:
        connection.sendall(request)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(65_536):
                received += chunk
    return received, time.monotonic() - begun


@pytest.mark.parametrize("header", ["close", "keep-alive, Close", "a,close", "a\r\nConnection:\tclose "])
def test_a_connection_ends_after_the_request_that_asks_for_it(serve: LiveServer, header: str) -> None:
    first = f"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: {header}\r\n\r\n"
    answer, seconds = exchange(serve, f"{first}GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200"]
    assert b"connection: close" in answer.lower()
    assert seconds < PROMPT_SECONDS


CHUNKED = b"POST /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "body",
    [
        b"1\nx\r\n0\r\n\r\n",
        b"1\r\nx\n0\r\n\r\n",
        b"+1\r\nx\r\n0\r\n\r\n",
        b"0x1\r\nx\r\n0\r\n\r\n",
        b"1 \r\nx\r\n0\r\n\r\n",
        b"1;a\nb\r\nx\r\n0\r\n\r\n",
        b"1;a\rb\r\nx\r\n0\r\n\r\n",
        b"0\r\na: b\n\n\r\n\r\n",
        b"0\r\na: b\r\n c: d\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\na : b\r\n\r\n",
    ],
)
def test_chunks_that_another_server_could_read_differently_get_400_and_end_the_connection(
    serve: LiveServer, body: bytes
) -> None:
    answer, seconds = exchange(serve, CHUNKED + body + b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"400"]
    assert seconds < PROMPT_SECONDS


def test_a_chunked_body_with_extensions_and_trailers_is_read(serve: LiveServer) -> None:
    end = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer, _ = exchange(serve, CHUNKED + b'1;a="b"\r\nx\r\n000\r\na: b\r\nc:\td \r\n\r\n' + end)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"200"]


@pytest.mark.parametrize("scheme", ["http", "HTTPS", "ws", "wss"])
def test_the_authority_of_an_absolute_target_takes_the_place_of_the_host_header(
    serve: LiveServer, keys: dict[str, str], channel: str, scheme: str
) -> None:
    path = f"{channel}?api_key={keys['demo']}"
    for target, host, expected in (
        (f"{scheme}://demo.localhost/v3/{path}", "elsewhere.localhost", b"cmd_ping"),
        (f"{scheme}://elsewhere.localhost:80/v3/{path}", "demo.localhost", b"4001"),
        (f"/v3/{path}", "elsewhere.localhost", b"4001"),
    ):
        lines = [f"GET {target} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade"]
        with open_socket(serve) as connection:
            connection.sendall("\r\n".join([*lines, *GOOD_HANDSHAKE, "", ""]).encode() + PING)
            read_until(connection, PONG if expected == b"cmd_ping" else struct.pack("!H", 4001))


def test_an_absolute_target_leads_to_the_same_path(serve: LiveServer) -> None:
    for target, status in (
        ("http://a/healthz", b"200"),
        ("http://a/api/domains?x=http://b", b"401"),
        ("ws://a", b"400"),
    ):
        request = f"GET {target} HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n"
        assert exchange(serve, request.encode())[0].split()[1] == status


@pytest.mark.parametrize("path", ["{};a=b", "{};", "{};a=b/"])
def test_parameters_of_a_path_are_part_of_it(
    serve: LiveServer, raw: Open, keys: dict[str, str], channel: str, path: str
) -> None:
    texts, code = raw(serve, path.format(channel)).ending()
    assert (texts, code) == ([error(closes.BAD_REQUEST)], 4000)


@pytest.mark.parametrize("is_split", [False, True], ids=["together", "split"])
@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("Content-Length: 14", PING),
        ("Transfer-Encoding: chunked", b"e\r\n" + PING + b"\r\n0\r\n\r\n"),
        ("Content-Length: 0", b""),
        ("Content-Length: 200000", bytes(200_000)),
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


def test_http_1_0_has_no_upgrades(serve: LiveServer, keys: dict[str, str], channel: str) -> None:
    request = handshake(channel_path(channel, keys["demo"]), *GOOD_HANDSHAKE).replace(b"HTTP/1.1", b"HTTP/1.0")
    assert exchange(serve, request)[0].split()[1] == b"426"


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
