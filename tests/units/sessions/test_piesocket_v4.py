"""Hostile frames on connections of PieSocket v4: none raises, and nothing is left when the connections end."""

import json
import random
from dataclasses import replace
from typing import Any

from realtime.node.node import Node
from realtime.protocols.closes import TOO_FAST, tell_piesocket
from realtime.protocols.tokens import sign
from realtime.protocols.v4_admission import read_v4
from realtime.protocols.v4_frames import CHANNEL
from realtime.sessions.piesocket_v4 import PieSocketV4
from tests.clients import until
from tests.units.protocols.test_admission import ACCESS
from tests.units.sessions.hostile import ODD, Outlet, accept, send_hostile_frames

DEEP = json.loads("[" * 120 + "]" * 120)
CHANNELS: tuple[Any, ...] = ("a", "b", "n/c", "presence-a", "private-a", "private-presence-a", 1998, "primary")
EVENTS = ("system::subscribe", "system:subscribe", "system::unsubscribe", "system::get_members", "x", "pie::binary")


class TextOutlet(Outlet):
    """A client that fails if it gets what the library of PieSocket cannot handle."""

    tell = staticmethod(tell_piesocket)

    def deliver(self, batch: Any) -> None:
        for message in batch.messages:
            assert isinstance(message.data, str)
            assert message.data.strip() != "null"
            if message.data.startswith("{") and message.data.endswith("}"):
                assert isinstance(json.loads(message.data)[CHANNEL], str)


async def connect(node: Node, messages_per_second: int = 1_000_000) -> PieSocketV4:
    access = replace(ACCESS, quotas=replace(ACCESS.quotas, messages_per_second=messages_per_second))
    scope = {"path": "/v4/primary", "query_string": b"api_key=k&presence", "headers": []}
    connection = node.open(read_v4(scope, []).decide(access), TextOutlet(), None)
    session = PieSocketV4(node, connection)
    await node.join(connection, accept)
    session.open()
    return session


def frame_for(_: PieSocketV4, chance: random.Random) -> str | bytes:
    """Return a frame that is valid, or nearly."""

    def pick(*values: Any) -> Any:
        return chance.choice(values) if chance.random() < 0.8 else chance.choice(ODD)

    channel = chance.choice(CHANNELS)
    jwt = sign(ACCESS.secret or "", str(channel), 60, chance.choice(("1", None)))
    wish = {"channel": pick(channel), "presence": pick(True, False), "uuid": pick("u", "v")}
    more = {"jwt": jwt} if chance.random() < 0.5 else {"user": pick("Ann", DEEP)}
    content = {"event": pick(*EVENTS), "data": pick({**wish, **more}, "eA=="), "meta": pick(None)}
    if chance.random() < 0.3:
        content[CHANNEL] = pick(channel)
    frame = json.dumps(pick(content)).replace('"Ann"', chance.choice(('"Ann"', "1e999", "[" * 900 + "]" * 900)))
    if chance.random() < 0.1:
        return frame[: chance.randrange(len(frame) + 1)]
    return frame.encode() if chance.random() < 0.05 else frame


async def test_hostile_frames_raise_nothing_and_leave_nothing() -> None:
    assert await send_hostile_frames(connect, frame_for) >= 6, "most channels were joined in between"


async def test_a_client_that_floods_control_frames_is_disconnected() -> None:
    node = Node()
    node.bus.start()
    session = await connect(node, messages_per_second=10)
    for _ in range(100_000):
        session.receive('{"event":"system::unsubscribe","data":{"channel":"a"}}')
    assert session.connection.ended == TOO_FAST
    assert not node.connections
    await node.bus.stop()


async def test_a_library_that_repeats_hundreds_of_subscriptions_is_not_disconnected() -> None:
    node = Node()
    node.bus.start()
    session = await connect(node, messages_per_second=10)
    for number in range(500):
        session.receive(f'{{"event":"system::subscribe","data":{{"channel":"{number}"}}}}')
    await until(lambda: len(session.connection.subscriptions) == 501, seconds=60, pause=0)
    session.leave()
    assert not node.hub.rooms
    await node.bus.stop()
