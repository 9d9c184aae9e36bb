"""The frames of PieSocket v4: what clients send, and what they get.

Frames that belong to a channel name it in the member `system::channel`: clients assign frames without it to the channel
of their URL. A message that is not a JSON object cannot have this member and is delivered as it came.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from realtime.protocols.events import is_object
from realtime.protocols.frames import Message, compact_json
from realtime.protocols.presence import Identity, json_list
from realtime.protocols.v4_channels import MAX_NAME_LENGTH, read_name

CHANNEL = "system::channel"
BINARY = "pie::binary"
"""The event with which a client sends binary data to a channel that is not the one in its URL."""
SYSTEM = "system:"
"""Begins the names of the events that clients and the server exchange. Some clients write two colons, others one."""

_Name = str | int | None
_MISSING = Raw(b"null")
_NOTHING = Raw(b"{}")
_SPACE = " \t\r\n\ufeff"  # what parsers may skip


class Frame(NamedTuple):
    """A text message of a client."""

    members: dict[str, Raw] | None = None
    """Those of the JSON object, without the name of the channel; None if it is not one."""
    event: str = ""
    channel: str | None = None
    """The channel that it names; None for the channel in the URL."""

    @property
    def control(self) -> str:
        """What it asks of the server; empty if it is a message to others."""
        name = self.event.removeprefix(SYSTEM).removeprefix(":") if self.event.startswith(SYSTEM) else ""
        return name if name in CONTROLS else ""

    @property
    def data(self) -> Raw:
        """Its data."""
        return (self.members or {}).get("data", _NOTHING)


SUBSCRIBE, UNSUBSCRIBE, GET_MEMBERS = "subscribe", "unsubscribe", "get_members"
CONTROLS = frozenset((SUBSCRIBE, UNSUBSCRIBE, GET_MEMBERS))


class Wish(msgspec.Struct):
    """How a client subscribes to a channel."""

    presence: bool | int | str | None = None
    uuid: str | int | None = None
    user: Raw = _MISSING
    jwt: str | None = None


class _Place(msgspec.Struct):
    channel: _Name = None


_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_name = msgspec.json.Decoder(_Name).decode
_decode_place = msgspec.json.Decoder(_Place).decode
_decode_wish = msgspec.json.Decoder(Wish).decode
_encode = msgspec.json.Encoder().encode


def read_frame(text: str) -> Frame | None:
    """Return a text message of a client; None if others must not get it.

    These are `null`, which clients cannot handle, and JSON that some parsers accept and others do not: it could pretend
    to come from the server, or from another channel.
    """
    content = text.strip(_SPACE)
    if not content.startswith("{"):
        return None if content == "null" else Frame()
    try:
        members = _decode_members(content)
        channel = members.pop(CHANNEL, None)
        if channel is None:
            return Frame(members, _event(members))
        sent = _decode_name(channel)
        name = read_name(sent)
        return None if name is None and sent is not None else Frame(members, _event(members), name)
    except (ValueError, RecursionError):
        return None if is_object(content) else Frame()


def read_channel(data: Raw) -> _Name:
    """Return the channel that the data of a control frame names, as it was sent; None if it names none."""
    try:
        channel = _decode_place(data).channel
    except (ValueError, RecursionError):
        return None
    return None if isinstance(channel, str) and len(channel) > MAX_NAME_LENGTH else channel


def read_wish(data: Raw) -> Wish | None:
    """Return how a client subscribes to a channel; None if the data of its frame is not valid."""
    try:
        return _decode_wish(data)
    except (ValueError, RecursionError):
        return None


def read_binary(data: Raw) -> str | None:
    """Return the data of a `pie::binary`, which is base64; None if it is not."""
    try:
        text = _decode_text(data)
        base64.b64decode(text, validate=True)
    except (ValueError, RecursionError, binascii.Error):
        return None
    return text


def stamped(members: Mapping[str, Raw], channel: str) -> Message:
    """Return the message that consists of these members, and names its channel."""
    parts = [f"{_json(name)}:{str(value, 'utf-8')}" for name, value in members.items()]
    return Message(f"{{{','.join([*parts, _tag(channel)])}}}")


def message_for(text: str, channel: str) -> Message | None:
    """Return the message with which a server's text is delivered in a channel; None if clients cannot handle it."""
    content = text.strip(_SPACE)
    if not content.startswith("{"):
        return None if content == "null" else Message(text)
    try:
        members = _decode_members(content)
    except (ValueError, RecursionError):
        return Message(text)
    members.pop(CHANNEL, None)
    return stamped(members, channel)


def binary_message(data: bytes | str, channel: str, meta: Raw | None = None) -> Message:
    """Return the message with which binary data is delivered.

    Args:
        data: the data, or its base64.
        channel: the channel.
        meta: the `meta` that the sender has added, as JSON.
    """
    text = base64.b64encode(data).decode() if isinstance(data, bytes) else data
    more = "" if meta is None else f',"meta":{str(meta, "utf-8")}'
    return Message(f'{{"event":"system::binary",{_tag(channel)},"data":"{text}"{more}}}')


def control_message(name: str, place: str, data: Mapping[str, Any]) -> Message:
    """Return an event of the server for one client.

    Args:
        name: the name of the event, without its prefix.
        place: the channel to which the event belongs.
        data: its data.
    """
    return Message(compact_json({"event": f"system::{name}", CHANNEL: place, "data": data}))


def subscription_lost(channel: _Name, error: str, place: str) -> Message:
    """Return the ordinary event that tells an application why a subscription was refused.

    The library ignores the answers to the subscriptions that it repeats after it has reconnected.

    Args:
        channel: the channel, as the client has sent it.
        error: why.
        place: the channel in the client's URL, in which the event arrives.
    """
    data = {"channel": channel, "error": error}
    return Message(compact_json({"event": "subscription-error", CHANNEL: place, "data": data}))


def answer_in(channel: str, answer: Message) -> Message:
    """Return an answer to a command, or a notice, as one that belongs to a channel."""
    return Message(f"{str(answer.data)[:-1]},{_tag(channel)}}}")


class V4Events:
    """The events about the members of one channel.

    Args:
        channel: the name of the channel.
    """

    __slots__ = ("_channel",)

    newest_is_listed = False
    replaces_members = True

    def __init__(self, channel: str) -> None:
        self._channel = channel

    def list_message(self, identities: Iterable[Identity]) -> Message:
        listed = list(identities)
        return self._event("member_list", f'"members":{json_list(listed)},"count":{len(listed)}')

    def change_message(self, joined: bool, identity: Identity, identities: Iterable[Identity]) -> Message:
        content = f'"member":{identity.json},"count":{len(list(identities))}'
        return self._event("member_joined" if joined else "member_left", content)

    def _event(self, name: str, content: str) -> Message:
        data = f'{{"channel":"{self._channel}",{content}}}'
        return Message(f'{{"event":"system::{name}",{_tag(self._channel)},"data":{data}}}')


def _tag(channel: str) -> str:
    # The names of channels need no escapes.
    return f'"{CHANNEL}":"{channel}"'


def _event(members: Mapping[str, Raw]) -> str:
    event = members.get("event", _MISSING)
    return _decode_text(event) if memoryview(event)[0] == ord('"') else ""


def _json(name: str) -> str:
    return _encode(name).decode()
