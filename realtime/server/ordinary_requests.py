"""Which requests are ordinary, so that the front door serves them."""

import re
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
# The first line of requests that clients of Pusher's API send, if nothing about it is unusual.
_SIGNED_LINE = re.compile(rb"POST (/apps/[0-9]{1,20}/(?:batch_)?events)\?([A-Za-z0-9_.=&%-]*) HTTP/1\.1\r\n")
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
    """An ordinary request whose head has arrived."""

    head: tuple[bytes, bytes]
    """Its head, before and after the value of `Content-Length`."""
    path: str
    is_publish: bool
    query: bytes
    headers: Headers
    closes: bool
    """Whether the connection ends with the response."""

    def find_body(self, data: bytes, position: int) -> tuple[int, int] | None:
        """Return where the body of a request begins and ends whose head is the same, up to the size of the body.

        A kept connection sends the same head again and again, and comparing it takes a tenth of the time of parsing it.

        Args:
            data: what has arrived.
            position: where the head begins.

        Returns:
            None if the head is another one.
        """
        before, after = self.head
        if not data.startswith(before, position):
            return None
        length_at = position + len(before)
        end = data.find(b"\r", length_at, length_at + _MAX_DIGITS + 1) if self.is_publish else length_at
        if end < 0 or not data.startswith(after, end):
            return None
        length = data[length_at:end]
        body_at = end + len(after)
        if not self.is_publish:
            return body_at, body_at
        return (body_at, body_at + int(length)) if _is_length(length) else None

    def follow(self, data: bytes, position: int) -> "OrdinaryRequest | None":
        """Return the request to publish whose head differs only in its query and in the size of its body.

        Signed requests have another query each time.

        Args:
            data: what has arrived.
            position: where the head begins.

        Returns:
            None if the head is another one.
        """
        line = _SIGNED_LINE.match(data, position)
        if line is None or not self.is_publish:
            return None
        before, after = self.head
        path, lines = line[1], before[before.find(b"\r\n") + 2 :]
        if path != self.path.encode() or not data.startswith(lines, line.end()):
            return None
        head = (data[position : line.end()] + lines, after)
        request = self._replace(head=head, query=line[2])
        is_same = sum(map(len, head)) < _MAX_HEAD_BYTES and request.find_body(data, position) is not None
        return request if is_same else None


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
    return OrdinaryRequest(
        (text, b"") if length is None else (text[: length.start(1)], text[length.end(1) :]),
        (line[2] if is_publish else line[1]).decode(),
        is_publish,
        line[3] or b"",
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
