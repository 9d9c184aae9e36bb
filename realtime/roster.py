"""Who takes part in one channel, and the events that tell it (the wire contract, *Presence*). Loop thread only.

Every event carries the whole list, and every member gets every event: a thousand members who come one after the other
would cost 22 GB of them. So while a crowd comes in, who comes waits for its own list until that is over, and until then
is told nothing: each gets one list, and only who was there before gets an event for each. Events wait for their
receivers, so that they alone never make a client too slow.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from .closes import OVER_CAPACITY, TOO_MANY_MEMBERS, Refusal
from .frames import Batch, Message, compact_json
from .hub import Member

# A crowd: in a channel with more members than this, more events than this in a moment of so many seconds.
CROWD_MEMBERS = 8
CROWD_EVENTS = 5
MOMENT_SECONDS = 0.1
# How long a member at most waits for its list while a crowd comes in, in seconds: longer the more are there.
WAIT_SECONDS = 1.0
WAIT_SECONDS_EACH = 0.005
MAX_WAIT_SECONDS = 5.0
# How long events wait for a receiver that does not read, in seconds, and how often they look.
MAX_PAUSE_SECONDS = 1.0
# How long a receiver for which they waited in vain is not waited for again, in seconds.
SLOW_SECONDS = 60.0
POLL_SECONDS = 0.01
# How many bytes of events go to one receiver at once, and to all of them before others have their turn on the loop.
MAX_BATCH_BYTES = 64 * 1024
MAX_TURN_BYTES = 4 * 1024 * 1024
# How many events of a channel may wait to be told.
MAX_EVENTS = 5_000


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


class Seat(NamedTuple):
    """That somebody takes part: once for each connection with presence."""

    node_id: str
    """Where the connection is."""
    number: int
    """Of the connection there."""
    place: int
    """Lists are sorted by it, on all nodes alike."""
    identity: Identity

    @property
    def id(self) -> "SeatId":
        """What tells it from all others."""
        return self.node_id, self.number


SeatId = tuple[str, int]


class _Event(NamedTuple):
    joined: bool
    seat: Seat


class _List(dict[str, Seat]):
    """Seats by their uuid, sorted by place."""

    def put(self, seat: Seat) -> None:
        """Add a seat; one with the same uuid goes."""
        self.pop(seat.identity.uuid, None)
        last = next(reversed(self.values()), None)
        self[seat.identity.uuid] = seat
        if last is not None and last.place > seat.place:
            items = sorted(self.items(), key=lambda item: item[1].place)
            self.clear()
            self.update(items)

    def identities(self) -> list[Identity]:
        return [seat.identity for seat in self.values()]


class Roster:
    """Who takes part in one channel, on whatever node, and what those of them who are here have to be told."""

    def __init__(self, max_backlog_bytes: int) -> None:
        """
        Args:
            max_backlog_bytes: for how much waiting a connection is given up; presence alone never brings it to that.
        """
        self._max_waiting_bytes = max_backlog_bytes // 4
        self._max_list_bytes = max_backlog_bytes // 2
        self._seats: dict[SeatId, Seat] = {}
        self._by_uuid: dict[str, list[Seat]] = {}
        self._list = _List()
        self._size = 0  # of all identities, in bytes
        self._waiting: dict[Member, tuple[float, Identity]] = {}  # for the list, since when and as whom
        self._watchers: dict[Member, int] = {}  # who have it, and after how many events they got it
        self._slow: dict[Member, float] = {}  # for whom events do not wait, until when
        self._happened = 0
        self._untold: deque[_Event] = deque()
        self._told = _List()  # as it was after the last event that was told
        self._moments: deque[float] = deque(maxlen=CROWD_EVENTS + 1)
        self._teller: asyncio.Task[None] | None = None

    def check_room(self, identity: Identity) -> None:
        """
        Raises:
            Refusal: members come and go faster than the others can be told, or the list would be too large to be sent.
        """
        if len(self._untold) >= MAX_EVENTS:
            raise Refusal(OVER_CAPACITY)
        if self._size + identity.size > self._max_list_bytes:
            raise Refusal(TOO_MANY_MEMBERS)

    def seats(self) -> list[Seat]:
        """Who takes part, as far as this node knows."""
        return list(self._seats.values())

    def take(self, seat: Seat) -> None:
        """Add a seat, and have the others told. Harmless if it is there already.

        Of several with one uuid, the last to come is listed.
        """
        if seat.id in self._seats:
            return
        self._seats[seat.id] = seat
        same = self._by_uuid.setdefault(seat.identity.uuid, [])
        same.append(seat)
        same.sort(key=lambda seat: seat.place)
        self._size += seat.identity.size
        if same[-1] is seat:
            self._list.put(seat)
            self._note(_Event(True, seat))

    def give_up(self, seat_id: SeatId) -> None:
        """Remove a seat, and have the others told: that it is gone, or who comes back behind it with the same uuid.

        Harmless if it is not there.
        """
        seat = self._seats.pop(seat_id, None)
        if seat is None:
            return
        same = self._by_uuid[seat.identity.uuid]
        was_listed = same[-1] is seat
        same.remove(seat)
        self._size -= seat.identity.size
        if not same:
            del self._by_uuid[seat.identity.uuid], self._list[seat.identity.uuid]
            self._note(_Event(False, seat))
        elif was_listed:
            self._list.put(same[-1])
            self._note(_Event(True, same[-1]))

    def watch(self, member: Member, identity: Identity) -> None:
        """Give a member the list, and from then on every event. Harmless if it has it already."""
        if member in self._watchers or member in self._waiting:
            return
        self._waiting[member] = asyncio.get_running_loop().time(), identity
        self._wake()

    def leave(self, member: Member) -> None:
        """Tell a member nothing more."""
        self._watchers.pop(member, None)
        self._waiting.pop(member, None)
        self._slow.pop(member, None)

    def _note(self, event: _Event) -> None:
        self._happened += 1
        self._untold.append(event)
        self._moments.append(asyncio.get_running_loop().time())
        self._wake()

    def _wake(self) -> None:
        if self._teller is None:
            self._teller = asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        """Tell all that there is to tell, in order."""
        try:
            while self._untold or self._waiting:
                if self._untold:
                    await self._until_read()
                    await self._tell_watchers()
                if self._waiting and not self._is_crowded():
                    await self._welcome()
                elif self._waiting and not self._untold:
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            self._teller = None

    def _is_crowded(self) -> bool:
        if len(self._list) <= CROWD_MEMBERS or len(self._moments) <= CROWD_EVENTS:
            return False
        now = asyncio.get_running_loop().time()
        longest = min(WAIT_SECONDS + len(self._list) * WAIT_SECONDS_EACH, MAX_WAIT_SECONDS)
        since, _ = next(iter(self._waiting.values()))
        return now - self._moments[0] < MOMENT_SECONDS and now - since < longest

    async def _until_read(self) -> None:
        """Wait until receivers have read most of what they were sent, but for none of them for ever."""
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

    async def _tell_watchers(self) -> None:
        """Send the next events, as many as go together."""
        if not self._watchers:
            while self._untold:
                self._next_list()
            return
        told = self._happened - len(self._untold)
        messages: list[Message] = []
        size = 0
        while self._untold and size < MAX_BATCH_BYTES:
            messages.append(_change(*self._next_list()))
            size += len(messages[-1].wire)
        batches: dict[int, Batch] = {}
        async for member in _in_turns(self._watchers, size):
            # Who got its list after some of these events gets the others alone.
            known = max(self._watchers.get(member, self._happened) - told, 0)
            if known < len(messages):
                if known not in batches:
                    batches[known] = Batch(messages[known:])
                member.outlet.deliver(batches[known])

    def _next_list(self) -> tuple[bool, Identity, list[Identity]]:
        """The next event that nobody was told of: whether it is a join, whose, and the list after it."""
        joined, seat = self._untold.popleft()
        if joined:
            self._told.put(seat)
        else:
            del self._told[seat.identity.uuid]
        return joined, seat.identity, self._told.identities()

    async def _welcome(self) -> None:
        """Give the list to those who wait for it."""
        welcomed, self._waiting = self._waiting, {}
        self._watchers.update(dict.fromkeys(welcomed, self._happened))
        identities = self._list.identities()
        members = Message(f'{{"event":"system:member_list","data":{{"members":{_list(identities)}}}}}')
        async for member in _in_turns(welcomed, len(members.wire)):
            if member not in self._watchers:
                continue  # it left meanwhile
            if member.echo:
                _, identity = welcomed[member]
                member.outlet.deliver(Batch([members, _change(True, identity, identities)]))
            else:
                member.outlet.deliver(members)


def _change(joined: bool, identity: Identity, identities: Iterable[Identity]) -> Message:
    name = "joined" if joined else "left"
    data = f'{{"member":{identity.json},"members":{_list(identities)}}}'
    return Message(f'{{"event":"system:member_{name}","data":{data}}}')


def _list(identities: Iterable[Identity]) -> str:
    return f"[{','.join([identity.json for identity in identities])}]"


async def _in_turns(members: Iterable[Member], size: int) -> AsyncIterator[Member]:
    """Members who are sent so many bytes each; between some and the next, others have their turn on the loop."""
    together = max(MAX_TURN_BYTES // max(size, 1), 1)
    for number, member in enumerate(list(members), 1):
        yield member
        if number % together == 0:
            await asyncio.sleep(0)
