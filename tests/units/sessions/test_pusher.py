"""Hostile frames on connections of Pusher's protocol: none raises, and nothing is left when the connections end."""

import json
import random
from dataclasses import replace
from typing import Any

from realtime.node.node import Node
from realtime.protocols.pusher_handshake import read_pusher
from realtime.protocols.pusher_signatures import sign
from realtime.sessions.pusher import Pusher
from tests.units.protocols.test_admission import ACCESS
from tests.units.sessions.hostile import ODD, Outlet, accept, send_hostile_frames

CHANNELS = ("a", "private-a", "presence-a", "presence-cache-a", "cache-a", "private-encrypted-a", "#server-to-user-1")


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
    assert await send_hostile_frames(connect, frame_for) >= 4, "most channels were joined in between"
