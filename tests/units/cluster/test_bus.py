"""The node's mailbox on the channel layer, on the layer that lives in the process."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from realtime.cluster.bus import CONTROL_GROUP, Bus
from realtime.protocols.channels import group_name, message_event
from realtime.protocols.frames import Frames, Message


class Listener:
    """A bus, and what it has told."""

    def __init__(self, layer: InMemoryChannelLayer, node_id: str) -> None:
        self.told: asyncio.Queue[Any] = asyncio.Queue()
        self.bus = Bus(layer, node_id, self._hear, self.told.put_nowait)

    def _hear(self, group: str, messages: Message | Frames) -> None:
        self.told.put_nowait((group, [message.data for message in messages.messages]))

    async def hears(self) -> Any:
        async with asyncio.timeout(5):
            return await self.told.get()


@pytest.fixture
def layer() -> InMemoryChannelLayer:
    return InMemoryChannelLayer()


@pytest.fixture
async def listener(layer: InMemoryChannelLayer) -> AsyncIterator[Listener]:
    listener = Listener(layer, "here")
    listener.bus.start()
    yield listener
    await listener.bus.stop()


async def test_what_any_code_sends_to_a_joined_group_arrives(layer: InMemoryChannelLayer, listener: Listener) -> None:
    await listener.bus.join("a")
    await layer.group_send("a", message_event("a", "text"))
    await layer.group_send("a", message_event("a", b"bytes"))
    assert [await listener.hears(), await listener.hears()] == [("a", ["text"]), ("a", [b"bytes"])]


async def test_a_group_is_heard_until_the_last_has_left(layer: InMemoryChannelLayer, listener: Listener) -> None:
    await listener.bus.join("a")
    await listener.bus.join("a")
    listener.bus.leave("a")
    await listener.bus.join("b")
    await layer.group_send("a", message_event("a", "1"))
    assert await listener.hears() == ("a", ["1"])
    listener.bus.leave("a")
    listener.bus.leave("b")
    await listener.bus.join("c")  # changes are made in order: the others are done when this one is
    assert sorted(layer.groups) == ["c", CONTROL_GROUP]


async def test_leaving_and_joining_again_at_once_stays_joined(layer: InMemoryChannelLayer, listener: Listener) -> None:
    await listener.bus.join("a")
    listener.bus.leave("a")
    await listener.bus.join("a")
    await layer.group_send("a", message_event("a", "1"))
    assert await listener.hears() == ("a", ["1"])


async def test_events_of_the_control_group_are_told_as_they_are(
    layer: InMemoryChannelLayer, listener: Listener
) -> None:
    await listener.bus.join("a")
    await layer.group_send(CONTROL_GROUP, {"type": "access.changed"})
    assert await listener.hears() == {"type": "access.changed"}


def test_channels_have_different_groups() -> None:
    paths = ["1/1998", "2/1998", "1998", "1-1998", "1_1998"]
    groups = {group_name(cluster, path) for cluster in ("demo", "other", "demo-1") for path in paths}
    assert len(groups) == 15
