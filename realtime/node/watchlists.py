"""Which users of Pusher's protocol are online, for those who have them in their watchlists. Loop thread only.

A user is online while it is signed in on at least one connection of any node. When this changes on one node, it tells
the nodes with watchers to count the connections of the user. They also count from time to time by themselves, which
finds what a node that has died did not tell.

All this is an option of the cluster. If somebody switches it, users who have signed in before take part soon, or no
longer.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from realtime.base import tasks
from realtime.base.tasks import KeptTask
from realtime.cluster.bus import Bus
from realtime.cluster.connection_counts import ConnectionCounts
from realtime.node.connections import Connection
from realtime.protocols.channels import Channel
from realtime.protocols.pusher_channels import path_of_user
from realtime.protocols.pusher_frames import watchlist_events

CHANGED = "user.changed"
"""The type of the event with which a node tells that a user may have come or gone."""
SETTLE_SECONDS = 0.1
"""How long the nodes with watchers gather changes before they count."""
COUNT_AGAIN_SECONDS = 10.0
"""How often the nodes with watchers count by themselves, and look whether the option was switched."""
_PER_TURN = 500


class _Watched:
    """A user whom connections of this node watch."""

    __slots__ = ("channel", "group", "is_looking", "is_online", "user_id", "users", "watchers")

    def __init__(self, channel: Channel, user_id: str) -> None:
        self.channel = channel
        self.user_id = user_id
        self.group = _group_of(channel)
        self.is_online = False
        self.is_looking = False
        self.watchers: dict[Connection, None] = {}
        self.users = 0
        """How many connections have it in their watchlists, including those that wait for their first events."""


class _Visit:
    """A connection on which a user has signed in."""

    __slots__ = ("channel", "is_counted", "user_ids", "watched")

    def __init__(self, channel: Channel, user_ids: Sequence[str]) -> None:
        self.channel = channel
        """Where the connections of the user are counted."""
        self.user_ids = user_ids
        """The watchlist."""
        self.is_counted = False
        """Whether the option is on."""
        self.watched: list[_Watched] = []


class Watchlists:
    """The signed-in connections of this node, and the users whom they watch.

    Args:
        bus: sends events to other nodes.
        counts: counts the connections of each user.
    """

    def __init__(self, bus: Bus, counts: ConnectionCounts) -> None:
        self._bus = bus
        self._counts = counts
        self._watched: dict[Channel, _Watched] = {}
        self._visits: dict[Connection, _Visit] = {}
        self._counting = KeptTask("counting watched users", self._count_again)

    def start(self) -> None:
        """Start to count from time to time."""
        self._counting.start()

    async def stop(self) -> None:
        """Stop counting."""
        await self._counting.stop()

    def sign_in(self, connection: Connection, user_id: str, watchlist: Sequence[str]) -> None:
        """Note who has signed in on a connection, until it leaves, and send it which users of its watchlist are online.

        Args:
            connection: the connection.
            user_id: the user who has signed in.
            watchlist: the users whom it watches.
        """
        self.leave(connection)
        visit = _Visit((connection.access.cluster_pk, path_of_user(user_id)), watchlist)
        self._visits[connection] = visit
        if connection.access.sends_watchlist_events:
            self._begin(visit)
            tasks.run_and_keep(self._watch(connection, visit))

    def leave(self, connection: Connection) -> None:
        """Forget a connection. Harmless if nobody has signed in on it."""
        visit = self._visits.pop(connection, None)
        if visit is not None and visit.is_counted:
            self._end(connection, visit)

    def _begin(self, visit: _Visit) -> None:
        visit.is_counted = True
        self._counts.subscribe(visit.channel)
        if self._counts.count_here(visit.channel) == 1:
            self._tell(visit.channel)

    def _end(self, connection: Connection, visit: _Visit) -> None:
        visit.is_counted = False
        self._counts.unsubscribe(visit.channel)
        if not self._counts.count_here(visit.channel):
            self._tell(visit.channel)
        watched, visit.watched = visit.watched, []
        for user in watched:
            user.watchers.pop(connection, None)
            user.users -= 1
            if not user.users:
                del self._watched[user.channel]
                self._bus.leave(user.group)

    async def _watch(self, connection: Connection, visit: _Visit) -> None:
        """Send a connection which users of its watchlist are online, now and whenever that changes."""
        if not (visit.user_ids and visit.is_counted):
            return
        watched: list[_Watched] = []
        visit.watched = watched
        joins = []
        for user_id in visit.user_ids:
            channel = connection.access.cluster_pk, path_of_user(user_id)
            user = self._watched.get(channel)
            if user is None:
                user = self._watched[channel] = _Watched(channel, user_id)
                joins.append(self._bus.join(user.group))
            user.users += 1
            watched.append(user)
        await asyncio.gather(*joins)
        await asyncio.gather(*map(self._count, watched))
        if visit.watched is not watched:
            return  # the connection has left, or the option was switched off
        users: dict[bool, list[str]] = {True: [], False: []}
        for user in watched:
            user.watchers[connection] = None
            users[user.is_online].append(user.user_id)
        connection.outlet.deliver(watchlist_events(online=users[True], offline=users[False]))

    def receive(self, event: dict[str, Any]) -> None:
        """Receive an event of this module, from any node."""
        user = self._watched.get((event["cluster_pk"], event["path"]))
        if user is not None and not user.is_looking:
            user.is_looking = True
            asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._look, user)

    def _tell(self, channel: Channel) -> None:
        event = {"type": CHANGED, "cluster_pk": channel[0], "path": channel[1]}
        # The nodes with watchers count when they have received it.
        self._counts.after_write(channel, partial(self._bus.send, _group_of(channel), event))

    def _look(self, user: _Watched) -> None:
        user.is_looking = False
        self._counts.count(user.channel, partial(self._note, user))

    async def _count(self, user: _Watched) -> None:
        counted: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._counts.count(user.channel, counted.set_result)
        self._note(user, await counted)

    def _note(self, user: _Watched, connections: int) -> None:
        is_online = connections > 0
        if is_online == user.is_online:
            return
        user.is_online = is_online
        ids = [user.user_id]
        message = watchlist_events(online=ids) if is_online else watchlist_events(offline=ids)
        for connection in user.watchers:
            connection.outlet.deliver(message)

    async def _count_again(self) -> None:
        while True:
            await asyncio.sleep(COUNT_AGAIN_SECONDS)
            await self._switch_all()
            await self._count_all()

    async def _switch_all(self) -> None:
        """Begin or end to count the connections of each cluster whose option was switched."""
        begun: list[tuple[Connection, _Visit]] = []
        for number, (connection, visit) in enumerate(list(self._visits.items()), 1):
            is_on = connection.access.sends_watchlist_events
            if visit.is_counted != is_on and self._visits.get(connection) is visit:
                if is_on:
                    self._begin(visit)
                    begun.append((connection, visit))
                else:
                    self._end(connection, visit)
            if number % _PER_TURN == 0:
                await asyncio.sleep(0)
        # Not before all of them are counted, so that they find each other online.
        for connection, visit in begun:
            await self._watch(connection, visit)

    async def _count_all(self) -> None:
        """Count all watched users once. A coroutine of its own, so that none of them is kept afterwards."""
        for number, user in enumerate(list(self._watched.values()), 1):
            self._look(user)
            if number % _PER_TURN == 0:
                await asyncio.sleep(0)


def _group_of(channel: Channel) -> str:
    return f"user.{hashlib.sha256(f'{channel[0]}:{channel[1]}'.encode(errors='surrogatepass')).hexdigest()}"
