"""Presence as clients see it: the identity of a member, and the events that report joins and leaves."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from accounts.refused_clients import MAX_SHOWN_LENGTH
from realtime.protocols.frames import Message, compact_json


@dataclass(frozen=True, slots=True)
class Identity:
    """A member as the other members see it."""

    uuid: str
    json: str
    """The member, as it appears in events."""
    size: int
    """The size of `json`, in bytes."""

    @classmethod
    def of(cls, uuid: str, user: Any) -> "Identity":
        """Return the identity of a member.

        Args:
            uuid: identifies the member in its channel.
            user: any JSON value that describes the member.

        Raises:
            ValueError: `user` cannot be written as JSON.
        """
        return cls.from_json(uuid, compact_json({"uuid": uuid, "user": user}))

    @classmethod
    def from_json(cls, uuid: str, json: str) -> "Identity":
        """Return the identity that appears as this JSON in events."""
        return cls(uuid, json, len(json.encode()))


def shown_user(user: Any) -> str:
    """Return the `user` of a client as people see it: a text as it is, anything else as JSON."""
    if user is None:
        return ""
    try:
        return clean(user if isinstance(user, str) else compact_json(user), MAX_SHOWN_LENGTH)
    except ValueError:
        return ""


def user_id_of(uuid: str) -> str:
    """Return the uuid of a member as webhooks report it: as it is, with `�` for what no database stores."""
    return clean(uuid, len(uuid))


def clean(text: str, length: int) -> str:
    """Return the beginning of a text that any client may have sent, with `�` for what no database stores."""
    text = text[:length]
    if text.isascii() and "\0" not in text:
        return text
    return "".join("�" if each == "\0" or "\ud800" <= each <= "\udfff" else each for each in text)


class PresenceEvents(Protocol):
    """How the members of one channel learn who is in it."""

    newest_is_listed: bool
    """Whether the newest of several connections with the same `uuid` is listed, and reported as a join. Otherwise the
    oldest is listed, and only the first join and the last leave are reported."""

    replaces_members: bool
    """Whether the oldest of several connections is reported to leave when it does, and the next one to join, if clients
    would not recognize it as the same member."""

    def list_message(self, identities: Iterable[Identity]) -> Message:
        """Return the event that lists all members, for a client that joins."""

    def change_message(self, joined: bool, identity: Identity, identities: Iterable[Identity]) -> Message:
        """Return the event that reports a join or leave.

        Args:
            joined: whether the member joined; otherwise it left.
            identity: the member.
            identities: all members after the change.
        """


class PieSocketEvents:
    """The events of PieSocket v3, which contain all members."""

    newest_is_listed = True
    replaces_members = False

    def list_message(self, identities: Iterable[Identity]) -> Message:
        return Message(f'{{"event":"system:member_list","data":{{"members":{json_list(identities)}}}}}')

    def change_message(self, joined: bool, identity: Identity, identities: Iterable[Identity]) -> Message:
        name = "joined" if joined else "left"
        data = f'{{"member":{identity.json},"members":{json_list(identities)}}}'
        return Message(f'{{"event":"system:member_{name}","data":{data}}}')


PIESOCKET_EVENTS = PieSocketEvents()


def json_list(identities: Iterable[Identity]) -> str:
    """Return members as a list in JSON."""
    return f"[{','.join([identity.json for identity in identities])}]"
