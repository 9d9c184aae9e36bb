"""Hostile frames on the connections of a node."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from realtime.node.node import Node
from realtime.protocols.closes import Close
from realtime.protocols.frames import Batch, Frames, Message
from realtime.protocols.pusher_closes import tell_pusher
from realtime.sessions.base import Session
from tests.units.protocols.test_admission import ACCESS

FRAMES = 20_000
ODD: tuple[Any, ...] = (None, 1, -1e300, "", "x" * 300, [], {}, "\u0000", "é", True, "[" * 2_000, {"a": [{}]})

S = TypeVar("S", bound=Session)


class Outlet:
    """A client that reads everything at once."""

    client_code = None
    is_gone = False
    tell = staticmethod(tell_pusher)

    def deliver(self, batch: Message | Frames | Batch) -> None:
        for message in batch.messages:
            json.loads(message.data)

    def waiting_bytes(self) -> int:
        return 0

    def close(self, close: Close) -> None: ...

    def open(self, *, discard: bool = False) -> None: ...

    def limit_messages(self, max_message_bytes: int) -> None: ...

    def stop(self) -> None: ...


async def accept() -> None: ...


async def send_hostile_frames(
    connect: Callable[[Node], Awaitable[S]], frame_for: Callable[[S, random.Random], str | bytes]
) -> int:
    """Send frames on a few connections, check that they leave nothing behind, and return the most subscriptions of one.

    Args:
        connect: opens a connection to a node.
        frame_for: returns a frame for a connection.
    """
    chance = random.Random(18)
    node = Node()
    node.bus.start()
    sessions = [await connect(node) for _ in range(3)]
    subscribed = 0
    for number in range(FRAMES):
        index = chance.randrange(len(sessions))
        session = sessions[index]
        session.receive(frame_for(session, chance))
        subscribed = max(subscribed, len(session.connection.subscriptions))
        if session.connection.ended is not None or chance.random() < 0.002:
            session.leave()
            sessions[index] = await connect(node)
        if number % 20 == 0:
            await asyncio.sleep(0)
    for session in sessions:
        session.leave()
    assert not node.connections
    assert not node.sockets
    assert not node.hub.rooms
    assert not node.users._connections
    await asyncio.sleep(0)
    assert await node.counts.of_cluster(ACCESS.cluster_pk) == {}
    assert node.presence._rosters == {}
    await node.bus.stop()
    return subscribed
