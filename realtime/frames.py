"""Messages as bytes on the wire (RFC 6455), built once a message however many connections receive it."""

import json
from collections.abc import Sequence
from typing import Any

TEXT = 0x1
BINARY = 0x2


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


class Batch:
    """Messages that go to one or more connections together, in this order."""

    __slots__ = ("messages", "wire")

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self.wire = b"".join([message.wire for message in messages])


def error_message(sentence: str) -> Message:
    """What goes before a final close: SDKs stop reconnecting when they have read it."""
    return Message(compact_json({"error": sentence}))


def system_message(content: Any) -> Message:
    """An answer of the server to one connection: `{"system": content}`."""
    return Message(compact_json({"system": content}))
