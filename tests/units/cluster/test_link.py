"""Two nodes on one Redis, as long as nothing fails."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis

from realtime.cluster.layer import PubSubLayer
from tests.clients import until
from tests.servers import Redis
from tests.units.cluster.links import Listener, listening

Pair = tuple[Listener, Listener]


def calls(server: Redis, command: str) -> int:
    """Return how often Redis has been given a command."""
    with redis.Redis.from_url(server.url) as client:
        return int(client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


async def test_messages_arrive_at_the_other_node_once_and_in_order(pair: Pair) -> None:
    here, there = pair
    for number in range(5_000):
        here.publish(f"{number} ")
        if number % 100 == 0:
            await asyncio.sleep(0)
    await until(lambda: there.messages == 5_000)
    assert there.text() == "".join(f"{number} " for number in range(5_000))
    assert here.frames == []
    assert (here.link.messages_sent, there.link.messages_received, here.link.messages_dropped) == (5_000, 5_000, 0)


async def test_what_is_published_in_one_turn_goes_in_one_publish_a_group(pair: Pair, server: Redis) -> None:
    here, there = pair
    await there.link.join("b")
    before = calls(server, "publish")
    for number in range(100):
        here.publish(str(number), "ab"[number % 2])
    await until(lambda: there.messages == 100)
    assert calls(server, "publish") == before + 2
    assert len(there.frames) == 2


async def test_a_node_that_has_joined_hears_what_is_published_at_once(pair: Pair) -> None:
    here, there = pair
    for number in range(100):
        await there.link.join(f"group {number}")
        here.publish("x", f"group {number}")
    await until(lambda: there.messages == 100)


async def test_a_crowd_joins_and_leaves_by_few_commands(pair: Pair, server: Redis) -> None:
    _, there = pair
    before = calls(server, "subscribe")
    await asyncio.gather(*(there.link.join(f"group {number % 2_500}") for number in range(10_000)))
    assert calls(server, "subscribe") == before + 3
    for number in range(10_000):
        there.link.leave(f"group {number % 2_500}")
    await until(lambda: calls(server, "unsubscribe") == 3)
    with redis.Redis.from_url(server.url) as client:
        await until(lambda: client.execute_command("PUBSUB", "NUMPAT") == 0)
        await until(lambda: len(client.execute_command("PUBSUB", "CHANNELS")) == 1)


async def test_who_leaves_and_joins_in_one_turn_costs_nothing(pair: Pair, server: Redis) -> None:
    here, there = pair
    before = calls(server, "subscribe")
    there.link.leave("a")
    await there.link.join("a")
    here.publish("x")
    await until(lambda: there.text() == "x")
    assert (calls(server, "subscribe"), calls(server, "unsubscribe")) == (before, 0)


async def test_who_joins_again_while_leaving_hears_everything_from_then_on(pair: Pair) -> None:
    here, there = pair
    for number in range(50):
        there.link.leave("a")
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # the command to leave is sent, and perhaps not answered
        async with asyncio.timeout(1):
            await there.link.join("a")
        here.publish(f"{number} ")
        await until(lambda: there.messages == number + 1)  # noqa: B023


async def test_a_group_is_heard_until_the_last_has_left(pair: Pair) -> None:
    here, there = pair
    await there.link.join("end")
    await there.link.join("a")
    there.link.leave("a")
    here.publish("1")
    await until(lambda: there.text() == "1")
    there.link.leave("a")
    await asyncio.gather(there.link.join("b"))  # what is confirmed later than the leaving
    here.publish("2")
    here.publish("3", "end")
    await until(lambda: there.text("end") == "3")
    assert there.text() == "1"


async def test_a_join_that_was_cancelled_is_undone_by_leaving(pair: Pair, server: Redis) -> None:
    here, _ = pair
    join = asyncio.create_task(here.link.join("b"))
    await asyncio.sleep(0)
    join.cancel()
    with pytest.raises(asyncio.CancelledError):
        await join
    here.link.leave("b")
    with redis.Redis.from_url(server.url) as client:
        await until(lambda: len(client.execute_command("PUBSUB", "CHANNELS")) == 1)


async def test_publishes_in_order_arrive_alike_everywhere(pair: Pair) -> None:
    for number in range(500):
        pair[number % 2].publish_in_order(f"{number} ")
        if number % 7 == 0:
            await asyncio.sleep(0)
    await until(lambda: all(one.messages == 500 for one in pair))
    assert pair[0].text() == pair[1].text()
    assert len(pair[0].done) == len(pair[1].done) == 250


async def test_a_publish_is_done_when_this_node_and_redis_have_it(pair: Pair) -> None:
    here, there = pair
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    here.link.publish_in_order("a", b"1", 1, "party", lambda: done.set_result(here.text()))
    assert here.frames == []
    assert await done == "1"
    await until(lambda: there.text() == "1")


async def test_a_publish_to_a_group_that_is_not_joined_is_done_too(pair: Pair) -> None:
    here, _ = pair
    here.publish_in_order("1", "not joined")
    await until(lambda: here.done == ["1"])
    assert here.text("not joined") == "1"


async def test_a_publish_among_joining_and_leaving_is_delivered_once(pair: Pair) -> None:
    here, there = pair
    await there.link.join("b")
    for number in range(300):
        join = asyncio.create_task(here.link.join("b"))
        for _ in range(number % 5):
            await asyncio.sleep(0)
        here.publish_in_order(f"{number} ", "b")
        for _ in range(number % 3):
            await asyncio.sleep(0)
        await join
        here.link.leave("b")
    await until(lambda: len(here.done) == 300)
    assert sorted(here.text("b").split()) == sorted(there.text("b").split()) == sorted(map(str, range(300)))


async def test_messages_of_clients_and_publishes_keep_their_order(pair: Pair) -> None:
    here, there = pair
    here.publish("1")
    here.publish_in_order("2")
    here.publish("3")
    await until(lambda: there.messages == 3)
    assert there.text() == "123"
    await until(lambda: here.text() == "2")


async def test_events_go_to_links_and_mailboxes_and_frames_to_links(pair: Pair) -> None:
    here, there = pair
    mailbox = await there.layer.new_channel()
    await there.layer.group_add("a", mailbox)
    here.publish("x")
    here.link.send_event("a", {"type": "x", "data": b"\xff"})
    assert await there.layer.receive(mailbox) == {"type": "x", "data": b"\xff"}
    await until(lambda: here.events == there.events == [("a", {"type": "x", "data": b"\xff"})])
    await until(lambda: there.text() == "x")


async def test_any_code_of_the_project_reaches_links(pair: Pair, server: Redis) -> None:
    elsewhere = PubSubLayer([server.url], prefix="test")
    await elsewhere.group_send("a", {"type": "channel.message"})
    await until(lambda: all(one.events == [("a", {"type": "channel.message"})] for one in pair))
    await elsewhere.flush()


async def test_an_event_that_cannot_be_serialized_fails_at_the_caller(pair: Pair) -> None:
    with pytest.raises(TypeError):
        pair[0].link.send_event("a", {"type": "x", "what": object()})


async def test_a_message_that_is_not_bytes_stops_nothing(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    here, there = pair
    here.publish("1")
    here.link.publish("b", "not bytes", 1, "party")  # type: ignore[arg-type]
    here.publish("2", "a")
    await until(lambda: there.text() == "12")
    assert here.link.messages_dropped == 1
    assert "cannot be encoded" in caplog.text


async def test_joining_and_leaving_in_one_turn_leaves_nothing_behind(pair: Pair) -> None:
    here, _ = pair
    join = here.link.join("b")
    join.send(None)
    here.link.leave("b")
    join.close()
    await here.link.join("c")
    assert set(here.layer.shards[0].subscriber._subscriptions) == {b"test__group__a", b"test__group__c"}


async def test_foreign_bytes_on_redis_are_ignored(pair: Pair, server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    here, there = pair
    with redis.Redis.from_url(server.url) as client:
        for foreign in (b"", b"x", b"\x81\xa4type\xa1x" * 10):
            assert client.publish("test__group__a", foreign) == 2
    here.publish("x")
    await until(lambda: there.text() == "x")
    assert there.events == []
    assert caplog.text == ""


async def test_a_callback_that_fails_stops_nothing(server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    layer = PubSubLayer([server.url])
    link = layer.attach(fail, fail, fail)
    link.start()
    await link.join("a")
    done: list[int] = []
    for number in range(3):
        link.publish_in_order("a", b"x", 1, None, lambda number=number: done.append(number))
    await until(lambda: done == [0, 1, 2])
    assert "ZeroDivisionError" in caplog.text
    await link.stop()


async def test_a_link_that_stops_sends_what_waits(pair: Pair) -> None:
    here, there = pair
    for number in range(2_000):
        here.publish(f"{number} ")
        here.publish("x", f"group {number}")
    await here.link.stop()
    await until(lambda: there.messages == 2_000)


async def test_a_link_that_has_stopped_does_no_harm(pair: Pair) -> None:
    here, _ = pair
    await here.link.stop()
    async with asyncio.timeout(1):
        await here.link.join("b")
    here.link.leave("b")
    here.link.leave("a")
    here.publish("x")
    here.publish_in_order("1")
    assert (here.text(), here.done) == ("1", ["1"])


async def test_round_trips_are_told(pair: Pair) -> None:
    await until(lambda: len(pair[0].round_trips) > 1)
    assert all(0 < seconds < 1 for seconds in pair[0].round_trips)


async def test_each_of_several_redis_carries_some_groups_and_waits_for_no_other(
    server: Redis, tmp_path_factory: pytest.TempPathFactory
) -> None:
    groups = [f"group {number}" for number in range(50)]
    async with AsyncExitStack() as stack:
        second = stack.enter_context(Redis(tmp_path_factory.mktemp("redis")))
        here, there = [await stack.enter_async_context(listening(server.url, second.url)) for _ in range(2)]
        await asyncio.gather(*(there.link.join(group) for group in groups))
        with redis.Redis.from_url(second.url) as client:
            carried = {name.decode().partition("__group__")[2] for name in client.execute_command("PUBSUB", "CHANNELS")}
        assert 0 < len(carried) < len(groups)
        second.stop()
        await until(lambda: not here.link.is_reachable and not there.link.is_reachable)
        for group in groups:
            here.publish(group, group)
        await until(lambda: {group for group, _ in there.frames} == set(groups) - carried)
        second.start()
        await until(lambda: {group for group, _ in there.frames} == set(groups), 15)
        assert there.messages == len(groups)


async def test_a_layer_that_shall_encrypt_has_no_link(server: Redis) -> None:
    layer = PubSubLayer([server.url], symmetric_encryption_keys=["secret"])
    with pytest.raises(ValueError, match="encrypt"):
        layer.attach(lambda *_: None, lambda *_: None, lambda: None)
