"""Presence: which members get which events, and in which order."""

import asyncio
import json
from typing import Any

import pytest

from realtime.fanout.hub import Member
from realtime.presence import announcer
from realtime.presence.local import Presence
from realtime.protocols.closes import OVER_CAPACITY, TOO_MANY_MEMBERS, Close, Refusal
from realtime.protocols.frames import Batch, Message
from realtime.protocols.presence import Identity
from realtime.protocols.pusher_frames import PusherEvents


class Outlet:
    """A client that records what it receives."""

    is_gone = False

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.waiting = 0
        self.most_waiting = 0
        self.reads = True

    def deliver(self, batch: Batch | Message) -> None:
        self.received.extend(json.loads(message.data) for message in batch.messages)
        if not self.reads:
            self.waiting += len(batch.wire)
            self.most_waiting = max(self.most_waiting, self.waiting)

    def waiting_bytes(self) -> int:
        return self.waiting

    def limit_messages(self, max_message_bytes: int) -> None: ...

    def close(self, close: Close) -> None: ...

    def stop(self) -> None: ...


class Channel:
    """A channel, its members by name, and what they have received."""

    def __init__(self, max_backlog_bytes: int = 400_000) -> None:
        self.presence = Presence("node", max_backlog_bytes)
        self.members: dict[str, Member] = {}
        self.outlets: dict[str, Outlet] = {}

    def join(self, name: str, uuid: str = "", *, user: Any = "anonymous", echo: bool = False) -> Outlet:
        outlet = self.outlets[name] = Outlet()
        self.members[name] = Member(outlet, echo=echo)
        self.presence.join("group", self.members[name], Identity.of(uuid or name, user))
        return outlet

    def leave(self, *names: str) -> None:
        for name in names:
            self.presence.leave("group", self.members.pop(name))

    def received(self, name: str) -> list[str]:
        """Return what a member has received since the last call: `list a b`, `joined b of a b`, `left b of a`."""
        received, self.outlets[name].received = self.outlets[name].received, []
        return [short(event) for event in received]


def short(event: dict[str, Any]) -> str:
    data = event["data"]
    members = " ".join(member["uuid"] for member in data["members"])
    kind = event["event"].removeprefix("system:member_")
    return f"list {members}" if kind == "list" else f"{kind} {data['member']['uuid']} of {members}".strip()


async def settle() -> None:
    """Let the loop run until all events are sent."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_frames_match_the_contract() -> None:
    channel = Channel()
    first = channel.join("a", "uuid-a", user={"id": 1})
    await settle()
    channel.join("b", "uuid-b", user="é")
    await settle()
    channel.leave("b")
    await settle()
    a, b = {"uuid": "uuid-a", "user": {"id": 1}}, {"uuid": "uuid-b", "user": "é"}
    assert first.received == [
        {"event": "system:member_list", "data": {"members": [a]}},
        {"event": "system:member_joined", "data": {"member": b, "members": [a, b]}},
        {"event": "system:member_left", "data": {"member": b, "members": [a]}},
    ]


async def test_a_new_member_gets_the_list_and_the_others_get_an_event() -> None:
    channel = Channel()
    for name in "abc":
        channel.join(name)
        await settle()
    assert channel.received("a") == ["list a", "joined b of a b", "joined c of a b c"]
    assert channel.received("b") == ["list a b", "joined c of a b c"]
    assert channel.received("c") == ["list a b c"]


async def test_with_notify_self_a_member_gets_its_own_join_too() -> None:
    channel = Channel()
    channel.join("a")
    channel.join("b", echo=True)
    await settle()
    assert channel.received("b") == ["list a b", "joined b of a b"]


async def test_changes_in_one_turn_are_each_announced_in_order() -> None:
    channel = Channel()
    for name in "abc":
        channel.join(name)
    await settle()
    assert [channel.received(name) for name in "abc"] == [["list a b c"]] * 3
    channel.join("d")
    channel.leave("b")
    channel.join("e")
    channel.leave("d")
    await settle()
    assert channel.received("a") == [
        "joined d of a b c d",
        "left b of a c d",
        "joined e of a c d e",
        "left d of a c e",
    ]
    assert channel.received("e") == ["list a c e"]
    assert channel.received("b") == channel.received("d") == []


async def test_one_person_in_two_tabs_is_two_members() -> None:
    channel = Channel()
    channel.join("a", user="Ann")
    channel.join("b", user="Ann")
    await settle()
    assert channel.received("a") == ["list a b"]


async def test_a_newer_connection_with_the_same_uuid_replaces_the_older_one() -> None:
    channel = Channel()
    old, other = channel.join("old", "x", user=1), channel.join("other")
    await settle()
    new = channel.join("new", "x", user=2)
    await settle()
    assert [short(event) for event in old.received[1:]] == ["joined x of other x"]
    assert new.received[0]["data"]["members"] == [{"uuid": "other", "user": "anonymous"}, {"uuid": "x", "user": 2}]
    channel.leave("old")
    await settle()
    channel.leave("new")
    await settle()
    assert [short(event) for event in other.received[1:]] == ["joined x of other x", "left x of other"]


async def test_a_replaced_connection_is_listed_again_when_the_newer_one_leaves() -> None:
    channel = Channel()
    channel.join("alice", "x", user="alice")
    watcher = channel.join("watcher")
    channel.join("mallory", "x", user="mallory")
    await settle()
    channel.leave("mallory")
    await settle()
    last = watcher.received[-1]
    assert last["event"] == "system:member_joined"
    assert last["data"]["member"] == {"uuid": "x", "user": "alice"}
    assert [member["uuid"] for member in last["data"]["members"]] == ["x", "watcher"]
    channel.leave("alice")
    await settle()
    assert short(watcher.received[-1]) == "left x of watcher"


async def test_a_join_is_refused_if_the_list_would_become_too_large_to_send() -> None:
    channel = Channel(max_backlog_bytes=10_000)
    for number in range(4):
        channel.join(f"m{number}", user="😀" * 250)
    with pytest.raises(Refusal) as raised:
        channel.join("one too many", user="😀" * 250)
    assert raised.value.close is TOO_MANY_MEMBERS
    channel.leave("m0")
    channel.join("in its place", user="😀" * 250)


async def test_a_channel_that_everybody_has_left_is_forgotten() -> None:
    channel = Channel()
    channel.join("a")
    channel.join("b")
    channel.leave("a", "b")
    await settle()
    channel.join("c")
    await settle()
    assert channel.received("c") == ["list c"]
    channel.leave("c")
    assert channel.presence._rosters == {}


async def test_members_of_a_crowd_get_their_list_once_all_are_in_and_earlier_members_get_each_event() -> None:
    channel = Channel()
    channel.join("first")
    await settle()
    names = [f"m{number}" for number in range(100)]
    for name in names:
        channel.join(name)
        await asyncio.sleep(0)
    assert channel.outlets["m99"].received == []
    await asyncio.sleep(announcer.MOMENT_SECONDS * 5)
    everybody = ["first", *names]
    assert channel.received("m99") == [f"list {' '.join(everybody)}"]
    assert channel.received("first") == [
        "list first",
        *(f"joined {name} of {' '.join(everybody[: number + 2])}" for number, name in enumerate(names)),
    ]
    channel.leave("m7")
    await settle()
    assert channel.received("m99") == [f"left m7 of {' '.join(name for name in everybody if name != 'm7')}"]


async def test_an_endless_crowd_keeps_nobody_waiting_forever() -> None:
    channel = Channel()
    waiting = channel.join("first-of-many")
    for number in range(20):
        channel.join(f"m{number}")
    late = channel.join("late")
    for _ in range(150):
        for number in range(10):
            channel.join(f"x{number}")
        await asyncio.sleep(0.01)
        channel.leave(*(f"x{number}" for number in range(10)))
    assert short(waiting.received[0]).startswith("list first-of-many")
    assert short(late.received[0]).startswith("list")


async def test_a_member_gets_every_event_after_its_list_and_none_from_before() -> None:
    """Every member can follow the list from event to event, whatever happens."""
    channel = Channel()
    for number in range(120):
        channel.join(f"m{number}")
        if number % 3 == 2:
            channel.leave(f"m{number - 1}")
        await asyncio.sleep(0.001 if number % 20 else 0.12)
    await asyncio.sleep(announcer.MAX_PAUSE_SECONDS)
    present = list(channel.members)
    for name in present:
        kind, *known = channel.outlets[name].received
        uuids = [member["uuid"] for member in kind["data"]["members"]]
        assert kind["event"] == "system:member_list"
        assert name in uuids
        for event in known:
            uuid = event["data"]["member"]["uuid"]
            uuids = [*uuids, uuid] if event["event"] == "system:member_joined" else [u for u in uuids if u != uuid]
            assert uuids == [member["uuid"] for member in event["data"]["members"]]
        assert uuids == present


async def test_events_wait_for_a_slow_reader_but_not_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcer, "MAX_PAUSE_SECONDS", 0.05)
    channel = Channel()
    slow, other = channel.join("slow"), channel.join("other")
    await settle()
    slow.reads = False
    for number in range(200):
        channel.join(f"m{number}", user="x" * 500)
    await asyncio.sleep(0.02)
    assert 100_000 < slow.waiting < 100_000 + 2 * announcer.MAX_BATCH_BYTES + 100_000
    assert len(other.received) < 201
    slow.waiting = 0
    await asyncio.sleep(0.02)
    assert slow.waiting > 0
    await asyncio.sleep(1)
    assert len(other.received) == 201


async def test_joins_are_refused_while_a_channel_changes_faster_than_it_can_announce(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(announcer, "MAX_EVENTS", 10)
    channel = Channel()
    for number in range(10):
        channel.join(f"m{number}")
    with pytest.raises(Refusal) as raised:
        channel.join("one too many")
    assert raised.value.close is OVER_CAPACITY
    await settle()
    channel.join("later")


async def test_with_the_events_of_pusher_only_the_first_join_and_the_last_leave_of_a_user_are_reported() -> None:
    presence, outlets = Presence("node", 400_000), [Outlet() for _ in range(3)]
    members = [Member(outlet, echo=False) for outlet in outlets]
    for member, user in zip(members, ("ann", "bob", "bob"), strict=True):
        presence.join("group", member, Identity.from_json(user, "null"), PusherEvents("presence-a"))
        await settle()
    presence.leave("group", members[1])
    await settle()
    presence.leave("group", members[2])
    await settle()
    assert [frame["event"] for frame in outlets[0].received] == [
        "pusher_internal:subscription_succeeded",
        "pusher_internal:member_added",
        "pusher_internal:member_removed",
    ]
    assert [frame["event"] for frame in outlets[2].received] == ["pusher_internal:subscription_succeeded"]
