"""Which requests are ordinary, so that the front door serves them."""

import re
import string
from collections.abc import Mapping
from typing import NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

# Larger requests go the ordinary way.
_MAX_HEAD_BYTES = 8 * 1024
_MAX_HEADERS = 100
_MAX_BODY_BYTES = 64 * 1024
_MAX_DIGITS = 5
_REQUEST_LINE = re.compile(
    rb"(?:GET (/(?:v[34]|app)/[A-Za-z0-9_/-]+)"
    rb"|POST (/api/(?:publish(?:/batch)?|v4/publish)|/apps/[0-9]{1,20}/(?:batch_)?events))"
    rb"(?:\?([!-\"$-~]*))? HTTP/1\.1\r\n"
)
# What the queries consist of that clients of Pusher's API sign, if nothing about them is unusual.
_IN_SIGNED_QUERIES = string.ascii_letters.encode() + string.digits.encode() + b"_.=&%-"
_LENGTH = re.compile(rb"\r\ncontent-length:[ ]*([0-9]+)", re.IGNORECASE)
_PRINTABLE = bytes(range(0x20, 0x7F))
_HOST = re.compile(rb"[A-Za-z0-9._-]+(?::[0-9]{1,5})?")
_ORIGIN = re.compile(rb"https?://[A-Za-z0-9._-]+(?::[0-9]{1,5})?")
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
# Offers of compression that this service declines: those of browsers and of common libraries.
_DECLINED_EXTENSIONS = (b"permessage-deflate", b"permessage-deflate; client_max_window_bits")
# Headers with a meaning that only the ordinary way knows.
_NOT_IN_HANDSHAKES = frozenset((b"content-length", b"transfer-encoding", b"expect", b"sec-websocket-protocol"))
_NOT_IN_PUBLISHES = frozenset((b"transfer-encoding", b"expect", b"upgrade"))

Headers = Mapping[bytes, bytes]


class OrdinaryRequest(NamedTuple):
    """An ordinary request whose head has arrived, and the model of later ones."""

    head: tuple[bytes, bytes, bytes]
    """Its head: before its query if that is signed, from there up to the value of `Content-Length`, and after it."""
    path: str
    is_publish: bool
    is_signed: bool
    """Whether its query has a signature, so that each request has another query."""
    query: bytes
    headers: Headers
    closes: bool
    """Whether the connection ends with the response."""

    def find(self, data: bytes, position: int) -> tuple[bytes, int, int] | None:
        """Find a request whose head is the same, up to its signature and the size of its body.

        A kept connection sends the same head again and again, and comparing it takes a tenth of the time of parsing it.

        Args:
            data: what has arrived.
            position: where the head begins.

        Returns:
            Its query, and where its body begins and ends; None if the head is another one.
        """
        start, before, after = self.head
        if not data.startswith(start, position):
            return None
        query, length_at = self.query, position + len(start)
        if self.is_signed:
            query = data[length_at : data.find(b" ", length_at, position + _MAX_HEAD_BYTES)]
            length_at += len(query)
            if query.translate(None, _IN_SIGNED_QUERIES):
                return None
        if not data.startswith(before, length_at):
            return None
        length_at += len(before)
        if not self.is_publish:
            return query, length_at, length_at
        end = data.find(b"\r", length_at, length_at + _MAX_DIGITS + 1)
        length = data[length_at:end]
        if end < 0 or not data.startswith(after, end) or not _is_length(length):
            return None
        body_at = end + len(after)
        return (query, body_at, body_at + int(length)) if body_at - position <= _MAX_HEAD_BYTES else None


class _Head:
    """Collects what httptools finds in the head of a request."""

    __slots__ = ("headers", "is_odd")

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.is_odd = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in self.headers or b"_" in name:
            self.is_odd = True
        self.headers[name] = value.rstrip(b" ")


def parse(data: bytes, position: int = 0) -> OrdinaryRequest | None:
    """Return the ordinary request whose head begins at a position; None if there is none, or not all of its head."""
    line = _REQUEST_LINE.match(data, position)
    if line is None:
        return None
    end = data.find(b"\r\n\r\n", line.end() - 2, position + _MAX_HEAD_BYTES) + 4
    text = data[position:end]
    # Only printable characters, besides those that end a line.
    if end < 4 or text.translate(None, _PRINTABLE).strip(b"\r\n"):
        return None
    head = _Head()
    try:
        HttpRequestParser(head).feed_data(text)
    except HttpParserUpgrade:
        pass
    except HttpParserError:
        return None
    headers = head.headers
    if head.is_odd or len(headers) > _MAX_HEADERS or not _HOST.fullmatch(headers.get(b"host", b"")):
        return None
    is_publish = line[2] is not None
    length = _LENGTH.search(text) if is_publish else None
    if not (_is_ordinary_publish(headers) if is_publish else _is_ordinary_handshake(headers)):
        return None
    path, query = line[2] if is_publish else line[1], line[3] or b""
    is_signed = path.startswith(b"/apps/") and query != b"" and not query.translate(None, _IN_SIGNED_QUERIES)
    before, after = (text, b"") if length is None else (text[: length.start(1)], text[length.end(1) :])
    query_at, query_end = (line.start(3) - position, line.end(3) - position) if is_signed else (0, 0)
    return OrdinaryRequest(
        (before[:query_at], before[query_end:], after),
        path.decode(),
        is_publish,
        is_signed,
        query,
        headers,
        headers.get(b"connection", b"").lower() == b"close",
    )


def _is_ordinary_publish(headers: Headers) -> bool:
    return (
        _is_length(headers.get(b"content-length", b""))
        and headers.get(b"connection", b"keep-alive").lower() in (b"keep-alive", b"close")
        and _NOT_IN_PUBLISHES.isdisjoint(headers)
    )


def _is_length(value: bytes) -> bool:
    return len(value) <= _MAX_DIGITS and value.isdigit() and int(value) <= _MAX_BODY_BYTES


def _is_ordinary_handshake(headers: Headers) -> bool:
    return (
        headers.get(b"upgrade", b"").lower() == b"websocket"
        and headers.get(b"connection", b"").lower() in (b"upgrade", b"keep-alive, upgrade")
        and headers.get(b"sec-websocket-version") == b"13"
        and _KEY.fullmatch(headers.get(b"sec-websocket-key", b"")) is not None
        and (b"origin" not in headers or _ORIGIN.fullmatch(headers[b"origin"]) is not None)
        and headers.get(b"sec-websocket-extensions", _DECLINED_EXTENSIONS[0]) in _DECLINED_EXTENSIONS
        and _NOT_IN_HANDSHAKES.isdisjoint(headers)
    )
