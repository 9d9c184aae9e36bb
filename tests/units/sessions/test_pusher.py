"""Connections of Pusher's protocol, without a server: hostile frames, and what changes while they subscribe."""

import json
import random
from dataclasses import replace
from typing import Any

from realtime.node.node import Node
from realtime.protocols.frames import Batch, Frames, Message
from realtime.protocols.pusher_handshake import read_pusher
from realtime.protocols.pusher_signatures import sign
from realtime.sessions.pusher import Pusher
from tests.clients import until
from tests.units.protocols.test_admission import ACCESS
from tests.units.sessions.hostile import ODD, Outlet, accept, send_hostile_frames

CHANNELS = ("a", "private-a", "presence-a", "presence-cache-a", "cache-a", "private-encrypted-a", "#server-to-user-1")


class ReadingOutlet(Outlet):
    """A client that remembers the frames that it gets."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []

    def deliver(self, batch: Message | Frames | Batch) -> None:
        self.frames += [json.loads(message.data) for message in batch.messages]


async def connect(node: Node, outlet: Outlet | None = None, messages_per_second: int = 1_000_000) -> Pusher:
    access = replace(ACCESS, quotas=replace(ACCESS.quotas, messages_per_second=messages_per_second))
    scope = {"path": f"/app/{access.public_key}", "query_string": b"protocol=7", "headers": []}
    connection = node.open(read_pusher(scope, []).decide(access), outlet or Outlet(), None)
    session = Pusher(node, connection)
    await node.join(connection, accept)
    session.open()
    return session


def subscribe(session: Pusher, channel: str, member: str = "") -> None:
    """Subscribe to a channel, as a member if it has presence."""
    text = f"{session.connection.socket_id}:{channel}" + (f":{member}" if member else "")
    auth = f"{session.connection.access.public_key}:{sign(session.connection.access.secret or '', text)}"
    data = {"channel": channel, "auth": auth, "channel_data": member or None}
    session.receive(json.dumps({"event": "pusher:subscribe", "data": data}))


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


async def test_a_key_that_begins_to_protect_channels_refuses_the_public_ones_that_are_being_joined() -> None:
    node, outlet = Node(), ReadingOutlet()
    session = await connect(node, outlet)
    for channel in ("public", "private-a"):
        subscribe(session, channel)  # which waits for the node to start
    session.connection.apply_settings(replace(session.connection.access, protects_channels=True))
    node.bus.start()
    await until(lambda: len(outlet.frames) == 3)
    answers = {frame["channel"]: frame["event"] for frame in outlet.frames[1:]}
    assert answers == {
        "public": "pusher:subscription_error",
        "private-a": "pusher_internal:subscription_succeeded",
    }
    assert [each.room.channel[1] for each in session.connection.subscriptions.values()] == ["pusher:private-a"]
    session.leave()
    await node.bus.stop()


async def test_repeated_subscriptions_to_a_presence_channel_cost_as_much_as_messages() -> None:
    node, outlet = Node(), ReadingOutlet()
    node.bus.start()
    session = await connect(node, outlet, messages_per_second=20)
    member = '{"user_id":"1"}'
    subscribe(session, "presence-a", member)
    await until(lambda: len(outlet.frames) == 2)
    for _ in range(100):
        subscribe(session, "presence-a", member)
    await until(lambda: len(outlet.frames) == 102)
    refused = [frame["data"]["status"] for frame in outlet.frames if frame["event"] == "pusher:subscription_error"]
    assert len(refused) > 20
    assert set(refused) == {429}
    session.leave()
    await node.bus.stop()


async def test_events_that_clients_may_not_send_are_counted() -> None:
    node, outlet = Node(), ReadingOutlet()
    session = await connect(node, outlet)
    for event, channel in (("client-x", "public"), (f"client-{'x' * 194}", "private-a")):
        session.receive(json.dumps({"event": event, "channel": channel, "data": 1}))
    assert node.counters.refused_messages == {"bad_event": 2}
    assert [frame["event"] for frame in outlet.frames[1:]] == ["pusher:error"] * 2
    session.leave()
