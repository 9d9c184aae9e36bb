"""What clients see of the members of a channel: who a member is, and the events that report who comes and goes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from realtime.protocols.frames import Message, compact_json


@dataclass(frozen=True, slots=True)
class Identity:
    """What others see of a member."""

    uuid: str
    json: str
    """The member as it stands in events."""
    size: int
    """Of that, in bytes."""

    @classmethod
    def of(cls, uuid: str, user: Any) -> "Identity":
        """
        Args:
            uuid: tells members apart.
            user: anything that JSON can say.

        Raises:
            ValueError: JSON cannot say it.
        """
        return cls.known(uuid, compact_json({"uuid": uuid, "user": user}))

    @classmethod
    def known(cls, uuid: str, json: str) -> "Identity":
        """The identity that stands so in events."""
        return cls(uuid, json, len(json.encode()))


def list_message(identities: Iterable[Identity]) -> Message:
    """Return the event with the list of members, for a client that joins."""
    return Message(f'{{"event":"system:member_list","data":{{"members":{_json_list(identities)}}}}}')


def change_message(joined: bool, identity: Identity, identities: Iterable[Identity]) -> Message:
    name = "joined" if joined else "left"
    data = f'{{"member":{identity.json},"members":{_json_list(identities)}}}'
    return Message(f'{{"event":"system:member_{name}","data":{data}}}')


def _json_list(identities: Iterable[Identity]) -> str:
    return f"[{','.join([identity.json for identity in identities])}]"
