"""Messages that one client does not receive: the sender of the request that made a server publish them.

On the way between nodes, a frame with a reserved opcode goes before such a message and names the client. It never
reaches a client.
"""

from collections.abc import Iterator

from realtime.protocols.frames import Frames, Message, encode_frame, frame_end

_OPCODE = 0xB
_PREFIX = b"all but "
_MARK = bytes((0x80 | _OPCODE,))


class MessageToOthers(Message):
    """A message that one client does not receive.

    Args:
        data: see `Message`.
        excluded: the client's socket ID, at most 100 ASCII characters.
    """

    __slots__ = ("excluded",)

    def __init__(self, data: str | bytes, excluded: str) -> None:
        super().__init__(data)
        self.excluded = excluded

    @property
    def between_nodes(self) -> bytes:
        return encode_frame(_OPCODE, _PREFIX + self.excluded.encode()) + self.wire


def split(wire: bytes, count: int) -> Iterator[Frames]:
    """Return the messages that have come from another node, divided where the client changes that is excluded.

    Args:
        wire: the frames, in which some name a client.
        count: the number of messages.
    """
    if _PREFIX not in wire:  # much faster than looking at every frame
        yield Frames(wire, count)
        return
    start = position = together = 0
    while position < len(wire):
        end, payload_at = frame_end(wire, position)
        if not wire.startswith(_MARK, position):
            together += 1
            position = end
            continue
        if together:
            yield Frames(wire[start:position], together)
        excluded = wire[payload_at + len(_PREFIX) : end].decode()
        start, (position, _) = end, frame_end(wire, end)
        yield Frames(wire[start:position], 1, excluded)
        start, together = position, 0
    if together:
        yield Frames(wire[start:], together)
