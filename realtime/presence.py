"""Who takes part in a channel, and the events that tell it (the wire contract, *Presence*). Loop thread only.

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

from .closes import OVER_CAPACITY, Refusal
from .frames import Batch, Message, compact_json
from .hub import Member

# A crowd: in a channel with more members than this, more events than this in a moment of so many seconds.
CROWD_MEMBERS = 8
CROWD_EVENTS = 5
MOMENT_SECONDS = 0.1
# How long a member at most waits for its list while a crowd comes in, in seconds: so long for each that is there.
WAIT_SECONDS_EACH = 0.005
MAX_WAIT_SECONDS = 5.0
# How long events wait for a receiver that does not read, in seconds, and how often they look.
MAX_PAUSE_SECONDS = 1.0
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

    @classmethod
    def of(cls, uuid: str, user: Any) -> "Identity":
        """
        Args:
            uuid: tells members apart.
            user: anything that JSON can say.

        Raises:
            ValueError: JSON cannot say it.
        """
        return cls(uuid, compact_json({"uuid": uuid, "user": user}))


class _Event(NamedTuple):
    joined: bool
    identity: Identity


class Roster:
    """The members of one channel in the order of joining, and what they have to be told."""

    def __init__(self, max_waiting_bytes: int) -> None:
        """
        Args:
            max_waiting_bytes: events wait for a receiver for which more waits.
        """
        self._max_waiting_bytes = max_waiting_bytes
        self._identities: dict[Member, Identity] = {}
        # Who has a place in the list: of two connections with one uuid, the later.
        self._holders: dict[str, Member] = {}
        self._waiting: dict[Member, float] = {}  # for the list, since when
        self._watchers: dict[Member, int] = {}  # who have it, and after how many events they got it
        self._slow: set[Member] = set()  # for whom events wait no longer
        self._happened = 0
        self._untold: deque[_Event] = deque()
        self._told: dict[str, Identity] = {}  # the list as it was after the last event that was told
        self._moments: deque[float] = deque(maxlen=CROWD_EVENTS + 1)
        self._teller: asyncio.Task[None] | None = None

    def join(self, member: Member, identity: Identity) -> None:
        """Add a member; it is told of the others, and the others of it. A member with its uuid gives its place to it.

        Raises:
            Refusal: members come and go faster than the others can be told.
        """
        if len(self._untold) >= MAX_EVENTS:
            raise Refusal(OVER_CAPACITY)
        self._identities[member] = identity
        self._holders[identity.uuid] = member
        self._waiting[member] = asyncio.get_running_loop().time()
        self._note(_Event(True, identity))

    def leave(self, member: Member) -> bool:
        """Remove a member, and tell the others unless another has its place; return whether nobody is left."""
        identity = self._identities.pop(member, None)
        if identity is not None:
            self._watchers.pop(member, None)
            self._waiting.pop(member, None)
            self._slow.discard(member)
            if self._holders.get(identity.uuid) is member:
                del self._holders[identity.uuid]
                self._note(_Event(False, identity))
        return not self._identities

    def _note(self, event: _Event) -> None:
        loop = asyncio.get_running_loop()
        self._happened += 1
        self._untold.append(event)
        self._moments.append(loop.time())
        if self._teller is None:
            self._teller = loop.create_task(self._tell())

    async def _tell(self) -> None:
        """Tell all that there is to tell, in order."""
        try:
            while self._untold or self._waiting:
                if self._untold:
                    await self._until_read()
                    await self._tell_watchers()
                if self._waiting and not self._is_crowded():
                    await self._welcome()
                elif not self._untold:
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            self._teller = None

    def _is_crowded(self) -> bool:
        if len(self._holders) <= CROWD_MEMBERS or len(self._moments) <= CROWD_EVENTS:
            return False
        now = asyncio.get_running_loop().time()
        longest = min(len(self._holders) * WAIT_SECONDS_EACH, MAX_WAIT_SECONDS)
        return now - self._moments[0] < MOMENT_SECONDS and now - next(iter(self._waiting.values())) < longest

    async def _until_read(self) -> None:
        """Wait until receivers have read most of what they were sent, but for none of them for ever."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + MAX_PAUSE_SECONDS
        while behind := [
            member
            for member in self._watchers
            if member.outlet.waiting_bytes() > self._max_waiting_bytes and member not in self._slow
        ]:
            if loop.time() > deadline:
                self._slow.update(behind)
                return
            await asyncio.sleep(POLL_SECONDS)
        self._slow = {member for member in self._slow if member.outlet.waiting_bytes()}

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

    def _next_list(self) -> "tuple[_Event, Iterable[Identity]]":
        """The next event that nobody was told of, and the list after it."""
        event = self._untold.popleft()
        if event.joined:
            self._told[event.identity.uuid] = event.identity
        else:
            del self._told[event.identity.uuid]
        return event, self._told.values()

    async def _welcome(self) -> None:
        """Give their list to those who wait for it."""
        welcomed, self._waiting = list(self._waiting), {}
        self._watchers.update(dict.fromkeys(welcomed, self._happened))
        identities = [self._identities[holder] for holder in self._holders.values()]
        members = Message(f'{{"event":"system:member_list","data":{{"members":{_list(identities)}}}}}')
        async for member in _in_turns(welcomed, len(members.wire)):
            if member not in self._watchers:
                continue  # it left meanwhile
            if member.echo:
                own = _change(_Event(True, self._identities[member]), identities)
                member.outlet.deliver(Batch([members, own]))
            else:
                member.outlet.deliver(members)


class Presence:
    """The rosters of this node's channels, by the channel's group."""

    def __init__(self, max_backlog_bytes: int) -> None:
        """
        Args:
            max_backlog_bytes: for how much waiting a connection is given up; events wait before it comes to that.
        """
        self._max_waiting_bytes = max_backlog_bytes // 4
        self._rosters: dict[str, Roster] = {}

    def join(self, group: str, member: Member, identity: Identity) -> None:
        """Add a member to a channel.

        Raises:
            Refusal: members of this channel come and go faster than the others can be told.
        """
        roster = self._rosters.get(group)
        if roster is None:
            roster = self._rosters[group] = Roster(self._max_waiting_bytes)
        roster.join(member, identity)

    def leave(self, group: str, member: Member) -> None:
        """Remove a member from a channel. Harmless if it is none."""
        roster = self._rosters.get(group)
        if roster is not None and roster.leave(member):
            del self._rosters[group]


def _change(event: _Event, identities: Iterable[Identity]) -> Message:
    name = "joined" if event.joined else "left"
    data = f'{{"member":{event.identity.json},"members":{_list(identities)}}}'
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
