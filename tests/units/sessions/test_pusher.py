"""Hostile frames on connections of Pusher's protocol: none raises, and nothing is left when the connections end."""

import asyncio
import json
import random
from dataclasses import replace
from typing import Any

from realtime.node.node import Node
from realtime.protocols.closes import Close
from realtime.protocols.frames import Batch, Frames, Message
from realtime.protocols.pusher_closes import tell_pusher
from realtime.protocols.pusher_handshake import read_pusher
from realtime.protocols.pusher_signatures import sign
from realtime.sessions.pusher import Pusher
from tests.units.protocols.test_admission import ACCESS

FRAMES = 20_000
CHANNELS = ("a", "private-a", "presence-a", "presence-cache-a", "cache-a", "private-encrypted-a", "#server-to-user-1")
ODD: tuple[Any, ...] = (None, 1, -1e300, "", "x" * 300, [], {}, "\u0000", "é", True, "[" * 2_000, {"a": [{}]})


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


async def connect(node: Node) -> Pusher:
    access = replace(ACCESS, quotas=replace(ACCESS.quotas, messages_per_second=1_000_000))
    scope = {"path": f"/app/{access.public_key}", "query_string": b"protocol=7", "headers": []}
    connection = node.open(read_pusher(scope, []).decide(access), Outlet(), None)
    session = Pusher(node, connection)
    await node.join(connection, accept)
    session.open()
    return session


def frame_for(session: Pusher, chance: random.Random) -> str | bytes:
    """Return a frame that is valid, or nearly."""

    def pick(*values: Any) -> Any:
        return chance.choice(values) if chance.random() < 0.8 else chance.choice(ODD)

    channel, member = chance.choice(CHANNELS), json.dumps({"user_id": pick("1", "2"), "user_info": pick(None, {})})
    key, secret = session.connection.access.public_key, session.connection.access.secret or ""
    text = f"{session.connection.socket_id}:{channel}" + (f":{member}" if channel.startswith("presence") else "")
    subscription = {"channel": pick(channel), "auth": pick(f"{key}:{sign(secret, text)}"), "channel_data": pick(member)}
    user = json.dumps({"id": pick("1")})
    content = {
        "event": pick("pusher:subscribe", "pusher:unsubscribe", "client-x", "pusher:ping", "pusher:signin"),
        "channel": pick(channel, None),
        "data": pick(
            subscription,
            json.dumps(subscription),
            {"auth": f"{key}:{sign(secret, f'{session.connection.socket_id}::user::{user}')}", "user_data": user},
        ),
    }
    frame = json.dumps(pick(content))
    if chance.random() < 0.1:
        return frame[: chance.randrange(len(frame) + 1)]
    return frame.encode() if chance.random() < 0.05 else frame


async def test_hostile_frames_raise_nothing_and_leave_nothing() -> None:
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
    assert subscribed >= 4, "most channels were joined in between"
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
