"""Messages as bytes on the wire (RFC 6455). Each message is encoded once, no matter how many clients receive it."""

import json
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

TEXT = 0x1
BINARY = 0x2
PONG = 0xA


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """Return an unmasked, unfragmented frame, as servers send them (RFC 6455, section 5.2)."""
    return _header(opcode, len(payload)) + payload


def frame_size(payload_size: int) -> int:
    """Return the size of a frame in bytes, which grows with the size of its payload."""
    return len(_header(BINARY, payload_size)) + payload_size


def _header(opcode: int, length: int) -> bytes:
    if length < 126:
        return bytes((0x80 | opcode, length))
    if length < 65536:
        return bytes((0x80 | opcode, 126)) + length.to_bytes(2)
    return bytes((0x80 | opcode, 127)) + length.to_bytes(8)


def unmask(mask: bytes, payload: bytes) -> bytes:
    """Return the unmasked payload (RFC 6455, section 5.3). Long integers are ten times as fast as a loop over bytes."""
    length = len(payload)
    key = int.from_bytes((mask * (length // 4 + 1))[:length])
    return (int.from_bytes(payload) ^ key).to_bytes(length)


def compact_json(value: Any) -> str:
    """Return a value as JSON without whitespace. Only if it has a lone surrogate are non-ASCII characters escaped.

    Raises:
        ValueError: the value contains a number that JSON cannot represent, such as NaN, or has too many levels.
    """
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise ValueError("The value has too many levels.") from None
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can represent
        return json.dumps(value, separators=(",", ":"))
    return text


class Message:
    """One message: its text or bytes, and the frame that every receiver gets.

    Args:
        data: a string for a text message, bytes for a binary one.

    Raises:
        UnicodeEncodeError: the string has a lone surrogate, which UTF-8 cannot encode.
    """

    __slots__ = ("data", "wire")
    count = 1
    excluded: str = ""
    """The socket ID of a client that does not receive it; empty if there is none."""

    def __init__(self, data: str | bytes) -> None:
        self.data = data
        self.wire = encode_frame(TEXT, data.encode()) if isinstance(data, str) else encode_frame(BINARY, data)

    @property
    def messages(self) -> "Sequence[Message]":
        """Return the message itself, as a batch of one."""
        return (self,)

    @property
    def between_nodes(self) -> bytes:
        """What other nodes get."""
        return self.wire


class Frames:
    """Messages that another node has encoded: their frames, one after another, which every receiver gets unchanged.

    Args:
        wire: frames from `encode_frame`.
        count: the number of messages.
        excluded: the socket ID of a client that does not receive them; empty if there is none.
    """

    __slots__ = ("_messages", "count", "excluded", "wire")

    def __init__(self, wire: bytes, count: int, excluded: str = "") -> None:
        self.wire = wire
        self.count = count
        self.excluded = excluded
        self._messages: Sequence[Message] | None = None

    @property
    def messages(self) -> Sequence[Message]:
        """Return the single messages, for servers that cannot send frames."""
        if self._messages is None:
            self._messages = list(_split(self.wire))
        return self._messages


def _split(wire: bytes) -> Iterator[Message]:
    position = 0
    while position < len(wire):
        opcode = wire[position] & 0x0F
        position, start = frame_end(wire, position)
        payload = wire[start:position]
        yield Message(payload.decode() if opcode == TEXT else payload)


def frame_end(wire: bytes, position: int) -> tuple[int, int]:
    """Return where a frame from `encode_frame` ends, and where its payload begins.

    Args:
        wire: frames.
        position: where the frame begins.
    """
    length, start = wire[position + 1], position + 2
    if length >= 126:
        size = 2 if length == 126 else 8
        length, start = int.from_bytes(wire[start : start + size]), start + size
    return start + length, start


_COUNT = attrgetter("count")


class Batch:
    """Messages that are sent together, in this order."""

    __slots__ = ("parts", "wire")

    def __init__(self, parts: "Sequence[Message | Frames]") -> None:
        self.parts = parts
        self.wire = b"".join([part.wire for part in parts])

    @property
    def count(self) -> int:
        """Return the number of messages."""
        return sum(map(_COUNT, self.parts))

    @property
    def messages(self) -> Sequence[Message]:
        """Return the single messages, for servers that cannot send frames."""
        return [message for part in self.parts for message in part.messages]


Sendable = Message | Frames | Batch
"""Anything that an outlet delivers. It has the `wire` bytes, the single `messages` and their `count`."""


def error_message(sentence: str) -> Message:
    """Return the message that precedes a final close. SDKs stop reconnecting when they have read it."""
    return Message(compact_json({"error": sentence}))


def system_message(content: Any) -> Message:
    """Return an answer from the server to one connection: `{"system": content}`."""
    return Message(compact_json({"system": content}))
