"""The numbers of subscribers: how often they are sent, and by which settings."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from realtime.node import subscription_counts
from realtime.node.node import Node
from realtime.sessions.pusher import Pusher
from tests.clients import until
from tests.units.protocols.test_admission import ACCESS
from tests.units.sessions.test_pusher import ReadingOutlet, connect, subscribe

COUNT = "pusher_internal:subscription_count"


async def connect_with_counts(node: Node, *, is_on: bool = True) -> tuple[Pusher, ReadingOutlet]:
    outlet = ReadingOutlet()
    session = await connect(node, outlet)
    session.connection.apply_settings(replace(session.connection.access, sends_subscription_counts=is_on))
    return session, outlet


def counted(outlet: ReadingOutlet) -> list[Any]:
    return [frame["data"] for frame in outlet.frames if frame["event"] == COUNT]


async def test_numbers_above_a_hundred_are_sent_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_counts, "CROWD_SECONDS", 0.5)
    node = Node()
    node.bus.start()
    for _ in range(100):
        node.counts.subscribe((ACCESS.cluster_pk, "pusher:a"))
    (first, screen), (second, _) = [await connect_with_counts(node) for _ in "ab"]
    subscribe(first, "a")
    await until(lambda: counted(screen) == ['{"subscription_count":101}'])
    sent_at = asyncio.get_running_loop().time()
    subscribe(second, "a")
    await until(lambda: counted(screen)[1:] == ['{"subscription_count":102}'], pause=0)
    assert asyncio.get_running_loop().time() - sent_at > 0.4
    await node.bus.stop()


async def test_the_latest_settings_count_while_a_channel_changes() -> None:
    node = Node()
    node.bus.start()
    node.webhooks.clusters_with_counts.add(ACCESS.cluster_pk)
    (first, screen), (second, _) = await connect_with_counts(node, is_on=False), await connect_with_counts(node)
    subscribe(first, "a")
    subscribe(second, "a")
    await until(lambda: counted(screen) == ['{"subscription_count":2}'])
    await node.bus.stop()
