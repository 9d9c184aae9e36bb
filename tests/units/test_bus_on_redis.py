"""The mailboxes of two nodes on a real Redis, which fails."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import redis
from channels_redis.pubsub import RedisPubSubChannelLayer

from realtime.bus import INTERRUPTED, Bus, message_event
from tests.servers import Redis


class Listener:
    """A bus with a connection to Redis of its own, and what it has told."""

    def __init__(self, url: str, node_id: str) -> None:
        self.layer = RedisPubSubChannelLayer(hosts=[url])
        self.messages: list[str | bytes] = []
        self.events: list[dict[str, Any]] = []
        self.bus = Bus(self.layer, node_id, lambda group, messages: self.messages.extend(messages), self.events.append)

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


async def until(condition: Any, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_messages_arrive_at_the_other_node_once_and_in_order(pair: tuple[Listener, Listener]) -> None:
    here, there = pair
    messages = [f"message {number}" for number in range(5_000)]
    for message in messages:
        here.bus.publish("a", message)
    here.bus.publish("a", b"\x00\xff")
    await until(lambda: len(there.messages) > len(messages))
    assert there.messages == [*messages, b"\x00\xff"]
    assert here.messages == []


async def test_who_has_joined_hears_what_is_published_at_once(pair: tuple[Listener, Listener]) -> None:
    here, there = pair
    for number in range(100):
        await there.bus.join(f"group {number}")
        here.bus.publish(f"group {number}", str(number))
    await until(lambda: len(there.messages) == 100)


async def test_a_crowd_that_joins_waits_together(pair: tuple[Listener, Listener]) -> None:
    here, there = pair
    await asyncio.gather(*(there.bus.join(f"group {number}") for number in range(1_000)))
    for number in range(1_000):
        here.bus.publish(f"group {number}", str(number))
    await until(lambda: len(there.messages) == 1_000)


async def test_what_was_sent_again_is_heard_once(pair: tuple[Listener, Listener]) -> None:
    event = {"type": "channel.messages", "group": "a", "data": ["1"], "origin": "elsewhere.0", "number": 7}
    for again in (event, event, {**event, "number": 6}, {**event, "number": 8, "data": ["2"]}):
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
        here.bus.publish("a", str(number))
        await asyncio.sleep(0.01)
    await until(lambda: not here.bus.is_reachable and not there.bus.is_reachable)
    server.start()
    for number in range(200, 300):
        here.bus.publish("a", str(number))
    await until(lambda: here.bus.is_reachable and there.bus.is_reachable)
    await until(lambda: len(there.messages) == 300)
    assert there.messages == [str(number) for number in range(300)]
    assert here.interruptions == there.interruptions == 1
    said = [record.message for record in caplog.records if record.name == "realtime.bus"]
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
        here.bus.publish("a", f"{number} ".ljust(1024 * 1024))
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
    here.bus.publish("a", "1")
    await until(lambda: there.messages == ["1"])


async def test_what_cannot_be_sent_stops_nothing(pair: tuple[Listener, Listener]) -> None:
    here, there = pair
    here.bus.publish("b", "\ud800")
    here.bus.publish("a", "1")
    await until(lambda: there.messages == ["1"])
