"""The messages that wait for the database: in order, bounded, and counted if they cannot be kept."""

import gc
import json
import tracemalloc
from collections import Counter
from collections.abc import Sequence

import pytest
from django.db import OperationalError

from accounts.webhooks.queue import NewDelivery
from accounts.webhooks.states import Endpoint
from realtime.webhooks import messages
from realtime.webhooks.messages import Messages

CHANNEL = (1, "chat")


class Database:
    """A database that can be away."""

    def __init__(self) -> None:
        self.is_away = False
        self.added: list[NewDelivery] = []
        self.dropped: Counter[int] = Counter()
        self.calls: list[Sequence[NewDelivery]] = []

    async def add(self, deliveries: Sequence[NewDelivery]) -> None:
        if self.is_away:
            raise OperationalError("away")
        self.added += deliveries
        self.calls.append(deliveries)

    async def count_dropped(self, webhook_pk: int, events: int) -> None:
        if self.is_away:
            raise OperationalError("away")
        self.dropped[webhook_pk] += events

    def data(self) -> list[str]:
        return [event["data"] for delivery in self.added for event in json.loads(delivery.events)]


def endpoint(pk: int = 7, prefix: str = "", *, batches: bool = True, account_pk: int = 1) -> Endpoint:
    return Endpoint(pk, "demo", frozenset({"client_event"}), prefix, batches, account_pk)


def gather(database: Database, *endpoints: Endpoint) -> Messages[str]:
    return Messages({1: endpoints}, lambda sender: (sender, None), database.add, database.count_dropped)


async def test_messages_travel_in_batches_of_a_hundred_in_their_order() -> None:
    database = Database()
    gathered = gather(database, endpoint())
    for number in range(250):
        gathered.note(CHANNEL, str(number), "a")
    await gathered.write()
    assert [delivery.number for delivery in database.added] == [100, 100, 50]
    assert database.data() == [str(number) for number in range(250)]


async def test_however_many_wait_they_are_added_together_in_full_batches() -> None:
    database = Database()
    gathered = gather(database, endpoint())
    for number in range(2_345):
        gathered.note(CHANNEL, str(number), "a")
    await gathered.write()
    assert [[delivery.number for delivery in call] for call in database.calls] == [[100] * 23 + [45]]
    assert database.data() == [str(number) for number in range(2_345)]


async def test_batches_of_large_messages_are_smaller() -> None:
    database = Database()
    gathered = gather(database, endpoint())
    for _ in range(4):
        gathered.note(CHANNEL, "x" * 100_000, "a")
    await gathered.write()
    assert [delivery.number for delivery in database.added] == [2, 2]


async def test_each_webhook_gets_what_it_asked_for() -> None:
    database = Database()
    gathered = gather(
        database, endpoint(1, batches=False), endpoint(2, "other"), Endpoint(3, "demo", frozenset(), "", True, 1)
    )
    gathered.note(CHANNEL, "one", "a")
    gathered.note(CHANNEL, "two", "a")
    await gathered.write()
    assert [(delivery.webhook_pk, delivery.number) for delivery in database.added] == [(1, 1), (1, 1)]


async def test_messages_wait_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_PENDING_BYTES", 1_000)
    database = Database()
    gathered = gather(database, endpoint())
    database.is_away = True
    for number in range(3):
        gathered.note(CHANNEL, str(number), "a")
        with pytest.raises(OperationalError):
            await gathered.write()
    for number in range(3, 10):
        gathered.note(CHANNEL, str(number), "a")
    database.is_away = False
    await gathered.write()
    await gathered.write()
    kept = len(database.data())
    assert database.data() == [str(number) for number in range(kept)]
    assert 3 <= kept < 10
    assert database.dropped == {7: 10 - kept}
    gathered.note(CHANNEL, "later", "a")
    await gathered.write()
    assert database.data()[-1] == "later"


def several_accounts(database: Database, **endpoints: list[Endpoint]) -> Messages[str]:
    """Return the messages of clusters with the given webhooks, by the primary keys of the clusters."""
    by_cluster = {int(name.removeprefix("cluster_")): tuple(each) for name, each in endpoints.items()}
    return Messages(by_cluster, lambda sender: (sender, None), database.add, database.count_dropped)


async def test_a_flood_of_one_account_leaves_room_for_the_messages_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_PENDING_BYTES", 100_000)
    database = Database()
    gathered = several_accounts(
        database, cluster_1=[endpoint(1)], cluster_2=[endpoint(2, account_pk=2)], cluster_3=[endpoint(3, account_pk=1)]
    )
    for cluster in (1, 3):
        for _ in range(1_000):
            gathered.note((cluster, "flood"), "x" * 1_000, "a")
    for number in range(50):
        gathered.note((2, "calm"), str(number), "a")
    await gathered.write()
    assert database.dropped.keys() == {1, 3}
    of_others = [delivery for delivery in database.added if delivery.webhook_pk == 2]
    assert sum(delivery.number for delivery in of_others) == 50
    flood = sum(len(delivery.events) for delivery in database.added if delivery.webhook_pk != 2)
    assert 50_000 < flood < 80_000


async def test_a_flood_to_many_webhooks_does_not_delay_the_messages_of_others() -> None:
    database = Database()
    flooded = [endpoint(pk, batches=False) for pk in range(10, 30)]
    gathered = several_accounts(database, cluster_1=flooded, cluster_2=[endpoint(2, account_pk=2)])
    for _ in range(5):
        gathered.note((1, "flood"), "\x01" * 500_000, "a")
    gathered.note((2, "calm"), "hello", "a")
    while gathered.has_pending:
        await gathered.write()
    assert 2 in [delivery.webhook_pk for delivery in database.calls[0]]
    assert len([delivery for delivery in database.added if delivery.webhook_pk != 2]) == 100


async def test_large_messages_take_little_memory_however_many_webhooks_get_them() -> None:
    """A control character takes six characters in JSON, so these are 1.9 GB of events."""
    database = Database()
    sizes = []

    async def add(deliveries: Sequence[NewDelivery]) -> None:
        sizes.append(sum(len(delivery.events) for delivery in deliveries))

    endpoints = {1: tuple(endpoint(pk) for pk in range(20))}
    gathered = Messages(endpoints, lambda sender: (sender, None), add, database.count_dropped)
    for number in range(16):
        gathered.note(CHANNEL, chr(number) * 1_000_000, "a")
    tracemalloc.start()
    while gathered.has_pending:
        await gathered.write()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(sizes) > 1_000_000_000
    assert peak < 64 * 1024 * 1024


async def test_garbage_collections_need_not_look_through_the_messages_that_wait() -> None:
    gathered = gather(Database(), endpoint())
    gathered.note(CHANNEL, "first", "a")
    gc.collect()
    known = len(gc.get_objects())
    for number in range(1_000):
        gathered.note(CHANNEL, str(number), "a")
    assert len(gc.get_objects()) - known < 100


async def test_messages_of_a_webhook_that_is_gone_are_forgotten() -> None:
    database = Database()
    endpoints = {1: (endpoint(),)}
    gathered = Messages(endpoints, lambda sender: (sender, None), database.add, database.count_dropped)
    gathered.note(CHANNEL, "one", "a")
    endpoints.clear()
    await gathered.write()
    assert not gathered.has_pending
    assert database.added == []


async def test_what_comes_while_others_are_written_waits_for_the_next_time() -> None:
    database = Database()
    add = database.add

    async def add_and_note(deliveries: Sequence[NewDelivery]) -> None:
        await add(deliveries)
        gathered.note(CHANNEL, "later", "a")

    database.add = add_and_note  # type: ignore[method-assign]
    gathered = gather(database, endpoint())
    gathered.note(CHANNEL, "first", "a")
    assert await gathered.write() is False
    assert database.data() == ["first"]
    assert gathered.has_pending


async def test_what_has_waited_is_written_at_once_however_much_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "_TURN_MESSAGES", 100)
    monkeypatch.setattr(messages, "_PIECE_MESSAGES", 100)
    database = Database()
    gathered = gather(database, endpoint())
    for number in range(250):
        gathered.note(CHANNEL, str(number), "a")
    assert await gathered.write() is False
    assert database.data() == [str(number) for number in range(250)]
    monkeypatch.setattr(messages, "WRITE_SECONDS", 0.0)
    gathered.note(CHANNEL, "more", "a")
    assert await gathered.write() is True
