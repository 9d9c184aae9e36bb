"""Fair scheduling: busy connections are served in slices of the loop's time, and other connections between them."""

import asyncio
from collections.abc import Callable, Hashable

import pytest

from realtime.server import fair_scheduling as module
from realtime.server.fair_scheduling import LARGE, SHARED_SECONDS, SMALL, Scheduler
from tests.clients import until


class Clock:
    """The clock of the module under test."""

    now = 1.0

    def perf_counter(self) -> float:
        return self.now


class Transport:
    """Records whether a connection is read or aborted."""

    def __init__(self) -> None:
        self.is_read = True
        self.is_aborted = False

    def pauseProducing(self) -> None:
        self.is_read = False

    def resumeProducing(self) -> None:
        self.is_read = True

    def abortConnection(self) -> None:
        self.is_aborted = True


class Connection:
    """A connection that processes one byte at a time and needs a fixed time for each."""

    cost = 1
    untaken = b""
    position = 0

    def __init__(self, clock: Clock, log: list[str], party: Hashable, seconds: float) -> None:
        self._clock = clock
        self.party = party
        self.transport = Transport()
        self._log = log
        self._seconds = seconds

    def take(self, data: bytes, position: int, until: float) -> int:
        while True:
            if data[position : position + 1] == b"!":
                raise ValueError("a fault")
            self._clock.now += self._seconds
            self._log.append(chr(data[position]))
            position += 1
            if position == len(data) or self._clock.now > until:
                return position

    def flush(self) -> None: ...


Connect = Callable[..., Connection]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def connect(clock: Clock, log: list[str]) -> Connect:
    """A function that returns a connection of a party, which needs some seconds for each byte."""
    return lambda party, seconds=0.0: Connection(clock, log, party, seconds)


@pytest.fixture
def scheduler(clock: Clock) -> Scheduler:
    return Scheduler()


@pytest.fixture
def log() -> list[str]:
    return []


async def test_data_that_fits_into_a_slice_is_processed_immediately(
    scheduler: Scheduler, connect: Connect, log: list[str]
) -> None:
    quick = connect(1)
    scheduler.receive(quick, b"abc")
    assert ("".join(log), quick.transport.is_read) == ("abc", True)


async def test_longer_data_waits_for_later_turns_in_order_and_reading_pauses_meanwhile(
    scheduler: Scheduler, connect: Connect, log: list[str]
) -> None:
    slow = connect(1, 1.1 * LARGE.of_connection)
    scheduler.receive(slow, b"abc")
    assert (log, slow.transport.is_read) == (["a"], False)
    scheduler.receive(slow, b"de")  # TLS may still deliver data while reading is paused
    await until(lambda: slow.transport.is_read, pause=0)
    assert "".join(log) == "abcde"
    scheduler.receive(slow, b"f")
    await until(lambda: slow.transport.is_read, pause=0)
    assert "".join(log) == "abcdef"


async def test_waiting_parties_take_turns_however_many_connections_each_has(
    scheduler: Scheduler, connect: Connect, log: list[str]
) -> None:
    many = [connect(1, 1.1 * SMALL.of_connection) for _ in range(10)]
    other = connect(2, 1.1 * SMALL.of_connection)
    for connection in many:
        scheduler.receive(connection, b"aaaaaaaaaa")
    scheduler.receive(other, b"bbbbbbbbbb")
    await until(lambda: other.transport.is_read, pause=0)
    assert (log.count("a"), log.count("b")) == (11, 10)


async def test_the_connections_of_a_party_share_its_slice_of_each_turn(
    scheduler: Scheduler, connect: Connect, log: list[str]
) -> None:
    scheduler.receive(connect(1), b"x")
    scheduler.receive(connect(2), b"y")
    assert scheduler.slices is SMALL
    crowd = [connect(2, 0.6 * SMALL.of_party) for _ in range(10)]
    for connection in crowd:
        scheduler.receive(connection, b"z")
    assert log.count("z") == 2
    await until(lambda: all(connection.transport.is_read for connection in crowd), pause=0)
    assert log.count("z") == 10


async def test_data_with_a_higher_cost_uses_more_of_the_slice(
    scheduler: Scheduler, connect: Connect, log: list[str]
) -> None:
    scheduler.receive(connect(2), b"y")
    first, second = connect(1, SMALL.of_party / 3), connect(1)
    first.cost = 4
    scheduler.receive(first, b"a")
    scheduler.receive(second, b"b")
    assert log == ["y", "a"]
    await until(lambda: second.transport.is_read, pause=0)
    assert log == ["y", "a", "b"]


async def test_slices_are_large_again_when_only_one_party_has_sent_for_a_while(
    scheduler: Scheduler, connect: Connect, clock: Clock
) -> None:
    one, other = connect(1), connect(2)
    scheduler.receive(one, b"a")
    scheduler.receive(other, b"b")
    assert scheduler.slices is SMALL
    clock.now += 1.1 * SHARED_SECONDS
    scheduler.receive(other, b"b")
    await asyncio.sleep(0)
    assert scheduler.slices is LARGE
    scheduler.receive(one, b"a")
    assert scheduler.slices is SMALL


async def test_what_others_have_sent_is_handled_before_connections_that_wait(
    scheduler: Scheduler, connect: Connect, log: list[str]
) -> None:
    scheduler.before = lambda: log.append("|")
    slow = connect(1, 1.1 * LARGE.of_connection)
    scheduler.receive(slow, b"abc")
    await until(lambda: slow.transport.is_read, pause=0)
    assert log[:3] == ["a", "|", "b"]


async def test_an_exception_ends_its_connection_and_no_other(
    scheduler: Scheduler, connect: Connect, log: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    faulty, other = (connect(1, 1.1 * LARGE.of_connection) for _ in range(2))
    scheduler.receive(faulty, b"a!c")
    scheduler.receive(other, b"xyz")
    await until(lambda: other.transport.is_read, pause=0)
    assert faulty.transport.is_aborted
    assert "".join(log) == "axyz"
    assert "A connection is given up." in caplog.text
