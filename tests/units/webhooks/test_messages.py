"""The messages that wait for the database: in order, bounded, and counted if they cannot be kept."""

import json
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

    async def add(self, deliveries: Sequence[NewDelivery]) -> None:
        if self.is_away:
            raise OperationalError("away")
        self.added += deliveries

    async def count_dropped(self, webhook_pk: int, events: int) -> None:
        if self.is_away:
            raise OperationalError("away")
        self.dropped[webhook_pk] += events

    def data(self) -> list[str]:
        return [event["data"] for delivery in self.added for event in json.loads(delivery.events)]


def endpoint(pk: int = 7, prefix: str = "", *, batches: bool = True) -> Endpoint:
    return Endpoint(pk, "demo", frozenset({"client_event"}), prefix, batches)


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
        database, endpoint(1, batches=False), endpoint(2, "other"), Endpoint(3, "demo", frozenset(), "", True)
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
