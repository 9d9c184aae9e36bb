"""The groups of a node, on the layer that lives in the process and on Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from channels.layers import BaseChannelLayer, InMemoryChannelLayer

from realtime.cluster.bus import CONTROL_GROUP, make_bus
from realtime.cluster.layer import PubSubLayer
from realtime.protocols.channels import group_name, message_event
from realtime.protocols.exclusions import MessageToOthers
from realtime.protocols.frames import Frames, Message
from realtime.protocols.pusher_channels import group_for
from tests.clients import until
from tests.servers import Redis


class Listener:
    """A bus, and everything that it passes on."""

    def __init__(self, layer: BaseChannelLayer) -> None:
        self.layer = layer
        self.received: list[Any] = []
        self.on_messages: Callable[[Message | Frames], object] = lambda messages: None
        self.bus = make_bus(layer, self._receive, self.received.append, lambda seconds: None)

    def _receive(self, group: str, messages: Message | Frames) -> None:
        self.on_messages(messages)
        self.received.append((group, [message.data for message in messages.messages]))


@pytest.fixture(params=["in memory", "Redis"])
async def listener(request: pytest.FixtureRequest) -> AsyncIterator[Listener]:
    if request.param == "Redis":
        server: Redis = request.getfixturevalue("server")
        layer: Any = PubSubLayer(hosts=[server.url])
    else:
        layer = InMemoryChannelLayer()
    listener = Listener(layer)
    listener.bus.start()
    await listener.bus.join(CONTROL_GROUP)
    yield listener
    await listener.bus.stop()


async def test_any_code_reaches_the_members_of_a_joined_group(listener: Listener) -> None:
    await listener.bus.join("a")
    await listener.layer.group_send("a", message_event("a", "text"))
    await listener.layer.group_send("a", message_event("a", b"bytes"))
    await until(lambda: listener.received == [("a", ["text"]), ("a", [b"bytes"])])


async def test_a_group_is_received_until_every_join_is_undone(listener: Listener) -> None:
    await listener.bus.join("a")
    await listener.bus.join("a")
    listener.bus.leave("a")
    await listener.layer.group_send("a", message_event("a", "1"))
    await until(lambda: listener.received == [("a", ["1"])])
    listener.bus.leave("a")
    await listener.bus.join("b")
    await asyncio.sleep(0)
    await listener.layer.group_send("a", message_event("a", "2"))
    await listener.layer.group_send("b", message_event("b", "3"))
    await until(lambda: listener.received == [("a", ["1"]), ("b", ["3"])])


async def test_a_group_that_is_left_and_joined_again_stays_joined(listener: Listener) -> None:
    await listener.bus.join("a")
    listener.bus.leave("a")
    async with asyncio.timeout(1):
        await listener.bus.join("a")
    await asyncio.sleep(0)
    await listener.layer.group_send("a", message_event("a", "1"))
    await until(lambda: listener.received == [("a", ["1"])])


async def test_other_events_are_passed_on_as_they_are(listener: Listener) -> None:
    await listener.layer.group_send(CONTROL_GROUP, {"type": "access.changed"})
    await until(lambda: listener.received == [{"type": "access.changed"}])


async def test_a_message_in_order_is_delivered_here_once_and_then_done(listener: Listener) -> None:
    await listener.bus.join("a")
    listener.bus.publish_in_order("a", Message("1"), 7, lambda: listener.received.append("done"))
    await until(lambda: listener.received == [("a", ["1"]), "done"])


async def test_a_client_s_message_is_not_delivered_here_again(listener: Listener) -> None:
    await listener.bus.join("a")
    listener.bus.publish("a", Message("1"), 7)
    listener.bus.publish_in_order("a", Message("2"), 7, lambda: listener.received.append("done"))
    await until(lambda: listener.received == [("a", ["2"]), "done"])


async def test_a_message_that_one_client_does_not_receive_names_that_client_on_every_node(listener: Listener) -> None:
    group = group_for("demo", "orders")
    await listener.bus.join(group)
    excluded: list[tuple[int, str]] = []
    listener.on_messages = lambda messages: excluded.append((messages.count, messages.excluded))
    for message in (Message("1"), MessageToOthers("2", "1.2"), Message("3")):
        listener.bus.publish_in_order(group, message, 7, None)
    await until(lambda: excluded == [(1, ""), (1, "1.2"), (1, "")])
    assert listener.received == [(group, ["1"]), (group, ["2"]), (group, ["3"])]


def test_channels_have_different_groups() -> None:
    paths = ["1/1998", "2/1998", "1998", "1-1998", "1_1998"]
    groups = {group_name(cluster, path) for cluster in ("demo", "other", "demo-1") for path in paths}
    assert len(groups) == 15
