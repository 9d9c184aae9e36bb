"""The meaning of a Cluster API body: the credentials, the channels, and the messages, which stay as they were sent.

A body is scanned once, by a parser that checks all of it and creates an object for each member that it looks for, and
for nothing else. The values of the members remain JSON until somebody asks for them.
"""

import re
from functools import lru_cache
from typing import NamedTuple

import msgspec
from msgspec import Raw

from realtime.base.asgi import Header
from realtime.protocols.channels import CHANNEL_PATH, group_name
from realtime.protocols.frames import Message, frame_size

MAX_BATCH_MESSAGES = 1_000

NOT_JSON = 'The body must be a JSON object, for example {"key":"…","secret":"…","channelId":"…","message":"…"}.'
NO_MESSAGES = f"Send 1 to {MAX_BATCH_MESSAGES} messages, as a list."

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MISSING = Raw(b"")
_ABSENT = (b"", b"null", b'""')
_QUOTE = ord('"')
_INTEGER = re.compile(rb"-?[0-9]{1,128}")


class Problem(Exception):
    """A request cannot be served. The response has this status, error sentence and headers."""

    def __init__(self, status: int, sentence: str, *headers: Header) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers


class Credentials(NamedTuple):
    """What a request is sent with; None stands for what is absent."""

    key: str | None
    secret: str | None

    def __repr__(self) -> str:
        return f"Credentials(key={self.key!r})"

    def or_else(self, others: "Credentials") -> "Credentials":
        """Return these credentials, each of them replaced by the other one if it is absent."""
        return Credentials(self.key or others.key, self.secret or others.secret)


class Item(msgspec.Struct):
    """A message of a batch, as JSON."""

    channelId: Raw = _MISSING
    roomId: Raw = _MISSING
    message: Raw = _MISSING


class Body(Item):
    """The members of a request that have a meaning, as JSON."""

    key: Raw = _MISSING
    secret: Raw = _MISSING
    messages: Raw = _MISSING

    @property
    def credentials(self) -> Credentials:
        """The key and the secret. Neither is right if it is not a string."""
        return Credentials(_credential(self.key), _credential(self.secret))


_decode_body = msgspec.json.Decoder(Body).decode
_decode_item = msgspec.json.Decoder(Item).decode
_decode_text = msgspec.json.Decoder(str).decode
# The memory of a list would be spent before its length could be checked.
_decode_batch = msgspec.json.Decoder(
    msgspec.defstruct(
        "_Batch",
        [(f"message_{index}", Raw, _MISSING) for index in range(MAX_BATCH_MESSAGES)],
        array_like=True,
        forbid_unknown_fields=True,
    )
).decode


def read_body(body: bytes) -> Body:
    """Return the members of a request.

    Raises:
        Problem: the body is not a JSON object in UTF-8, has half of a surrogate pair, or too many levels.
    """
    try:
        if not body.isascii():
            body.decode()
        return _decode_body(body.removeprefix(_BYTE_ORDER_MARK))
    except (ValueError, RecursionError):
        raise Problem(400, NOT_JSON) from None


def read_message(item: Item, cluster_id: str, max_bytes: int) -> tuple[str, Message]:
    """Return the channel's group and the message of a request, or of an item of a batch.

    Args:
        item: the request or the item.
        cluster_id: the Cluster ID of the key.
        max_bytes: the size of the largest message that the key allows.

    Raises:
        Problem: the channel or the message is missing or invalid.
    """
    check_is_complete(item)
    group = read_channel(item, cluster_id)
    message = Message(read_text(item))
    check_size(len(message.wire), max_bytes)
    return group, message


def check_is_complete(item: Item) -> None:
    """Check that a request has a message and a channel.

    Raises:
        Problem: one of them is missing.
    """
    if not len(item.message) or (_is_absent(item.channelId) and _is_absent(item.roomId)):
        raise Problem(400, "Send channelId and message.")


def read_text(item: Item) -> str:
    """Return the text of a message: a string as it is, any other value as the JSON that was sent."""
    content = item.message
    return _decode_text(content) if _is_text(content) else str(content, "utf-8")


def check_size(frame_bytes: int, max_bytes: int) -> None:
    """Check the size of a message.

    Args:
        frame_bytes: the size of the frame that contains it.
        max_bytes: the size of the largest message that the key allows.

    Raises:
        Problem: it is too large.
    """
    if frame_bytes > max_bytes and frame_bytes > frame_size(max_bytes):
        raise Problem(413, f"The message is larger than {max_bytes} bytes; send less at a time.")


def read_batch(body: Body, cluster_id: str, max_bytes: int) -> list[tuple[str, Message]]:
    """Return the channel's group and the message for each item of a batch.

    Args:
        body: the request.
        cluster_id: the Cluster ID of the key.
        max_bytes: the size of the largest message that the key allows.

    Raises:
        Problem: there are too few or too many messages, or one of them is invalid.
    """
    try:
        items = msgspec.structs.astuple(_decode_batch(body.messages))
    except (ValueError, RecursionError):
        raise Problem(400, NO_MESSAGES) from None
    if not len(items[0]):
        raise Problem(400, NO_MESSAGES)
    messages = []
    for index, item in enumerate(items):
        if not len(item):
            break
        try:
            messages.append(read_message(_read_item(item), cluster_id, max_bytes))
        except Problem as problem:
            raise Problem(problem.status, f"messages[{index}]: {problem} Nothing was sent.") from None
    return messages


def read_channel(item: Item, cluster_id: str) -> str:
    """Return the group of the channel that a request names.

    Raises:
        Problem: the channel is missing or invalid.
    """
    return _find_group(channel_json(item), cluster_id)


def channel_json(item: Item) -> bytes:
    """Return the JSON that names the channel of a request."""
    value = bytes(item.channelId)
    return bytes(item.roomId) if value in _ABSENT else value


@lru_cache(maxsize=10_000)
def _find_group(value: bytes, cluster_id: str) -> str:
    """Return the group of the channel that some JSON names in a cluster."""
    return group_name(cluster_id, read_path(value))


def read_path(value: bytes) -> str:
    """Return the path that some JSON names: `CHANNEL_ID` or `NAMESPACE/CHANNEL_ID`.

    Raises:
        Problem: it is missing or invalid.
    """
    if value in _ABSENT:
        raise Problem(400, "Send the channelId.")
    path = ""
    if value[0] == _QUOTE:
        path = _decode_text(value)
    elif _INTEGER.fullmatch(value):
        path = str(int(value))
    if not CHANNEL_PATH.fullmatch(path):
        raise Problem(400, "The channelId must be 1 to 128 letters, digits, _ or -.")
    return path


def _read_item(item: Raw) -> Item:
    try:
        return _decode_item(item)
    except (ValueError, RecursionError):
        return Item()


def _credential(value: Raw) -> str | None:
    text = bytes(value)
    if text in _ABSENT:
        return None
    return _decode_text(text) if text[0] == _QUOTE else "not a string"


def _is_absent(value: Raw) -> bool:
    return len(value) <= len(b"null") and bytes(value) in _ABSENT


def _is_text(value: Raw) -> bool:
    return memoryview(value)[0] == _QUOTE
