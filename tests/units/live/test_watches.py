"""What a node sends to the pages that watch: filtered, sampled, counted, and nothing without a lease."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from realtime.cluster.bus import CONTROL_GROUP
from realtime.live.viewers import (
    CONNECT,
    EVENTS_PER_SECOND,
    MESSAGE,
    REFUSAL,
    REFUSALS_PER_SECOND,
    Subject,
    Terms,
    Viewer,
)
from realtime.live.watches import LEASE_SECONDS, MAX_VIEWERS, View, Watches

SUBJECT = Subject("orders", "k" * 60, "Ann", "192.0.2.7")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Wire:
    """The bus of several nodes, without Redis."""

    def __init__(self) -> None:
        self.nodes: list[Watches] = []
        self.joined: list[str] = []

    async def join(self, group: str) -> None:
        self.joined.append(group)

    def leave(self, group: str) -> None:
        self.joined.remove(group)

    def send(self, group: str, event: dict[str, Any]) -> None:
        assert group in (CONTROL_GROUP, *self.joined)
        for node in self.nodes:
            node.receive(event)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def nodes(clock: Clock) -> list[Watches]:
    wire = Wire()
    wire.nodes = [Watches(f"node{number}", wire, clock) for number in range(2)]  # type: ignore[arg-type]
    return wire.nodes


@pytest.fixture
def viewer(clock: Clock) -> Iterator[Viewer]:
    return Viewer("node", Terms(), clock.now)  # type: ignore[return-value]


def build(content: bool) -> dict[str, Any]:
    return {"kind": MESSAGE, "at": 0.0}


async def test_every_node_watches_until_the_page_leaves(nodes: list[Watches]) -> None:
    view = View(7, "shop", 3)
    await nodes[0].open(view, Terms())
    assert [node.watched[7].account_id for node in nodes] == [3, 3]
    assert nodes[1].find(None, "shop") is nodes[1].find(7, None) is nodes[1].watched[7]
    assert nodes[1].find(None, "other") is nodes[1].find(8, None) is None
    nodes[0].close(view)
    assert [node.watched for node in nodes] == [{}, {}]


async def test_a_lease_that_is_not_renewed_expires_on_every_node(nodes: list[Watches], clock: Clock) -> None:
    view = View(7, "shop", 3)
    await nodes[0].open(view, Terms())
    clock.now += LEASE_SECONDS - 1
    nodes[0].renew(view, Terms())
    clock.now += LEASE_SECONDS - 1
    for node in nodes:
        node.send()
    assert all(node.watched for node in nodes)
    clock.now += 1
    for node in nodes:
        node.send()
    assert [node.watched for node in nodes] == [{}, {}]


async def test_events_of_every_node_reach_the_page_in_the_order_of_time(nodes: list[Watches]) -> None:
    view = View(7, "shop", 3)
    await nodes[0].open(view, Terms())
    for at, node in ((2.0, nodes[0]), (1.0, nodes[1])):
        node.watched[7].report(CONNECT, SUBJECT, lambda _, at=at: {"kind": CONNECT, "at": at})  # type: ignore[misc]
        node.send()
    assert [event["at"] for event in view.take()] == [1.0, 2.0]
    assert view.counts.take() == {"all": 2, "matched": 2, "unshown_refusals": 0}
    assert view.take() == []


async def test_a_cluster_has_room_for_five(nodes: list[Watches]) -> None:
    for _ in range(MAX_VIEWERS):
        assert nodes[1].has_room(7)
        await nodes[0].open(View(7, "shop", 3), Terms())
    assert not nodes[1].has_room(7)
    assert nodes[1].has_room(8)


async def test_many_nodes_together_send_no_more_than_one(nodes: list[Watches]) -> None:
    view = View(7, "shop", 3)
    await nodes[0].open(view, Terms())
    for node in nodes:
        for kind in (MESSAGE, REFUSAL):
            for _ in range(200):
                node.watched[7].report(kind, SUBJECT, lambda _, kind=kind: {"kind": kind, "at": 0.0})  # type: ignore[misc]
        node.send()
    events = view.take()
    assert len([event for event in events if event["kind"] == MESSAGE]) == EVENTS_PER_SECOND
    assert len([event for event in events if event["kind"] == REFUSAL]) == REFUSALS_PER_SECOND
    counts = view.counts.take()
    assert counts == {"all": 800, "matched": 400, "unshown_refusals": 400 - REFUSALS_PER_SECOND}


def test_an_event_that_is_not_shown_is_not_built(viewer: Viewer, clock: Clock) -> None:
    built = 0

    def count(content: bool) -> dict[str, Any]:
        nonlocal built
        built += 1
        return build(content)

    for _ in range(10):
        for _ in range(1_000):
            viewer.offer(MESSAGE, SUBJECT, count)
        clock.now += 1
        viewer.take(clock.now)
    assert built <= EVENTS_PER_SECOND * 11


def test_at_a_steady_rate_the_share_is_spread_evenly(viewer: Viewer, clock: Clock) -> None:
    shown: list[int] = []
    for number in range(5_000):  # 500 a second
        viewer.offer(MESSAGE, SUBJECT, lambda _, number=number: {"kind": MESSAGE, "number": number})  # type: ignore[misc]
        clock.now += 0.002
        if number % 100 == 99 and (taken := viewer.take(clock.now)) is not None:
            shown += [event["number"] for event in taken[0]]
    later = [number for number in shown if number >= 2_500]
    steps = {after - before for before, after in itertools.pairwise(later)}
    assert len(steps) == 1
    assert 8 <= steps.pop() <= 12


def test_kinds_that_are_not_wanted_are_counted_only(viewer: Viewer, clock: Clock) -> None:
    viewer.terms = Terms(kinds=(CONNECT,))
    viewer.offer(MESSAGE, SUBJECT, build)
    assert viewer.take(clock.now) == ([], {"all": 1, "matched": 0, "unshown_refusals": 0})


@pytest.mark.parametrize("text", ["", "order", "kkk", "ann", "192.0"])
def test_the_filter_is_a_part_of_anything(text: str) -> None:
    assert Terms(text=text).match(SUBJECT)


def test_the_filter_finds_keys_by_their_label() -> None:
    assert Terms(text="web shop", keys=[SUBJECT.public_key]).match(SUBJECT)
    assert not Terms(text="web shop").match(SUBJECT)


async def test_without_a_page_no_batch_is_sent(nodes: list[Watches]) -> None:
    nodes[0].start()
    await asyncio.sleep(0)
    assert nodes[0].watched == {}
    await nodes[0].stop()
