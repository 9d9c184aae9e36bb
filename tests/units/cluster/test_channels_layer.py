"""The layer as Channels knows it, with each way of connecting to Redis."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis
from asgiref.sync import async_to_sync
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.testing import WebsocketCommunicator
from redis.exceptions import ConnectionError as RedisConnectionError

from realtime.cluster.layer import PubSubLayer
from tests.clients import until
from tests.servers import Redis, free_port


@pytest.fixture(params=["tcp", "tls", "unix", "acl", "ordinary"])
async def layer(request: pytest.FixtureRequest, hosts: dict[str, dict[str, Any]]) -> AsyncIterator[PubSubLayer]:
    layer = PubSubLayer([hosts[request.param]], prefix="test", capacity=3)
    yield layer
    await layer.flush()


async def test_an_event_for_a_group_reaches_its_members(layer: PubSubLayer) -> None:
    first, second, stranger = [await layer.new_channel() for _ in range(3)]
    await layer.group_add("group", first)
    await layer.group_add("group", second)
    await layer.group_send("group", {"type": "x", "data": b"\x00\xff", "list": [1, None, "ü"]})
    await layer.send(stranger, {"type": "end"})
    for channel in (first, second):
        assert await layer.receive(channel) == {"type": "x", "data": b"\x00\xff", "list": [1, None, "ü"]}
    assert await layer.receive(stranger) == {"type": "end"}


async def test_an_event_is_a_copy_for_each_member(layer: PubSubLayer) -> None:
    channels = [await layer.new_channel() for _ in range(2)]
    for channel in channels:
        await layer.group_add("group", channel)
    await layer.group_send("group", {"type": "x", "list": []})
    (await layer.receive(channels[0]))["list"].append("changed")
    assert await layer.receive(channels[1]) == {"type": "x", "list": []}


async def test_a_mailbox_gets_its_events_in_order(layer: PubSubLayer) -> None:
    channel = await layer.new_channel()
    for number in range(3):
        await layer.send(channel, {"type": str(number)})
    assert [(await layer.receive(channel))["type"] for _ in range(3)] == ["0", "1", "2"]


async def test_who_has_left_a_group_hears_nothing_of_it(layer: PubSubLayer) -> None:
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    await layer.group_add("group", channel)
    await layer.group_discard("group", channel)
    await layer.group_discard("group", channel)
    await layer.group_send("group", {"type": "x"})
    await layer.send(channel, {"type": "end"})
    assert await layer.receive(channel) == {"type": "end"}


async def test_a_large_event_arrives_whole(layer: PubSubLayer) -> None:
    channel = await layer.new_channel()
    await layer.send(channel, {"type": "x", "data": "ü" * 1_000_000})
    assert await layer.receive(channel) == {"type": "x", "data": "ü" * 1_000_000}


async def test_a_flushed_layer_is_as_new(layer: PubSubLayer) -> None:
    await layer.group_add("group", await layer.new_channel())
    await layer.flush()
    channel = await layer.new_channel()
    await layer.group_send("group", {"type": "x"})
    await layer.send(channel, {"type": "end"})
    assert await layer.receive(channel) == {"type": "end"}


async def test_groups_survive_lost_connections(layer: PubSubLayer, hosts: dict[str, dict[str, Any]]) -> None:
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    await layer.group_send("group", {"type": "before"})
    assert await layer.receive(channel) == {"type": "before"}
    with redis.Redis.from_url(hosts["tcp"]["address"]) as client:
        for kind in ("normal", "pubsub"):
            client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    receiving = asyncio.create_task(layer.receive(channel))
    async with asyncio.timeout(10):
        while not receiving.done():
            with contextlib.suppress(RedisConnectionError):
                await layer.group_send("group", {"type": "after"})
            await asyncio.wait([receiving], timeout=0.1)
    assert receiving.result() == {"type": "after"}


async def test_a_full_mailbox_drops_what_is_new(hosts: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    layer = PubSubLayer([hosts["tcp"]], capacity=2)
    channel = await layer.new_channel()
    for number in range(5):
        await layer.send(channel, {"type": str(number)})
    await until(lambda: layer.events_dropped == 3)
    assert [(await layer.receive(channel))["type"] for _ in range(2)] == ["0", "1"]
    assert caplog.text.count("full") == 1
    await layer.flush()


async def test_a_mailbox_that_nobody_reads_any_more_is_closed(hosts: dict[str, Any]) -> None:
    layer = PubSubLayer([hosts["tcp"]], prefix="closed")
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(layer.receive(channel), 0.01)
    await layer.group_discard("group", channel)
    with redis.Redis.from_url(hosts["tcp"]["address"]) as client:
        await until(lambda: client.execute_command("PUBSUB", "CHANNELS", "closed*") == [])
    await layer.flush()


async def test_only_a_mailbox_of_this_process_can_join_a_group(hosts: dict[str, Any]) -> None:
    layer = PubSubLayer([hosts["tcp"]])
    with pytest.raises(RuntimeError, match="elsewhere"):
        await layer.group_add("group", "elsewhere")


class Chat(AsyncWebsocketConsumer):
    """A consumer as Channels' tutorial has it."""

    async def connect(self) -> None:
        await self.channel_layer.group_add("chat", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("chat", self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.channel_layer.group_send("chat", {"type": "chat.message", "text": text_data})

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send(event["text"])


@pytest.mark.django_db  # consumers close old connections of the database
async def test_ordinary_consumers_talk_to_each_other(hosts: dict[str, Any], settings: Any) -> None:
    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": "realtime.cluster.layer.PubSubLayer", "CONFIG": {"hosts": [hosts["tcp"]]}}
    }
    first, second = [WebsocketCommunicator(Chat.as_asgi(), "/") for _ in range(2)]
    for one in (first, second):
        assert (await one.connect())[0]
    await first.send_to("hello")
    assert [await one.receive_from() for one in (first, second)] == ["hello", "hello"]
    for one in (first, second):
        await one.disconnect()


async def test_events_from_threads_arrive_and_leave_no_connection(hosts: dict[str, Any]) -> None:
    layer = PubSubLayer([hosts["tcp"]], capacity=1_000)
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    send = async_to_sync(layer.group_send)
    with redis.Redis.from_url(hosts["tcp"]["address"]) as client:
        before = len(client.client_list())
        for number in range(20):
            await asyncio.to_thread(send, "group", {"type": str(number)})
        assert [(await layer.receive(channel))["type"] for _ in range(20)] == [str(number) for number in range(20)]
        await until(lambda: len(client.client_list()) == before)
    await layer.flush()


async def test_without_redis_calls_fail_soon_and_say_so(caplog: pytest.LogCaptureFixture) -> None:
    layer = PubSubLayer([f"redis://user:{'secret'}@127.0.0.1:{free_port()}"])
    async with asyncio.timeout(2):
        for call in (layer.group_send("group", {"type": "x"}), layer.new_channel(), layer.send("one", {"type": "x"})):
            with pytest.raises(RedisConnectionError):
                await call
    assert "secret" not in caplog.text
    await layer.flush()


async def test_groups_survive_a_restart_of_redis(server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "realtime")
    layer = PubSubLayer([server.url])
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    server.stop()
    await until(lambda: "out of reach" in caplog.text)
    server.start()
    await until(lambda: "is back" in caplog.text)
    await layer.group_send("group", {"type": "x"})
    assert await layer.receive(channel) == {"type": "x"}
    await layer.flush()


async def test_an_unusual_version_of_redis_py_is_told_of_once(
    hosts: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    from realtime.cluster.redis_connection import _warn_of

    _warn_of.cache_clear()
    layer = PubSubLayer([hosts["ordinary"]])
    channel = await layer.new_channel()
    await layer.send(channel, {"type": "x"})
    assert caplog.text.count("lacks _close") == 1
    await layer.flush()
