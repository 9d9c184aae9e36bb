"""Reports joins and leaves to the members of one channel on this node (the wire contract, *Presence*).

Every event of PieSocket contains the whole list, and every member gets every event: a thousand members that join one
after another would cause 22 GB of events. While a crowd joins, newcomers therefore get nothing until the rush is over.
Then each of them gets one list. Only the members that were there before get an event for each newcomer.
Events wait for receivers that read slowly. Presence alone therefore never disconnects a client.

Loop thread only.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

from realtime.fanout.hub import Member
from realtime.presence.seats import Seat, SeatList
from realtime.protocols.frames import Batch, Message
from realtime.protocols.presence import Identity, PresenceEvents

# A crowd joins a channel that has more members than CROWD_MEMBERS if more than CROWD_EVENTS events happen within
# MOMENT_SECONDS.
CROWD_MEMBERS = 8
CROWD_EVENTS = 5
MOMENT_SECONDS = 0.1
# The longest time that a newcomer waits for its list while a crowd joins, in seconds. It grows with the number of
# members.
WAIT_SECONDS = 1.0
WAIT_SECONDS_PER_MEMBER = 0.005
MAX_WAIT_SECONDS = 5.0
# How long events wait for a receiver that reads slowly, and the interval at which receivers are checked, in seconds.
MAX_PAUSE_SECONDS = 1.0
POLL_SECONDS = 0.01
# How long events no longer wait for a receiver that did not read in time, in seconds.
SLOW_SECONDS = 60.0
# How many bytes of events are sent to one receiver together, and to all receivers in one loop turn.
MAX_BATCH_BYTES = 64 * 1024
MAX_TURN_BYTES = 4 * 1024 * 1024
# The most events of a channel that may wait.
MAX_EVENTS = 5_000


class _Event(NamedTuple):
    joined: bool
    seat: Seat


class Announcer:
    """The members of one channel on this node, and the events that wait to be sent to them.

    Args:
        current: the seats of the channel, which the roster keeps up to date.
        max_waiting_bytes: the backlog above which events wait for a receiver.
        events: what the members get.
    """

    def __init__(self, current: SeatList, max_waiting_bytes: int, events: PresenceEvents) -> None:
        self._events = events
        self._current = current
        self._max_waiting_bytes = max_waiting_bytes
        self._newcomers: dict[Member, tuple[float, Identity]] = {}  # wait for the list: since when, and as whom
        self._watchers: dict[Member, int] = {}  # have the list: after how many events they got it
        self._slow: dict[Member, float] = {}  # receivers for which events do not wait: until when
        self._happened = 0
        self._unsent: deque[_Event] = deque()
        self._sent = SeatList()  # the list after the last event that was sent
        self._moments: deque[float] = deque(maxlen=CROWD_EVENTS + 1)
        self._task: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether members join and leave faster than the events can be sent."""
        return len(self._unsent) >= MAX_EVENTS

    def watch(self, member: Member, identity: Identity) -> None:
        """Send a member the list, and every later event. Harmless if the member already has the list."""
        if member in self._watchers or member in self._newcomers:
            return
        self._newcomers[member] = asyncio.get_running_loop().time(), identity
        self._wake()

    def leave(self, member: Member) -> None:
        """Stop sending to a member."""
        self._watchers.pop(member, None)
        self._newcomers.pop(member, None)
        self._slow.pop(member, None)

    def report(self, seat: Seat, *, joined: bool) -> None:
        """Report a join or leave to every member."""
        self._happened += 1
        self._unsent.append(_Event(joined, seat))
        self._moments.append(asyncio.get_running_loop().time())
        self._wake()

    def _wake(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        """Send everything that waits, in order."""
        try:
            while self._unsent or self._newcomers:
                if self._unsent:
                    await self._until_read()
                    await self._send_events()
                if self._newcomers and not self._is_crowded():
                    await self._welcome()
                elif self._newcomers and not self._unsent:
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            self._task = None

    def _is_crowded(self) -> bool:
        if len(self._current) <= CROWD_MEMBERS or len(self._moments) <= CROWD_EVENTS:
            return False
        now = asyncio.get_running_loop().time()
        max_wait = min(WAIT_SECONDS + len(self._current) * WAIT_SECONDS_PER_MEMBER, MAX_WAIT_SECONDS)
        since, _ = next(iter(self._newcomers.values()))
        return now - self._moments[0] < MOMENT_SECONDS and now - since < max_wait

    async def _until_read(self) -> None:
        """Wait until the receivers have read most of their backlogs, but not longer than the limit."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + MAX_PAUSE_SECONDS
        while behind := [
            member
            for member in self._watchers
            if member.outlet.waiting_bytes() > self._max_waiting_bytes and self._slow.get(member, 0) < loop.time()
        ]:
            if loop.time() > deadline:
                self._slow.update(dict.fromkeys(behind, loop.time() + SLOW_SECONDS))
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _send_events(self) -> None:
        """Send the next events, as many as fit into one batch."""
        if not self._watchers:
            while self._unsent:
                self._next_event()
            return
        sent = self._happened - len(self._unsent)
        messages: list[Message] = []
        size = 0
        while self._unsent and size < MAX_BATCH_BYTES:
            messages.append(self._events.change_message(*self._next_event()))
            size += len(messages[-1].wire)
        batches: dict[int, Batch] = {}
        async for member in _in_turns(self._watchers, size):
            # If a member got its list after some of these events, send it only the later ones.
            known = max(self._watchers.get(member, self._happened) - sent, 0)
            if known < len(messages):
                if known not in batches:
                    batches[known] = Batch(messages[known:])
                member.outlet.deliver(batches[known])

    def _next_event(self) -> tuple[bool, Identity, list[Identity]]:
        """Remove the next event. Return whether it is a join, the member, and the list after the event."""
        joined, seat = self._unsent.popleft()
        if joined:
            self._sent.put(seat)
        else:
            del self._sent[seat.identity.uuid]
        return joined, seat.identity, self._sent.identities()

    async def _welcome(self) -> None:
        """Send the list to the newcomers."""
        welcomed, self._newcomers = self._newcomers, {}
        self._watchers.update(dict.fromkeys(welcomed, self._happened))
        identities = self._current.identities()
        members = self._events.list_message(identities)
        async for member in _in_turns(welcomed, len(members.wire)):
            if member not in self._watchers:
                continue  # it has left
            if member.echo:
                _, identity = welcomed[member]
                member.welcome(Batch([members, self._events.change_message(True, identity, identities)]))
            else:
                member.welcome(members)


async def _in_turns(members: Iterable[Member], size: int) -> AsyncIterator[Member]:
    """Yield members that get `size` bytes each, and let other tasks run in between."""
    per_turn = max(MAX_TURN_BYTES // max(size, 1), 1)
    for number, member in enumerate(list(members), 1):
        yield member
        if number % per_turn == 0:
            await asyncio.sleep(0)
