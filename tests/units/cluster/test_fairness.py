"""What waits for Redis: who is served next, and what is dropped."""

import asyncio
import math
from collections.abc import AsyncIterator

import pytest

from realtime.cluster import publisher
from realtime.cluster.batches import Address
from realtime.cluster.outbox import Outbox
from realtime.cluster.pace import Pace
from realtime.cluster.publisher import GATHERED_MESSAGES, MAX_UNANSWERED
from tests.clients import until
from tests.units.cluster.kinds import SlowRedis
from tests.units.cluster.links import Listener, listening

KIB = 1024


@pytest.fixture
async def slow() -> AsyncIterator[SlowRedis]:
    slow = SlowRedis()
    async with slow.listening():
        yield slow


@pytest.fixture
async def flooded(slow: SlowRedis) -> AsyncIterator[Listener]:
    """A node of which one party has more to publish than may be unanswered."""
    async with listening(f"redis://127.0.0.1:{slow.port}") as listener:
        for number in range(3 * MAX_UNANSWERED):
            listener.link.publish(f"flood {number}", b"x", 1, "flood")
        await until(lambda: len(slow.published) == MAX_UNANSWERED)
        yield listener
        slow.answer(math.inf)


async def test_so_many_publishes_are_unanswered_and_not_more(slow: SlowRedis, flooded: Listener) -> None:
    slow.answer(10)
    await until(lambda: len(slow.published) == MAX_UNANSWERED + 10)
    await asyncio.sleep(0.05)
    assert len(slow.published) == MAX_UNANSWERED + 10
    assert flooded.link.messages_sent == 10


async def test_a_flood_of_one_party_delays_another_by_one_publish_at_most(slow: SlowRedis, flooded: Listener) -> None:
    for number in range(5):
        flooded.link.publish(f"quiet {number}", b"x", 1, "quiet")
    slow.answer(10)
    await until(lambda: len(slow.published) == MAX_UNANSWERED + 10)
    sent = [b"quiet" in channel for channel in slow.published[MAX_UNANSWERED:]]
    assert sent == [False, True] * 5


@pytest.fixture
async def gathering(slow: SlowRedis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listener]:
    """A node on which one party publishes very often."""
    monkeypatch.setattr(Pace, "note", lambda _, party: party == "fast")
    async with listening(f"redis://127.0.0.1:{slow.port}") as listener:
        listener.link.publish("first", b"x", 1, "quiet")
        await until(lambda: len(slow.published) == 1)
        yield listener
        slow.answer(math.inf)


async def test_messages_of_a_fast_party_go_out_together(
    slow: SlowRedis, gathering: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "GATHER_SECONDS", 60.0)
    for number in range(GATHERED_MESSAGES - 1):
        gathering.link.publish(f"fast {number}", b"x", 1, "fast")
        await asyncio.sleep(0.01)
    assert len(slow.published) == 1
    gathering.link.publish("fast, last", b"x", 1, "fast")
    await until(lambda: len(slow.published) == 1 + GATHERED_MESSAGES)


async def test_messages_of_a_fast_party_wait_for_a_moment_only(slow: SlowRedis, gathering: Listener) -> None:
    gathering.link.publish("fast", b"x", 1, "fast")
    await until(lambda: len(slow.published) == 2)


async def test_nobody_else_waits_because_a_party_is_fast(
    slow: SlowRedis, gathering: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "GATHER_SECONDS", 60.0)
    gathering.link.publish("fast", b"x", 1, "fast")
    gathering.link.publish("quiet", b"x", 1, "quiet")
    await until(lambda: len(slow.published) == 3)
    gathering.link.publish_in_order("awaited", b"x", 1, "fast", lambda: None)
    await until(lambda: len(slow.published) == 4)


async def test_while_redis_is_slow_batches_grow_and_not_the_queue(slow: SlowRedis, flooded: Listener) -> None:
    for _ in range(100):
        flooded.link.publish("quiet", b"x", 1, "quiet")
        await asyncio.sleep(0)
    slow.answer(10)
    await until(lambda: len(slow.published) == MAX_UNANSWERED + 10)
    assert sum(b"quiet" in channel for channel in slow.published) == 1


async def test_a_refused_publish_is_counted_told_once_and_delivered_here(
    slow: SlowRedis, caplog: pytest.LogCaptureFixture
) -> None:
    slow.answer_to_publish = b"-NOPERM no permission\r\n"
    async with listening(f"redis://127.0.0.1:{slow.port}") as listener:
        for number in range(3):
            listener.publish_in_order(f"{number} ")
            await until(lambda number=number: len(slow.published) == number + 1)
            slow.answer(1)
            await until(lambda number=number: len(listener.done) == number + 1)
        assert listener.text() == "0 1 2 "
        assert listener.link.messages_dropped == 3
        assert caplog.text.count("NOPERM") == 1


async def test_a_publish_that_redis_does_not_send_back_is_delivered_all_the_same(slow: SlowRedis) -> None:
    async with listening(f"redis://127.0.0.1:{slow.port}") as listener:
        await listener.link.join("a")
        for number in range(3):
            listener.publish_in_order(f"{number} ")
            await until(lambda number=number: len(slow.published) == number + 1)
        slow.answer(2)
        await until(lambda: listener.done == ["0 ", "1 "])
        slow.answer(1)
        await until(lambda: listener.text() == "0 1 2 ")


def fill(outbox: Outbox, party: str, count: int, size: int = KIB) -> None:
    """Have a party put so many batches, each for a group of its own."""
    for number in range(count):
        outbox.put_frames(Address(f"{party} {number}", ""), b"x" * size, 1, party)


def drain(outbox: Outbox) -> list[str]:
    """Take everything; return the groups."""
    groups = []
    while outbox:
        groups.append(outbox.take().address.group)
    return groups


def test_parties_take_turns_whoever_came_first() -> None:
    outbox = Outbox(1024 * KIB, 64 * KIB)
    fill(outbox, "a", 3)
    fill(outbox, "b", 2)
    assert drain(outbox) == ["a 0", "b 0", "a 1", "b 1", "a 2"]


def test_messages_join_the_batch_of_their_group_until_it_is_large() -> None:
    outbox = Outbox(1024 * KIB, 8 * KIB)
    address = Address("group", "")
    batches = [outbox.put_frames(address, b"x" * KIB, 1, "a") for _ in range(10)]
    assert len(set(batches)) == 2
    assert sum(batch.count for batch in set(batches)) == 10
    first = outbox.take()
    outbox.put_frames(address, b"x", 1, "a")
    second = outbox.take()
    assert (first, second) == (batches[0], batches[-1])
    assert not outbox


def test_a_batch_that_was_taken_takes_no_further_messages() -> None:
    outbox = Outbox(1024 * KIB, 8 * KIB)
    address = Address("group", "")
    first = outbox.put_frames(address, b"1", 1, "a")
    assert outbox.take() is first
    assert outbox.put_frames(address, b"2", 1, "a") is not first


def test_who_fills_the_queue_loses_the_oldest_and_others_nothing() -> None:
    outbox = Outbox(100 * KIB, 64 * KIB)
    fill(outbox, "quiet", 5)
    fill(outbox, "large", 15)
    fill(outbox, "larger", 80)
    dropped = [batch.address.group for batch in outbox.make_room()]
    left = drain(outbox)
    assert sum("quiet" in group for group in left) == 5
    assert {group.split()[0] for group in dropped} == {"larger"}
    assert dropped == [f"larger {number}" for number in range(len(dropped))]
    assert 80 - len(dropped) >= 15


def test_parties_that_fill_the_queue_together_are_cut_to_the_same_size() -> None:
    outbox = Outbox(100 * KIB, 64 * KIB)
    for party in ("a", "b", "c", "d"):
        fill(outbox, party, 50)
    list(outbox.make_room())
    left = drain(outbox)
    counts = {party: sum(party in group for group in left) for party in ("a", "b", "c", "d")}
    assert len(set(counts.values())) == 1
    assert 10 < counts["a"] < 25


def test_nothing_is_dropped_of_what_fits() -> None:
    outbox = Outbox(1024 * KIB, 64 * KIB)
    fill(outbox, "a", 50)
    assert list(outbox.make_room()) == []
