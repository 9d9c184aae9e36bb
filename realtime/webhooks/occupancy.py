"""Which channels are occupied, and who takes part in their presence, for webhooks. Loop thread only.

What each webhook was told last is in the database, and only a difference is reported. So it does not matter which node
notices a change, or whether several do. A connection that joins proves that its channel is occupied, and its member is
there. What a connection has left is gone if no node has another such connection some seconds later. One node also
compares everything regularly, which finds the channels and members of nodes that have died.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from django.db import DataError

from accounts.webhooks.states import MEMBER_KINDS, Endpoint, Endpoints, Subject
from realtime.base.errors import first_line
from realtime.cluster.connection_counts import ConnectionCounts
from realtime.presence.local import Presence
from realtime.protocols.channels import Channel, is_channel
from realtime.protocols.presence import user_id_of
from realtime.protocols.pusher_channels import group_of_path

logger = logging.getLogger(__name__)

ABSENT_SECONDS = 3.0
"""How long a channel is empty, or a member away, until this is reported."""
COMPARE_SECONDS = 10.0
COUNT_SECONDS = 3.0
_AT_ONCE = 1_000
_SUBJECTS_PER_TURN = 1_000


class _Key(NamedTuple):
    cluster_pk: int
    subject: Subject


class Record(Protocol):
    """Tells the webhooks of a cluster what is present now, or gone."""

    def __call__(self, cluster_pk: int, subjects: Iterable[Subject], *, is_present: bool) -> Awaitable[None]: ...


class Occupancy:
    """The channels and members of this node whose state may have changed."""

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        node_id: str,
        endpoints: Endpoints,
        counts: ConnectionCounts,
        presence: Presence,
        record: Record,
        told: Callable[[int], Awaitable[list[tuple[int, Subject]]]],
    ) -> None:
        """
        Args:
            node_id: the ID of this node.
            endpoints: the current webhooks, which somebody else keeps up to date.
            counts: counts connections on all nodes.
            presence: knows the members of channels on all nodes.
            record: tells webhooks what is present or gone.
            told: returns what webhooks of a cluster believe to be present.
        """
        self._node_id = node_id
        self._endpoints = endpoints
        self._counts = counts
        self._presence = presence
        self._record = record
        self._told = told
        self._joined: set[_Key] = set()
        self._left: dict[_Key, float] = {}  # and when to look for them
        self._known: set[_Key] = set()  # present, and recorded
        # Not immediately: after a restart, clients need a moment to connect again.
        self._compare_at = time.monotonic() + COMPARE_SECONDS

    def join(self, channel: Channel) -> None:
        """Note that a connection has joined a channel of a cluster with webhooks."""
        self._join(_Key(channel[0], Subject(channel[1])))

    def leave(self, channel: Channel) -> None:
        """Note that a connection has left a channel of a cluster with webhooks."""
        if not self._counts.count_here(channel):
            self._leave(_Key(channel[0], Subject(channel[1])))

    def join_member(self, channel: Channel, uuid: str) -> None:
        """Note that a connection takes part in the presence of a channel whose cluster reports members."""
        self._join(_Key(channel[0], Subject(channel[1], user_id_of(uuid))))

    def leave_member(self, channel: Channel, uuid: str) -> None:
        """Note that a connection has left the presence of a channel; its member may have others."""
        self._leave(_Key(channel[0], Subject(channel[1], user_id_of(uuid))))

    def _join(self, key: _Key) -> None:
        self._left.pop(key, None)
        if key not in self._known:
            self._joined.add(key)

    def _leave(self, key: _Key) -> None:
        self._known.discard(key)
        self._left[key] = time.monotonic() + ABSENT_SECONDS

    def change_endpoints(self) -> None:
        """Compare everything soon, because the webhooks have changed."""
        self._known.clear()
        self._compare_at = min(self._compare_at, time.monotonic() + 1)

    async def write(self) -> None:
        """Report what has changed.

        Raises:
            django.db.Error: it is reported later.
        """
        joined, self._joined = self._joined, set()
        try:
            await self._write(joined, is_present=True)
        except BaseException:
            self._joined |= joined
            raise
        self._known |= joined - self._left.keys()
        now = time.monotonic()
        due = [key for key, at in self._left.items() if at <= now][:_AT_ONCE]
        # A webhook hears of the members of a channel before it hears that the channel is empty.
        await self._write_absent([key for key in due if key.subject.user_id], self._absent_members, now)
        await self._write_absent([key for key in due if not key.subject.user_id], self._empty_channels, now)
        if now >= self._compare_at:
            self._compare_at = now + COMPARE_SECONDS
            await self._compare()

    async def _write_absent(
        self, due: list[_Key], find: Callable[[list[_Key]], Awaitable[set[_Key] | None]], now: float
    ) -> None:
        if not due or (absent := await find(due)) is None:
            return
        # Those that were joined in the meantime are no longer among the left ones.
        await self._write(absent & self._left.keys(), is_present=False)
        for key in due:
            # It may have been left again in the meantime.
            if self._left.get(key, now + 1) <= now:
                del self._left[key]

    async def _write(self, keys: Iterable[_Key], *, is_present: bool) -> None:
        by_cluster: dict[int, list[Subject]] = {}
        for cluster_pk, subject in keys:
            if any(_wants(endpoint, subject) for endpoint in self._endpoints.get(cluster_pk, ())):
                by_cluster.setdefault(cluster_pk, []).append(subject)
        for cluster_pk, subjects in by_cluster.items():
            try:
                await self._record(cluster_pk, subjects, is_present=is_present)
            except DataError as error:  # trying again would fail again, and delay the webhooks of all others
                sentence = "The webhooks of cluster %d miss %d change%s of channels, which cannot be stored: %s"
                number = len(subjects)
                logger.error(sentence, cluster_pk, number, "s" if number > 1 else "", first_line(error))

    async def _empty_channels(self, keys: list[_Key]) -> set[_Key] | None:
        """Return the channels without connections on any node; None if not all nodes can be counted now."""
        counted: dict[_Key, int] = {}
        done = asyncio.Event()

        def note(key: _Key, connections: int) -> None:
            counted[key] = connections
            if len(counted) == len(keys):
                done.set()

        for key in keys:
            self._counts.count((key.cluster_pk, key.subject.channel), partial(note, key))
        try:
            async with asyncio.timeout(COUNT_SECONDS):
                await done.wait()
        except TimeoutError:
            return None
        if not self._counts.is_reachable:
            return None
        return {key for key, number in counted.items() if not number}

    async def _absent_members(self, keys: list[_Key]) -> set[_Key] | None:
        """Return the members without connections on any node; None if not all nodes can be asked now."""
        absent: set[_Key] = set()
        by_channel: dict[Channel, set[_Key]] = {}
        for key in keys:
            by_channel.setdefault((key.cluster_pk, key.subject.channel), set()).add(key)
        for cluster_pk in {key.cluster_pk for key in keys}:
            endpoints = self._endpoints.get(cluster_pk)
            if not endpoints:
                continue
            paths = [path for pk, path in by_channel if pk == cluster_pk]
            members = await self._members(endpoints[0].cluster_id, paths)
            if members is None:
                return None
            absent |= {key for path in paths for key in by_channel[cluster_pk, path] if key.subject not in members}
        return absent

    async def _members(self, cluster_id: str, paths: Sequence[str]) -> set[Subject] | None:
        """Return the members of channels on all nodes; None if not all nodes can be asked now."""
        found = await self._presence.uuids([group_of_path(cluster_id, path) for path in paths])
        if found is None:
            return None
        return {Subject(path, user_id_of(uuid)) for path, uuids in zip(paths, found, strict=True) for uuid in uuids}

    async def _compare(self) -> None:
        """Find differences between all nodes and what webhooks were told, if this node is to do so."""
        nodes = await self._counts.living_nodes()
        if nodes is None or (nodes and self._node_id != min(nodes)):
            return
        for cluster_pk, endpoints in list(self._endpoints.items()):
            told = set(await self._told(cluster_pk))
            present = await self._present(cluster_pk, endpoints)
            if present is None:
                continue
            absent_at = time.monotonic() + ABSENT_SECONDS
            by_pk = {endpoint.pk: endpoint for endpoint in endpoints}
            for number, (webhook_pk, subject) in enumerate(told, 1):
                if subject not in present and webhook_pk in by_pk and _wants(by_pk[webhook_pk], subject):
                    self._left.setdefault(_Key(cluster_pk, subject), absent_at)
                if number % _SUBJECTS_PER_TURN == 0:
                    await asyncio.sleep(0)
            missing = set()
            for number, subject in enumerate(present, 1):
                if any(_wants(each, subject) and (each.pk, subject) not in told for each in endpoints):
                    missing.add(_Key(cluster_pk, subject))
                if number % _SUBJECTS_PER_TURN == 0:
                    await asyncio.sleep(0)
            await self._write(missing, is_present=True)

    async def _present(self, cluster_pk: int, endpoints: Sequence[Endpoint]) -> set[Subject] | None:
        """Return the channels and members of a cluster on all nodes; None if not all nodes can be asked now.

        The members are only those that one of the webhooks wants.
        """
        paths = [path for path in await self._counts.of_cluster(cluster_pk) if is_channel(path)]
        if not self._counts.is_reachable:
            return None
        wanted = [path for path in paths if any(each.wants(MEMBER_KINDS, path) for each in endpoints)]
        members = await self._members(endpoints[0].cluster_id, wanted)
        if members is None:
            return None
        return {*map(Subject, paths), *members}


def _wants(endpoint: Endpoint, subject: Subject) -> bool:
    return endpoint.wants(subject.kinds, subject.channel)
