"""What waits to be published: joined to batches by group, served fairly by party, bounded in bytes. No I/O."""

from collections import Counter
from collections.abc import Hashable, Iterator

from realtime.base.fair_queue import FairQueue
from realtime.cluster.batches import FRAMES, Address, Batch


class _Queue(FairQueue[Batch]):
    def popleft_of(self, party: Hashable) -> Batch:
        """Remove and return the oldest of one party, which has at least one waiting."""
        batches = self._waiting[party]
        batch = batches.popleft()
        if not batches:
            del self._waiting[party]
        return batch


class Outbox:
    """A queue of batches. Parties take turns, and within one party the oldest is first.

    When it is full, those parties that fill it lose their oldest messages.
    """

    def __init__(self, max_bytes: int, max_batch_bytes: int) -> None:
        """
        Args:
            max_bytes: how much may wait.
            max_batch_bytes: a batch of this size or more takes no further messages.
        """
        self._max_bytes = max_bytes
        self._max_batch_bytes = max_batch_bytes
        self._queue = _Queue()
        self._growing: dict[Address, Batch] = {}  # the last batch of a group, if it takes further messages
        self._bytes = 0
        self._bytes_of: Counter[object] = Counter()  # by party

    def __bool__(self) -> bool:
        return bool(self._queue)

    @property
    def is_overfull(self) -> bool:
        """Whether more waits than may."""
        return self._bytes > self._max_bytes

    def put_frames(self, address: Address, frames: bytes, count: int, party: Hashable) -> Batch:
        """Add messages to the batch of their group that waits, or to a new one; return that batch."""
        batch = self._growing.get(address)
        if batch is None:
            batch = self._growing[address] = Batch(FRAMES, address, party)
            self._append(batch)
        self._grow(batch, frames, count)
        if batch.size >= self._max_batch_bytes:
            del self._growing[address]
        return batch

    def put_alone(self, batch: Batch, part: bytes) -> None:
        """Add a batch that nothing joins, with what it carries."""
        self._growing.pop(batch.address, None)
        self._append(batch)
        self._grow(batch, part, 1)

    def take(self) -> Batch:
        """Remove and return the batch whose turn it is.

        Raises:
            KeyError: nothing waits.
        """
        batch = self._queue.popleft()
        self._forget(batch)
        return batch

    def make_room(self) -> Iterator[Batch]:
        """Remove the oldest batches of the parties that have the most waiting, if it is too much; yield them.

        Parties are cut down to a common size, at which all fit in. That leaves a 32nd of the space free, since it looks
        at all parties.
        """
        if not self.is_overfull:
            return
        size = self._common_size(self._max_bytes * 31 // 32)
        for party in [party for party, waiting in self._bytes_of.items() if waiting > size]:
            while self._bytes_of[party] > size:
                batch = self._queue.popleft_of(party)
                self._forget(batch)
                yield batch

    def _common_size(self, left: int) -> float:
        sizes = sorted(self._bytes_of.values())
        for number, size in enumerate(sizes):
            if size * (len(sizes) - number) > left:
                return left / (len(sizes) - number)
            left -= size
        return float("inf")

    def _append(self, batch: Batch) -> None:
        self._queue.append(batch.party, batch)
        self._bytes += batch.size
        self._bytes_of[batch.party] += batch.size

    def _grow(self, batch: Batch, part: bytes, count: int) -> None:
        size = batch.add(part, count)
        self._bytes += size
        self._bytes_of[batch.party] += size

    def _forget(self, batch: Batch) -> None:
        self._bytes -= batch.size
        self._bytes_of[batch.party] -= batch.size
        if not self._bytes_of[batch.party]:
            del self._bytes_of[batch.party]
        if self._growing.get(batch.address) is batch:
            del self._growing[batch.address]
