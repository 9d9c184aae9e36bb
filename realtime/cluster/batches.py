"""What one PUBLISH carries: a packed head, and behind it frames or a serialized event."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

# The kind, who sent it, its number among those of the sender, and how many messages it has.
_HEAD = struct.Struct(">B8sQI")
HEAD_SIZE = _HEAD.size
ORIGIN_SIZE = 8
FRAMES = 1
EVENT = 2

pack_head = _HEAD.pack
unpack_head = _HEAD.unpack_from

# What a batch takes in memory besides its data, and a frame in it, in bytes, about.
_BATCH_OVERHEAD = 500
_FRAME_OVERHEAD = 50


class Address:
    """A group, or a single channel, and where it is on Redis. There is one for all messages to it."""

    __slots__ = ("group", "name", "publish_head")

    def __init__(self, group: str, name: str) -> None:
        """
        Args:
            group: its name for Channels.
            name: the channel of Redis.
        """
        self.group = group
        self.name = name.encode()
        self.publish_head = b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$" % (len(self.name), self.name)


@dataclass(frozen=True, slots=True)
class InOrder:
    """Messages in a batch that are delivered here too, in the order that Redis gives them."""

    frames: bytes
    count: int
    on_done: Callable[[], None]


class Batch:
    """What goes in one PUBLISH."""

    __slots__ = (
        *("address", "count", "kind", "number", "on_answer", "parts", "party", "size"),
        *("in_order", "is_heard", "is_overdue", "is_taken"),
    )

    def __init__(self, kind: int, address: Address, party: object) -> None:
        self.kind = kind
        self.address = address
        self.party = party
        self.parts: list[bytes] = []
        self.count = 0
        self.size = _BATCH_OVERHEAD
        self.number = 0
        """Of the PUBLISHes of this origin; 0 until it is sent."""
        self.in_order: list[InOrder] | None = None
        self.is_heard = False
        """Whether Redis is sure to send it back to this process."""
        self.is_taken = False
        """Whether Redis has answered."""
        self.is_overdue = False
        """Whether it had answered at the last heartbeat."""
        self.on_answer: Callable[[Exception | None], None] | None = None

    def add(self, part: bytes, count: int) -> int:
        """Add something; return by how many bytes the batch has grown."""
        self.parts.append(part)
        self.count += count
        size = len(part) + _FRAME_OVERHEAD
        self.size += size
        return size

    def encode(self, origin: bytes) -> tuple[bytes, ...]:
        """Return the parts of the PUBLISH as Redis reads it.

        Raises:
            TypeError: what it carries is not bytes.
        """
        body = b"".join(self.parts)
        return (
            self.address.publish_head,
            b"%d\r\n" % (HEAD_SIZE + len(body)),
            pack_head(self.kind, origin, self.number, self.count),
            body,
            b"\r\n",
        )
