"""What waits to be sent to other nodes: frames of messages, joined by their group, and events. Pure, and bounded."""

from collections import deque
from typing import Any

# What an entry takes besides its data, in bytes, about.
_OVERHEAD = 100


class Entry:
    """One thing to send to one group: frames that go together, or an event."""

    __slots__ = ("event", "frames", "group", "number", "size")

    def __init__(self, group: str, event: dict[str, Any] | None = None) -> None:
        self.group = group
        self.event = event
        self.frames: list[bytes] = []
        self.size = _OVERHEAD
        self.number = 0
        """Counts what was taken, so that a receiver knows what it has heard before."""


class Outgoing:
    """A queue of entries. When it is full, the oldest make room."""

    def __init__(self, max_bytes: int, max_batch_bytes: int) -> None:
        """
        Args:
            max_bytes: how much may wait.
            max_batch_bytes: from what size on an entry takes no further frames.
        """
        self._max_bytes = max_bytes
        self._max_batch_bytes = max_batch_bytes
        self._entries: deque[Entry] = deque()
        self._open: dict[str, Entry] = {}  # the last entry of a group, if it takes further frames
        self._bytes = self._taken = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put_frame(self, group: str, frame: bytes) -> int:
        """Add a message, to an entry that waits if there is one; return how many messages were dropped for it."""
        entry = self._open.get(group)
        if entry is None:
            entry = self._open[group] = Entry(group)
            self._entries.append(entry)
            self._bytes += _OVERHEAD
        entry.frames.append(frame)
        size = len(frame)
        entry.size += size
        self._bytes += size
        if entry.size >= self._max_batch_bytes:
            del self._open[group]
        return self._make_room() if self._bytes > self._max_bytes else 0

    def put_event(self, group: str, event: dict[str, Any]) -> int:
        """Add an event, behind all messages of its group that wait; return how many messages were dropped for it."""
        self._open.pop(group, None)
        self._entries.append(Entry(group, event))
        self._bytes += _OVERHEAD
        return self._make_room() if self._bytes > self._max_bytes else 0

    def take(self) -> Entry:
        """Remove the oldest entry and return it.

        Raises:
            IndexError: nothing waits.
        """
        entry = self._remove()
        self._taken += 1
        entry.number = self._taken
        return entry

    def _make_room(self) -> int:
        dropped = 0
        while self._bytes > self._max_bytes and len(self._entries) > 1:
            dropped += len(self._remove().frames)
        return dropped

    def _remove(self) -> Entry:
        entry = self._entries.popleft()
        self._bytes -= entry.size
        if self._open.get(entry.group) is entry:
            del self._open[entry.group]
        return entry
