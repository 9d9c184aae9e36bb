"""What webhooks learn of the channels of a node: each change once, and nothing that a client of the node cancels."""

from collections.abc import Iterable

import pytest
from django.db import DataError, OperationalError

from accounts.models import WebhookKind
from accounts.webhooks.states import Endpoint, Subject
from realtime.cluster.connection_counts import ConnectionCounts
from realtime.presence.local import Presence
from realtime.webhooks import occupancy
from realtime.webhooks.occupancy import Occupancy

KINDS = frozenset((WebhookKind.OCCUPIED, WebhookKind.VACATED))
ENDPOINTS = {pk: (Endpoint(pk, f"cluster{pk}", KINDS, "", False, pk),) for pk in (1, 2)}


class Database:
    """Keeps what webhooks were told, and whether it was to be present."""

    def __init__(self) -> None:
        self.told: list[tuple[int, str, bool]] = []
        self.errors: dict[int, Exception] = {}

    async def record(self, cluster_pk: int, subjects: Iterable[Subject], *, is_present: bool) -> None:
        if cluster_pk in self.errors:
            raise self.errors[cluster_pk]
        self.told += [(cluster_pk, subject.channel, is_present) for subject in subjects]

    async def find_told(self, cluster_pk: int) -> list[tuple[int, Subject]]:
        return []


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def counts() -> ConnectionCounts:
    return ConnectionCounts()


@pytest.fixture
def channels(database: Database, counts: ConnectionCounts) -> Occupancy:
    presence = Presence("node", 1_000)
    return Occupancy("node", ENDPOINTS, counts, presence, database.record, database.find_told)


async def test_a_channel_is_reported_once_however_many_join(channels: Occupancy, database: Database) -> None:
    for _ in range(3):
        channels.join((1, "room"))
        await channels.write()
    assert database.told == [(1, "room", True)]


async def test_a_channel_that_clients_have_left_is_reported_after_a_while(
    channels: Occupancy, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels.join((1, "room"))
    channels.leave((1, "room"))
    await channels.write()
    assert database.told == [(1, "room", True)]
    monkeypatch.setattr(occupancy, "ABSENT_SECONDS", 0)
    channels.leave((1, "room"))
    await channels.write()
    assert database.told == [(1, "room", True), (1, "room", False)]


async def test_a_channel_that_somebody_joins_again_is_not_reported_as_empty(
    channels: Occupancy, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(occupancy, "ABSENT_SECONDS", 0)
    channels.join((1, "room"))
    await channels.write()
    channels.leave((1, "room"))
    channels.join((1, "room"))
    await channels.write()
    assert [is_present for _, _, is_present in database.told] == [True, True]


async def test_a_channel_with_clients_elsewhere_is_not_reported_as_empty(
    channels: Occupancy, database: Database, counts: ConnectionCounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(occupancy, "ABSENT_SECONDS", 0)
    channels.leave((1, "room"))
    counts.subscribe((1, "room"))
    await channels.write()
    assert database.told == []


async def test_changes_wait_while_the_database_is_unreachable(channels: Occupancy, database: Database) -> None:
    database.errors = {1: OperationalError("unreachable")}
    channels.join((1, "room"))
    with pytest.raises(OperationalError):
        await channels.write()
    database.errors = {}
    await channels.write()
    assert database.told == [(1, "room", True)]


async def test_what_cannot_be_stored_does_not_stop_the_webhooks_of_others(
    channels: Occupancy, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.errors = {1: DataError("value too long")}
    channels.join((1, "room"))
    channels.join((2, "room"))
    await channels.write()
    assert database.told == [(2, "room", True)]
    assert caplog.messages == [
        "The webhooks of cluster 1 miss 1 change of channels, which cannot be stored: value too long"
    ]
    await channels.write()
    assert len(caplog.messages) == 1
