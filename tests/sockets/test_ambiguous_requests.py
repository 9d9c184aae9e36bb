"""Requests that another server could read differently are rejected, or read as RFC 9112 says."""

import contextlib
import re
import struct

import pytest

from realtime.protocols import closes
from tests.servers import LiveServer
from tests.sockets.raw import PING, PONG, PROMPT_SECONDS, Open, exchange, open_socket, read_until
from tests.sockets.test_refusals import GOOD_HANDSHAKE, error


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
@pytest.mark.parametrize("path", ["/healthz", "/api/publish"])
def test_a_request_that_another_server_could_read_differently_gets_400_and_ends_the_connection(
    serve: LiveServer, lines: list[str], is_pipelined: bool, path: str
) -> None:
    """What a proxy takes for the body must not be read as a request here (RFC 9112, section 11.2)."""
    good = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    bad = "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode("latin-1")
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
