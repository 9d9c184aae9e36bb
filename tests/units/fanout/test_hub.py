"""Which members get which messages, and in which writes."""

from collections.abc import Callable

import pytest

from realtime.fanout.hub import Hub, Member, Room
from realtime.metrics.counters import Deliveries
from realtime.protocols.closes import Close
from realtime.protocols.frames import Batch, Frames, Message


class Record:
    """An outlet that records what it is given, as a list of messages for each write."""

    is_gone = False

    def __init__(self) -> None:
        self.writes: list[list[str | bytes]] = []

    def deliver(self, batch: Batch) -> None:
        self.writes.append([message.data for message in batch.messages])

    def close(self, close: Close) -> None: ...

    def stop(self) -> None: ...


class Turns:
    """An event loop whose turns the test runs."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, function: Callable[[], None]) -> None:
        self.waiting.append(function)

    def turn(self) -> None:
        waiting, self.waiting = self.waiting, []
        for function in waiting:
            function()


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def hub(turns: Turns) -> Hub:
    return Hub(turns)


def join(
    hub: Hub, name: str = "room", *, echo: bool = False, deliveries: Deliveries | None = None
) -> tuple[Member, Record, Room]:
    outlet = Record()
    member = Member(outlet, echo=echo)
    return member, outlet, enter(hub, name, member, deliveries)


def enter(hub: Hub, name: str, member: Member, deliveries: Deliveries | None = None) -> Room:
    room = hub.room(name, (1, name), deliveries or Deliveries())
    room.add(member)
    return room


def test_a_message_reaches_the_other_members_of_its_room_and_nobody_else(hub: Hub, turns: Turns) -> None:
    sender, own, room = join(hub)
    _, other, _ = join(hub)
    _, elsewhere, _ = join(hub, "elsewhere")
    hub.publish(room, Message("a"), sender)
    turns.turn()
    assert (own.writes, other.writes, elsewhere.writes) == ([], [["a"]], [])


def test_a_sender_with_echo_gets_its_own_messages(hub: Hub, turns: Turns) -> None:
    sender, own, room = join(hub, echo=True)
    hub.publish(room, Message("a"), sender)
    turns.turn()
    assert own.writes == [["a"]]


def test_a_message_without_a_sender_reaches_all_members(hub: Hub, turns: Turns) -> None:
    _, first, room = join(hub)
    _, second, _ = join(hub)
    hub.publish(room, Message("a"))
    turns.turn()
    assert (first.writes, second.writes) == ([["a"]], [["a"]])


def test_messages_of_one_turn_share_a_write_and_keep_their_order(hub: Hub, turns: Turns) -> None:
    quiet, quiet_outlet, room = join(hub)
    loud, loud_outlet, _ = join(hub, echo=True)
    _, other, _ = join(hub)
    for number in range(4):
        hub.publish(room, Message(str(number)), (quiet, loud)[number % 2])
    assert len(turns.waiting) == 1
    turns.turn()
    assert other.writes == loud_outlet.writes == [["0", "1", "2", "3"]]
    assert quiet_outlet.writes == [["1", "3"]]


def test_a_message_is_written_once_and_at_the_end_of_the_turn(hub: Hub, turns: Turns) -> None:
    _, other, room = join(hub)
    hub.publish(room, Message("a"))
    assert other.writes == []
    turns.turn()
    turns.turn()
    hub.publish(room, Message("b"))
    turns.turn()
    assert other.writes == [["a"], ["b"]]


def test_a_new_member_gets_no_earlier_messages(hub: Hub, turns: Turns) -> None:
    _, early, room = join(hub)
    hub.publish(room, Message("a"))
    _, late, _ = join(hub)
    turns.turn()
    assert (early.writes, late.writes) == ([["a"]], [])


def test_a_member_that_leaves_gets_nothing_more_but_what_it_sent_still_arrives(hub: Hub, turns: Turns) -> None:
    sender, own, room = join(hub, echo=True)
    _, other, _ = join(hub)
    hub.publish(room, Message("a"), sender)
    hub.leave(room, sender)
    turns.turn()
    assert (own.writes, other.writes) == ([], [["a"]])


def test_a_room_exists_from_its_first_member_to_its_last(hub: Hub, turns: Turns) -> None:
    first, _, room = join(hub)
    second, _, _ = join(hub)
    hub.leave(room, first)
    assert list(hub.rooms) == ["room"]
    hub.publish(room, Message("a"))
    hub.leave(room, second)
    assert hub.rooms == {}
    turns.turn()


def test_deliveries_are_counted_for_each_receiver(hub: Hub, turns: Turns) -> None:
    counted, elsewhere = Deliveries(), Deliveries()
    sender, _, room = join(hub, deliveries=counted)
    join(hub)
    join(hub)
    join(hub, "elsewhere", deliveries=elsewhere)
    hub.publish(room, Message("abc"), sender)
    turns.turn()
    assert (counted.count, counted.bytes) == (2, 2 * 5)
    hub.publish(room, Message("abc"))
    turns.turn()
    assert (counted.count, counted.bytes) == (5, 5 * 5)
    assert elsewhere.count == 0


def test_in_a_shared_write_messages_that_their_senders_do_not_get_are_not_counted(hub: Hub, turns: Turns) -> None:
    counted = Deliveries()
    quiet, _, room = join(hub, deliveries=counted)
    silent, _, _ = join(hub)
    loud, _, _ = join(hub, echo=True)
    for sender in (quiet, quiet, silent, loud):
        hub.publish(room, Message("abc"), sender)
    hub.publish(room, Frames(Message("d").wire + Message("e").wire, 2))
    turns.turn()
    assert counted.count == 6 * 3 - 3
    assert counted.bytes == (4 * 5 + 2 * 3) * 3 - 3 * 5


def test_messages_of_a_sender_that_has_left_are_counted_for_their_receivers(hub: Hub, turns: Turns) -> None:
    counted = Deliveries()
    sender, _, room = join(hub, deliveries=counted)
    join(hub)
    hub.publish(room, Message("a"), sender)
    hub.leave(room, sender)
    turns.turn()
    assert counted.count == 1


def test_a_connection_that_fails_keeps_nothing_from_other_members_and_rooms(
    hub: Hub, turns: Turns, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(Record):
        def deliver(self, batch: Batch) -> None:
            raise RuntimeError("a fault")

    room = enter(hub, "first", Member(Faulty(), echo=False))
    _, in_first, _ = join(hub, "first")
    _, in_second, second = join(hub, "second")
    for messages in (["a"], ["b", "c"]):
        for message in messages:
            hub.publish(room, Message(message))
            hub.publish(second, Message(message))
        turns.turn()
    assert in_first.writes == in_second.writes == [["a"], ["b", "c"]]
    assert ["could not be delivered" in record.getMessage() for record in caplog.records] == [True, True]
