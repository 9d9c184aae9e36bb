"""The events that servers publish through Pusher's HTTP API: the meaning of a body, and the frame that clients get.

As in `protocols.publishing`, a body is scanned once, and the data of an event stays the JSON that was sent.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec
from msgspec import Raw

from realtime.protocols.exclusions import MessageToOthers
from realtime.protocols.frames import Message, compact_json
from realtime.protocols.publishing import Problem
from realtime.protocols.pusher_channels import MAX_NAME_LENGTH, group_for, is_valid_name, kind_of

MAX_EVENT_NAME_LENGTH = 200
MAX_CHANNELS = 100
MAX_BATCH_EVENTS = 10
MAX_IDEMPOTENCY_KEY_LENGTH = 256
SOCKET_ID = re.compile(r"[0-9]{1,20}\.[0-9]{1,20}")

NOT_JSON = 'The body must be a JSON object in UTF-8, for example {"name":"…","channels":["…"],"data":"…"}.'
NO_CHANNELS = f"Send the channel as a string, or 1 to {MAX_CHANNELS} channels as a list of strings."
NO_EVENTS = f"Send a batch of 1 to {MAX_BATCH_EVENTS} events, as a list."
_RESERVED = ("pusher:", "pusher_internal:")
_MISSING = Raw(b"")
_QUOTE = ord('"')
# More than the longest names take, if every character is escaped.
_MAX_CHANNELS_BYTES = 256 * 1024


class Body(msgspec.Struct):
    """The members of an event that have a meaning, as JSON; and those of a batch."""

    name: Raw = _MISSING
    data: Raw = _MISSING
    channel: Raw = _MISSING
    channels: Raw = _MISSING
    socket_id: Raw = _MISSING
    info: Raw = _MISSING
    idempotency_key: Raw = _MISSING
    batch: Raw = _MISSING


class _Channel(NamedTuple):
    """A channel of a cluster."""

    name: str
    json: str
    """Its name as JSON."""
    group: str
    is_cache: bool


class Event(NamedTuple):
    """An event to publish."""

    messages: list[tuple[str, Message]]
    """The group of each channel, and what its subscribers get."""
    channels: Sequence[str]
    """The names of the channels."""
    kept: list[tuple[str, str]]
    """The group of each cache channel, and the frame that its next subscribers get."""
    info: tuple[str, ...]
    """The attributes of the channels that the response is to contain."""


_decode_body = msgspec.json.Decoder(Body).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_channels = msgspec.json.Decoder(list[Raw]).decode
# The memory of a list would be spent before its length could be checked.
_decode_batch = msgspec.json.Decoder(
    msgspec.defstruct(
        "_Batch",
        [(f"event_{index}", Raw, _MISSING) for index in range(MAX_BATCH_EVENTS)],
        array_like=True,
        forbid_unknown_fields=True,
    )
).decode


def read_body(content: bytes) -> Body:
    """Return the members of a request.

    Raises:
        Problem: the content is not a JSON object in UTF-8, has half of a surrogate pair, or too many levels.
    """
    try:
        if not content.isascii():
            content.decode()
        return _decode_body(content)
    except (ValueError, RecursionError):
        raise Problem(400, NOT_JSON) from None


def read_event(body: Body, cluster_id: str, max_bytes: int) -> Event:
    """Return the event of a request, or of an item of a batch.

    Args:
        body: the request, or the item.
        cluster_id: the Cluster ID of the key.
        max_bytes: the size of the largest message that the key allows.

    Raises:
        Problem: a member is missing or invalid.
    """
    name = _read_name(bytes(body.name))
    data = _read_data(body.data, max_bytes)
    channels = _read_channels(body, cluster_id)
    excluded = _read_text(body.socket_id)
    if excluded is None or (excluded and not SOCKET_ID.fullmatch(excluded)):
        raise Problem(400, "The socket_id must be a string such as 123.456.")
    messages: list[tuple[str, Message]] = []
    kept: list[tuple[str, str]] = []
    for channel in channels:
        text = f'{{"event":{name},"channel":{channel.json},"data":{data}}}'
        messages.append((channel.group, MessageToOthers(text, excluded) if excluded else Message(text)))
        if channel.is_cache:
            kept.append((channel.group, text))
    names = [channel.name for channel in channels]
    return Event(messages, names, kept, read_info(_read_text(body.info) or ""))


def read_batch(body: Body, cluster_id: str, max_bytes: int) -> list[Event]:
    """Return the events of a batch.

    Args:
        body: the request.
        cluster_id: the Cluster ID of the key.
        max_bytes: the size of the largest message that the key allows.

    Raises:
        Problem: there are too few or too many events, or one of them is invalid.
    """
    try:
        items = [item for item in msgspec.structs.astuple(_decode_batch(body.batch)) if len(item)]
    except (ValueError, RecursionError):
        raise Problem(400, NO_EVENTS) from None
    if not items:
        raise Problem(400, NO_EVENTS)
    events = []
    for index, item in enumerate(items):
        try:
            events.append(read_event(read_body(bytes(item)), cluster_id, max_bytes))
        except Problem as problem:
            raise Problem(problem.status, f"batch[{index}]: {problem} Nothing was sent.") from None
    return events


def read_info(text: str) -> tuple[str, ...]:
    """Return the attributes that a request asks for, separated by commas."""
    return tuple(text.split(",")) if text else ()


def read_idempotency_key(body: Body, header: bytes | None) -> str:
    """Return what identifies a request that may be repeated; empty if the client does not identify it.

    Args:
        body: the request.
        header: the header `x-idempotency-key`.

    Raises:
        Problem: it is too long, or not a string.
    """
    key = _read_text(body.idempotency_key) if header is None else header.decode("latin-1")
    if key is None or len(key) > MAX_IDEMPOTENCY_KEY_LENGTH:
        raise Problem(400, f"The idempotency key must be a string of at most {MAX_IDEMPOTENCY_KEY_LENGTH} characters.")
    return key


def _read_data(value: Raw, max_bytes: int) -> str:
    """Return the data of an event as a JSON string: the one that was sent, or one that contains another value."""
    if not _is_given(value):
        raise Problem(400, "Send the data of the event, as a string.")
    text = str(value, "utf-8")
    if not _is_text(value):
        text = compact_json(text)
    # Escapes make the JSON larger than the data.
    if len(value) > max_bytes and len((_decode_text(value) if _is_text(value) else text).encode()) > max_bytes:
        raise Problem(413, f"The data content of this event exceeds the allowed maximum ({max_bytes} bytes).")
    return text


def _read_channels(body: Body, cluster_id: str) -> list[_Channel]:
    if _is_given(body.channels):
        try:
            values = _decode_channels(body.channels) if len(body.channels) <= _MAX_CHANNELS_BYTES else []
        except (ValueError, RecursionError):
            values = []
    else:
        values = [body.channel] if _is_given(body.channel) else []
    if not values or len(values) > MAX_CHANNELS:
        raise Problem(400, NO_CHANNELS)
    channels = [_find_channel(bytes(value), cluster_id) for value in values]
    return list(dict.fromkeys(channels)) if len(channels) > 1 else channels


@lru_cache(maxsize=10_000)
def _find_channel(value: bytes, cluster_id: str) -> _Channel:
    """Return the channel that some JSON names in a cluster."""
    if value[0] != _QUOTE:
        raise Problem(400, NO_CHANNELS)
    name = _decode_text(value)
    check_name(name)
    return _Channel(name, compact_json(name), group_for(cluster_id, name), kind_of(name).is_cache)


@lru_cache(maxsize=1_000)
def _read_name(value: bytes) -> str:
    """Return the name of an event, as JSON."""
    name = _decode_text(value) if value.startswith(b'"') else ""
    if not name or len(name) > MAX_EVENT_NAME_LENGTH:
        raise Problem(400, f"Send the name of the event, of 1 to {MAX_EVENT_NAME_LENGTH} characters, as a string.")
    if name.startswith(_RESERVED):
        raise Problem(400, "The names of events must not begin with pusher: or pusher_internal:.")
    return value.decode()


def check_name(channel: str) -> None:
    """Check that there can be a channel of this name.

    Raises:
        Problem: there cannot.
    """
    if not is_valid_name(channel):
        raise Problem(400, f"The name of a channel must be 1 to {MAX_NAME_LENGTH} letters, digits or any of _-=@,.;")


def _read_text(value: Raw) -> str | None:
    """Return a string; empty if it is absent, None if it is another value."""
    if not _is_given(value):
        return ""
    return _decode_text(value) if _is_text(value) else None


def _is_given(value: Raw) -> bool:
    return value is not _MISSING and (len(value) > len(b"null") or bytes(value) != b"null")


def _is_text(value: Raw) -> bool:
    return memoryview(value)[0] == _QUOTE
