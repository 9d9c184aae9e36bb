"""The mailboxes of two nodes on a real Redis, which fails."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import redis
from channels_redis.pubsub import RedisPubSubChannelLayer

from realtime.cluster.bus import INTERRUPTED, Bus
from realtime.protocols.channels import message_event
from realtime.protocols.frames import Frames, Message
from tests.clients import until
from tests.faults import Link
from tests.servers import Redis


class Listener:
    """A bus with a connection to Redis of its own, and what it has told."""

    def __init__(self, url: str, node_id: str) -> None:
        self.layer = RedisPubSubChannelLayer(hosts=url.split(","))
        self.messages: list[str | bytes] = []
        self.events: list[dict[str, Any]] = []
        self.bus = Bus(self.layer, node_id, self._hear, self.events.append)

    def _hear(self, group: str, messages: Message | Frames) -> None:
        self.messages += [message.data for message in messages.messages]

    def publish(self, group: str, data: str | bytes) -> None:
        self.bus.publish(group, Message(data))

    @property
    def interruptions(self) -> int:
        return self.events.count({"type": INTERRUPTED})


@asynccontextmanager
async def listening(url: str, node_id: str) -> AsyncIterator[Listener]:
    listener = Listener(url, node_id)
    listener.bus.start()
    yield listener
    await listener.bus.stop()
    await listener.layer.flush()


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def pair(server: Redis) -> AsyncIterator[tuple[Listener, Listener]]:
    async with AsyncExitStack() as stack:
        here, there = [await stack.enter_async_context(listening(server.url, name)) for name in ("here", "there")]
        await here.bus.join("a")
        await there.bus.join("a")
        yield here, there


async def test_messages_arrive_at_the_other_node_once_and_in_order(pair: tuple[Listener, Listener]) -> None:
    here, there = pair
    messages = [f"message {number}" for number in range(5_000)]
    for message in messages:
        here.publish("a", message)
    here.publish("a", b"\x00\xff")
    await until(lambda: len(there.messages) > len(messages))
    assert there.messages == [*messages, b"\x00\xff"]
    assert here.messages == []


async def test_who_has_joined_hears_what_is_published_at_once(pair: tuple[Listener, Listener]) -> None:
    here, there = pair
    for number in range(100):
        await there.bus.join(f"group {number}")
        here.publish(f"group {number}", str(number))
    await until(lambda: len(there.messages) == 100)


async def test_a_crowd_that_joins_waits_together(pair: tuple[Listener, Listener]) -> None:
    here, there = pair
    await asyncio.gather(*(there.bus.join(f"group {number}") for number in range(1_000)))
    for number in range(1_000):
        here.publish(f"group {number}", str(number))
    await until(lambda: len(there.messages) == 1_000)


async def test_what_was_sent_again_is_heard_once(pair: tuple[Listener, Listener]) -> None:
    first, second = Message("1").wire, Message("2").wire
    event = {
        "type": "channel.frames",
        "group": "a",
        "frames": first,
        "messages": 1,
        "origin": "elsewhere.0",
        "number": 7,
    }
    for again in (event, event, {**event, "number": 6}, {**event, "number": 8, "frames": second}):
        await pair[0].layer.group_send("a", again)
    await pair[0].layer.group_send("a", message_event("a", "end"))
    await until(lambda: "end" in pair[1].messages)
    assert pair[1].messages == ["1", "2", "end"]


async def test_what_was_published_while_redis_was_away_arrives_when_it_is_back(
    pair: tuple[Listener, Listener], server: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = pair
    caplog.set_level(logging.WARNING, "realtime")
    server.stop()
    for number in range(200):
        here.publish("a", str(number))
        await asyncio.sleep(0.01)
    await until(lambda: not here.bus.is_reachable and not there.bus.is_reachable)
    server.start()
    for number in range(200, 300):
        here.publish("a", str(number))
    await until(lambda: here.bus.is_reachable and there.bus.is_reachable)
    await until(lambda: len(there.messages) == 300)
    assert there.messages == [str(number) for number in range(300)]
    assert here.interruptions == there.interruptions == 1
    said = [record.message for record in caplog.records if record.name == "realtime.cluster.bus"]
    assert len([line for line in said if "out of reach" in line]) == 2
    assert len([line for line in said if "is back" in line and "; 0 messages" in line]) == 2
    assert len(said) == 4


async def test_in_a_long_outage_the_oldest_are_dropped_and_counted(
    pair: tuple[Listener, Listener], server: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = pair
    server.stop()
    await until(lambda: not here.bus.is_reachable)
    for number in range(100):
        here.publish("a", f"{number} ".ljust(1024 * 1024))
    server.start()
    await until(lambda: bool(there.messages) and str(there.messages[-1]).strip() == "99")
    assert 60 <= len(there.messages) == 100 - here.bus.messages_dropped
    assert caplog.text.count("are dropped") == 1
    assert f"; {here.bus.messages_dropped} messages" in caplog.text


async def test_a_lost_subscription_is_noticed_though_sending_works(
    pair: tuple[Listener, Listener], server: Redis
) -> None:
    here, there = pair
    await until(lambda: all(lane.connection for one in pair for lane in one.bus._lanes.values()))
    redis.Redis.from_url(server.url).execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: here.interruptions and there.interruptions)
    here.publish("a", "1")
    await until(lambda: there.messages == ["1"])


async def test_a_connection_that_has_died_without_a_sign_is_given_up(server: Redis) -> None:
    async with AsyncExitStack() as stack:
        link = stack.enter_context(Link(server.port))
        here = await stack.enter_async_context(listening(f"redis://127.0.0.1:{link.port}", "here"))
        there = await stack.enter_async_context(listening(server.url, "there"))
        await here.bus.join("a")
        await there.bus.join("a")
        await until(lambda: all(lane.connection for lane in here.bus._lanes.values()))
        link.mute()
        await until(lambda: not here.bus.is_reachable)
        await until(lambda: here.bus.is_reachable, 15)
        there.publish("a", "1")
        await until(lambda: here.messages == ["1"])
        assert here.interruptions == 1


async def test_while_redis_is_known_to_be_away_nobody_waits_to_join(
    pair: tuple[Listener, Listener], server: Redis
) -> None:
    here, there = pair
    server.stop()
    await until(lambda: not here.bus.is_reachable and not there.bus.is_reachable)
    async with asyncio.timeout(0.1):
        await here.bus.join("b")
    server.start()
    await until(lambda: here.bus.is_reachable and there.bus.is_reachable)
    await until(lambda: "b" in here.bus._joined)
    there.publish("b", "1")
    await until(lambda: here.messages == ["1"])


async def test_each_of_several_redis_carries_some_channels_and_waits_for_no_other(
    server: Redis, tmp_path_factory: pytest.TempPathFactory
) -> None:
    groups = [f"group {number}" for number in range(50)]
    async with AsyncExitStack() as stack:
        second = stack.enter_context(Redis(tmp_path_factory.mktemp("redis")))
        urls = f"{server.url},{second.url}"
        here, there = [await stack.enter_async_context(listening(urls, name)) for name in ("here", "there")]
        await asyncio.gather(*(there.bus.join(group) for group in groups))
        for group in groups:
            here.publish(group, group)
        await until(lambda: sorted(there.messages) == sorted(groups))
        with redis.Redis.from_url(second.url) as client:
            subscribed = client.execute_command("PUBSUB", "CHANNELS", "*group *")
        carried = {name.decode().partition("__group__")[2] for name in subscribed}
        assert 0 < len(carried) < len(groups)
        second.stop()
        await until(lambda: not here.bus.is_reachable and not there.bus.is_reachable)
        there.messages.clear()
        for group in groups:
            here.publish(group, group)
        await until(lambda: sorted(there.messages) == sorted(set(groups) - carried))
        second.start()
        await until(lambda: sorted(there.messages) == sorted(groups), 15)


async def test_what_cannot_be_sent_stops_nothing(pair: tuple[Listener, Listener]) -> None:
    here, there = pair
    here.bus.send("a", {"type": "x", "what": object()})
    here.publish("a", "1")
    await until(lambda: there.messages == ["1"])
