"""Messages as bytes on the wire (RFC 6455), built once a message however many connections receive it."""

import json
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

TEXT = 0x1
BINARY = 0x2
PONG = 0xA


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """An unmasked, unfragmented frame, as servers send them (RFC 6455, section 5.2)."""
    return _header(opcode, len(payload)) + payload


def frame_size(payload_size: int) -> int:
    """How many bytes a frame has that carries so many; it grows with them."""
    return len(_header(BINARY, payload_size)) + payload_size


def _header(opcode: int, length: int) -> bytes:
    if length < 126:
        return bytes((0x80 | opcode, length))
    if length < 65536:
        return bytes((0x80 | opcode, 126)) + length.to_bytes(2)
    return bytes((0x80 | opcode, 127)) + length.to_bytes(8)


def unmask(mask: bytes, payload: bytes) -> bytes:
    """RFC 6455, section 5.3, as one operation on long integers: some ten times as fast as a loop over bytes."""
    length = len(payload)
    key = int.from_bytes((mask * (length // 4 + 1))[:length])
    return (int.from_bytes(payload) ^ key).to_bytes(length)


def compact_json(value: Any) -> str:
    """`value` as JSON without white space, and with characters as themselves where UTF-8 can carry them.

    Raises:
        ValueError: it has a number that JSON does not know.
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can carry
        return json.dumps(value, separators=(",", ":"))
    return text


class Message:
    """One message: a text or bytes, and the frame that carries it to every receiver."""

    __slots__ = ("data", "wire")
    count = 1

    def __init__(self, data: str | bytes) -> None:
        """
        Args:
            data: a text becomes a text message, bytes become a binary one.

        Raises:
            UnicodeEncodeError: the text has a lone surrogate, which UTF-8 cannot carry.
        """
        self.data = data
        self.wire = encode_frame(TEXT, data.encode()) if isinstance(data, str) else encode_frame(BINARY, data)

    @property
    def messages(self) -> "Sequence[Message]":
        """A message is a batch of one."""
        return (self,)


class Frames:
    """Messages that another node has encoded: their frames, one behind the other, for every receiver as they are."""

    __slots__ = ("_messages", "count", "wire")

    def __init__(self, wire: bytes, count: int) -> None:
        """
        Args:
            wire: made by `encode_frame`.
            count: how many messages they are.
        """
        self.wire = wire
        self.count = count
        self._messages: Sequence[Message] | None = None

    @property
    def messages(self) -> Sequence[Message]:
        """One by one, for those who cannot send frames."""
        if self._messages is None:
            self._messages = list(_split(self.wire))
        return self._messages


def _split(wire: bytes) -> Iterator[Message]:
    position = 0
    while position < len(wire):
        opcode, length, start = wire[position] & 0x0F, wire[position + 1], position + 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length, start = int.from_bytes(wire[start : start + size]), start + size
        position = start + length
        payload = wire[start:position]
        yield Message(payload.decode() if opcode == TEXT else payload)


_COUNT = attrgetter("count")


class Batch:
    """What goes to one or more connections together, in this order."""

    __slots__ = ("parts", "wire")

    def __init__(self, parts: "Sequence[Message | Frames]") -> None:
        self.parts = parts
        self.wire = b"".join([part.wire for part in parts])

    @property
    def count(self) -> int:
        """How many messages they are."""
        return sum(map(_COUNT, self.parts))

    @property
    def messages(self) -> Sequence[Message]:
        """One by one, for those who cannot send frames."""
        return [message for part in self.parts for message in part.messages]


Sendable = Message | Frames | Batch
"""What an outlet delivers: it has the `wire`, the `messages` one by one, and their `count`."""


def error_message(sentence: str) -> Message:
    """What goes before a final close: SDKs stop reconnecting when they have read it."""
    return Message(compact_json({"error": sentence}))


def system_message(content: Any) -> Message:
    """An answer of the server to one connection: `{"system": content}`."""
    return Message(compact_json({"system": content}))
