"""The frames of Pusher's protocol: what clients send, and what they get.

Clients get all data as a string that contains JSON: some of them expect it, and all of them accept it.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from realtime.protocols.frames import Message
from realtime.protocols.presence import Identity

ACTIVITY_SECONDS = 120
"""After how much silence clients ask whether the server is still there, in seconds."""
MAX_EVENT_NAME_LENGTH = 200
CLIENT_EVENTS = "client-"
"""Begins the names of the events that clients send to each other."""

_EMPTY = Raw(b"{}")


class Frame(msgspec.Struct):
    """A frame of a client."""

    event: str
    channel: str | None = None
    data: Raw = _EMPTY


class Subscribe(msgspec.Struct):
    """What a client sends to subscribe to a channel, or to unsubscribe."""

    channel: str
    auth: str | None = None
    channel_data: str | None = None


class SignIn(msgspec.Struct):
    """What a client sends to sign in as a user."""

    auth: str
    user_data: str


Content = TypeVar("Content", Subscribe, SignIn)

_decode_frame = msgspec.json.Decoder(Frame).decode
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


def read_frame(text: str | bytes) -> Frame | None:
    """Return a frame of a client; None if it is none."""
    try:
        return _decode_frame(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None


def read_data(data: Raw, kind: type[Content]) -> Content | None:
    """Return the data of a frame, which is an object or a string that contains one; None if it is something else."""
    try:
        return msgspec.json.decode(_decode_text(data) if _is_string(data) else data, type=kind)
    except (ValueError, RecursionError):
        return None


def client_event(frame: Frame, user_id: str | None) -> Message:
    """Return what the others in a channel get of a client's event.

    Args:
        frame: the event. Only its name, its channel and its data are passed on.
        user_id: the sender in a presence channel.
    """
    data = str(frame.data, "utf-8") if _is_string(frame.data) else _json(str(frame.data, "utf-8"))
    user = "" if user_id is None else f',"user_id":{_json(user_id)}'
    return Message(f'{{"event":{_json(frame.event)},"channel":{_json(frame.channel)},"data":{data}{user}}}')


def hello(socket_id: str) -> Message:
    """Return the first frame of each connection."""
    data = _json({"socket_id": socket_id, "activity_timeout": ACTIVITY_SECONDS})
    return _event("pusher:connection_established", data)


PONG = Message('{"event":"pusher:pong","data":"{}"}')


def subscription_succeeded(channel: str) -> Message:
    """Return the answer to a subscription to a channel without presence."""
    return _event("pusher_internal:subscription_succeeded", "{}", channel)


def subscription_error(channel: str, kind: str, sentence: str, status: int) -> Message:
    """Return the answer to a subscription that is refused, as Soketi and the clients know it.

    Args:
        channel: the channel.
        kind: the type of the error.
        sentence: why.
        status: the HTTP status that fits.
    """
    data = {"type": kind, "error": sentence, "status": status}
    return Message(_json({"event": "pusher:subscription_error", "channel": channel, "data": data}))


def signin_success(user_data: str) -> Message:
    """Return the answer to a sign-in."""
    return _event("pusher:signin_success", _json({"user_data": user_data}))


def subscription_count(channel: str, subscribers: int) -> Message:
    """Return what the subscribers of a channel get when their number has changed."""
    return _event("pusher_internal:subscription_count", f'{{"subscription_count":{subscribers}}}', channel)


def watchlist_events(*, online: Sequence[str] = (), offline: Sequence[str] = ()) -> Message:
    """Return what a user gets of its watchlist.

    Args:
        online: the users who are online.
        offline: the users who are not.
    """
    users = {"online": online, "offline": offline}
    events = [{"name": name, "user_ids": user_ids} for name, user_ids in users.items() if user_ids]
    return _event("pusher_internal:watchlist_events", _json({"events": events}))


def cache_miss(channel: str) -> Message:
    """Return what subscribers of a cache channel get that has no last event."""
    return _event("pusher:cache_miss", "{}", channel)


class PusherEvents:
    """The events about the members of one presence channel.

    Args:
        channel: the name of the channel.
    """

    __slots__ = ("_channel",)

    newest_is_listed = replaces_members = False

    def __init__(self, channel: str) -> None:
        self._channel = channel

    def list_message(self, identities: Iterable[Identity]) -> Message:
        members = {_json(identity.uuid): identity.json for identity in identities}
        users = ",".join([f"{user_id}:{info}" for user_id, info in members.items()])
        data = f'{{"presence":{{"ids":[{",".join(members)}],"hash":{{{users}}},"count":{len(members)}}}}}'
        return _event("pusher_internal:subscription_succeeded", data, self._channel)

    def change_message(self, joined: bool, identity: Identity, identities: Iterable[Identity]) -> Message:
        user_id = _json(identity.uuid)
        if joined:
            data = f'{{"user_id":{user_id},"user_info":{identity.json}}}'
            return _event("pusher_internal:member_added", data, self._channel)
        return _event("pusher_internal:member_removed", f'{{"user_id":{user_id}}}', self._channel)


def _event(name: str, data: str, channel: str | None = None) -> Message:
    place = "" if channel is None else f'"channel":{_json(channel)},'
    return Message(f'{{"event":"{name}",{place}"data":{_json(data)}}}')


def _json(value: Any) -> str:
    return _encode(value).decode()


def _is_string(value: Raw) -> bool:
    return memoryview(value)[0] == ord('"')
