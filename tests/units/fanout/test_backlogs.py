"""Which slow clients are given up."""

import pytest

from realtime.fanout.backlogs import STALL_BYTES, STALL_SECONDS, Backlogs

MIB = 1024 * 1024


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Slow:
    """An outlet whose backlog the test changes."""

    def __init__(self, backlogs: Backlogs) -> None:
        self._backlogs = backlogs
        self.waiting = 0
        self.end = ""

    def waiting_bytes(self) -> int:
        return self.waiting

    def give_up(self) -> None:
        self.end = "4100"

    def abort(self) -> None:
        self.end, self.waiting = "aborted", 0

    def get(self, size: int) -> None:
        self.waiting += size
        self._backlogs.grow(self, size)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backlogs(clock: Clock) -> Backlogs:
    return Backlogs(16 * MIB, 100 * MIB, clock)


def test_a_client_that_takes_nothing_while_much_waits_is_given_up(backlogs: Backlogs, clock: Clock) -> None:
    stalled, reading, small = Slow(backlogs), Slow(backlogs), Slow(backlogs)
    stalled.get(STALL_BYTES)
    reading.get(10 * STALL_BYTES)
    small.get(STALL_BYTES - 1)
    for _ in range(int(STALL_SECONDS) + 1):
        backlogs.check()
        reading.waiting -= 1
        clock.now += 1
    assert [outlet.end for outlet in (stalled, reading, small)] == ["4100", "", ""]


def test_a_client_that_takes_less_than_it_gets_is_reading(backlogs: Backlogs, clock: Clock) -> None:
    reading = Slow(backlogs)
    for _ in range(100):
        reading.get(100_000)
        reading.waiting -= 10
        backlogs.check()
        clock.now += 1
    assert reading.end == ""


def test_above_the_total_the_slowest_go_first_and_the_others_stay(backlogs: Backlogs) -> None:
    outlets = [Slow(backlogs) for _ in range(15)]
    for number, outlet in enumerate(outlets):
        outlet.get(number * MIB)
    assert [number for number, outlet in enumerate(outlets) if outlet.end] == [14]


def test_a_backlog_that_stays_after_the_close_frame_is_freed_when_the_room_is_needed(backlogs: Backlogs) -> None:
    outlets = [Slow(backlogs) for _ in range(50)]
    for _ in range(20):
        for outlet in outlets:
            if not outlet.end:
                outlet.get(MIB)
        assert sum(outlet.waiting for outlet in outlets) <= 101 * MIB + 16 * MIB
    assert {outlet.end for outlet in outlets} >= {"aborted"}


def test_a_connection_that_has_ended_is_forgotten(backlogs: Backlogs) -> None:
    outlet = Slow(backlogs)
    outlet.get(MIB)
    backlogs.forget(outlet)
    assert backlogs._backlogs == {}
