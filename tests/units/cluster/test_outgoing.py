"""What waits for other nodes: joined by group, in order, bounded."""

import pytest

from realtime.cluster.outgoing import Entry, Outgoing


@pytest.fixture
def outgoing() -> Outgoing:
    return Outgoing(max_bytes=10_000, max_batch_bytes=2_000)


def everything(outgoing: Outgoing) -> list[Entry]:
    return [outgoing.take() for _ in range(len(outgoing))]


def test_messages_of_a_group_that_wait_go_together(outgoing: Outgoing) -> None:
    for group, data in [("a", b"1"), ("b", b"2"), ("a", b"3")]:
        outgoing.put_frame(group, data)
    assert [(entry.group, entry.frames) for entry in everything(outgoing)] == [("a", [b"1", b"3"]), ("b", [b"2"])]


def test_what_was_taken_takes_no_further_messages(outgoing: Outgoing) -> None:
    outgoing.put_frame("a", b"1")
    first = outgoing.take()
    outgoing.put_frame("a", b"2")
    assert (first.frames, outgoing.take().frames) == ([b"1"], [b"2"])


def test_an_event_stays_between_the_messages_before_and_behind_it(outgoing: Outgoing) -> None:
    outgoing.put_frame("a", b"1")
    outgoing.put_event("a", {"type": "x"})
    outgoing.put_frame("a", b"2")
    assert [entry.event or entry.frames for entry in everything(outgoing)] == [[b"1"], {"type": "x"}, [b"2"]]


def test_a_batch_that_is_large_enough_takes_no_further_messages(outgoing: Outgoing) -> None:
    for size in (1500, 500, 1):
        outgoing.put_frame("a", b"x" * size)
    assert [len(entry.frames) for entry in everything(outgoing)] == [2, 1]


def test_what_is_taken_is_numbered(outgoing: Outgoing) -> None:
    for group in "abc":
        outgoing.put_frame(group, b"")
    assert [entry.number for entry in everything(outgoing)] == [1, 2, 3]


def test_when_it_is_full_the_oldest_make_room(outgoing: Outgoing) -> None:
    dropped = [outgoing.put_frame(group, b"x" * 2_000) for group in "abcdef"]
    assert dropped == [0, 0, 0, 0, 1, 1]
    assert [entry.group for entry in everything(outgoing)] == ["c", "d", "e", "f"]


def test_events_count_and_make_room_too(outgoing: Outgoing) -> None:
    outgoing.put_frame("a", b"1")
    outgoing.put_frame("a", b"2")
    dropped = sum(outgoing.put_event("b", {}) for _ in range(100))
    assert dropped == 2
    assert len(outgoing) == 100


def test_one_that_is_larger_than_all_goes_alone(outgoing: Outgoing) -> None:
    outgoing.put_frame("a", b"1")
    assert outgoing.put_frame("b", b"x" * 20_000) == 1
    assert outgoing.take().group == "b"
    assert outgoing.put_frame("c", b"1") == 0
