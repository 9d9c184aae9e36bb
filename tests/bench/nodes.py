"""Measure several nodes that share a Redis: `.venv/bin/python -m tests.bench.nodes`.

A client of the first node publishes, clients of every node listen. At a steady rate it shows how much later a message
is on another node than on the publisher's own, and what it costs each process; then how many a second all of them take.
Nodes, Redis and clients share the cores, so that costs count more than rates. Every message must arrive everywhere, in
order.
"""

import argparse
import asyncio
import os
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tests.clients import channel_path
from tests.servers import LiveServer, Redis, environment, free_port, make_tenants
from tests.sockets.test_refusals import GOOD_HANDSHAKE, handshake

SIZE = 120  # bytes a message: shorter than what takes a longer header
FRAME = SIZE + 2
WINDOW = 256  # messages under way to the slowest listener of a channel, at full speed
_STAMP = struct.Struct("<dq")


class Client(asyncio.Protocol):
    """A connection to a channel; a listener notes for each message how old it was, and checks the order."""

    def __init__(self, path: str, ages: list[float] | None = None) -> None:
        self._path = path
        self._ages = ages
        self._buffer = b""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.heard = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(handshake(self._path, *GOOD_HANDSHAKE))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self.opened.done():
            _, end, self._buffer = self._buffer.partition(b"\r\n\r\n")
            if end:
                self.opened.set_result(None)
            return
        whole = len(self._buffer) // FRAME
        if self._ages is not None:
            now = time.perf_counter()
            for start in range(2, whole * FRAME, FRAME):
                sent_at, number = _STAMP.unpack_from(self._buffer, start)
                if number != self.heard:
                    raise AssertionError(f"heard {number} and not {self.heard}")
                self._ages.append(now - sent_at)
                self.heard += 1
        else:
            self.heard += whole
        self._buffer = self._buffer[whole * FRAME :]


def message(number: int) -> bytes:
    """A binary message, masked with zeros."""
    return b"\x82" + bytes([0x80 | SIZE]) + bytes(4) + _STAMP.pack(time.perf_counter(), number).ljust(SIZE, b"x")


@dataclass
class Channel:
    """A publisher on the first node, and a listener on each that has any."""

    publisher: Client
    listeners: list[Client]
    sent: int = 0

    def publish(self, messages: int = 1) -> None:
        self.publisher.transport.write(b"".join(message(self.sent + more) for more in range(messages)))
        self.sent += messages

    @property
    def heard(self) -> int:
        return min(listener.heard for listener in self.listeners)


@dataclass
class Run:
    """What was seen: ages of messages by node in seconds, and CPU in microseconds a message by process."""

    rate: float
    ages: list[list[float]]
    cpu: dict[str, float] = field(default_factory=dict)


async def connect(port: int, path: str, ages: list[float] | None = None) -> Client:
    client = Client(path, ages)
    await asyncio.get_running_loop().create_connection(lambda: client, "127.0.0.1", port)
    await client.opened
    return client


async def measure(
    nodes: list[LiveServer], redis: Redis, key: str, channels: int, rate: int, seconds: float, listening: list[int]
) -> Run:
    """Publish for some seconds.

    Args:
        rate: messages a second in all channels together; 0 for as many as go.
        listening: the nodes that have listeners.
    """
    ages: list[list[float]] = [[] for _ in nodes]
    made = []
    for number in range(channels):
        path = channel_path(f"c{number}", key)
        listeners = [await connect(nodes[node].port, path, ages[node] if rate else None) for node in listening]
        made.append(Channel(await connect(nodes[0].port, path), listeners))
    await asyncio.sleep(0.5)
    processes = {**{f"node {number + 1}": node.process.pid for number, node in enumerate(nodes)}}
    processes["Redis"] = redis.process.pid
    before = {name: cpu_of(pid) for name, pid in processes.items()}
    begun = time.perf_counter()
    while (now := time.perf_counter() - begun) < seconds:
        if rate:
            due = int(now * rate)
            for number in range(sum(channel.sent for channel in made), due):
                made[number % channels].publish()
            await asyncio.sleep(0.001)
        else:
            for channel in made:
                if channel.sent - channel.heard < WINDOW:
                    channel.publish(16)
            await asyncio.sleep(0)
    while any(channel.heard < channel.sent for channel in made):
        if time.perf_counter() - begun > seconds + 10:
            raise AssertionError("Some messages have not arrived.")
        await asyncio.sleep(0.001)
    took = time.perf_counter() - begun
    sent = sum(channel.sent for channel in made)
    cpu = {name: (cpu_of(pid) - before[name]) * 1e6 / sent for name, pid in processes.items()}
    for channel in made:
        for client in (channel.publisher, *channel.listeners):
            client.transport.abort()
    return Run(sent / took, ages, cpu)


def cpu_of(pid: int) -> float:
    """The CPU seconds of a process, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


@contextmanager
def running(number: int) -> Iterator[tuple[list[LiveServer], Redis, str]]:
    """Start nodes that share a Redis and a database; the last is the key of their tenant."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(Redis(directory))
        key = make_tenants(environment(directory))[0]["demo"]
        nodes = []
        for count in range(number):
            own, port = directory / str(count), free_port()
            own.mkdir()
            command = [sys.executable, "manage.py", "serve", "--port", str(port)]
            env = {"DATA_DIR": str(directory), "REDIS_URL": redis.url, "QUOTA_MESSAGES_PER_SECOND": "100000000"}
            nodes.append(LiveServer(own, command, port, **env))
            nodes[-1].start()
            stack.callback(nodes[-1].stop)
        yield nodes, redis, key


def show(label: str, runs: list[Run]) -> None:
    """Print medians over the runs."""
    rate = median(run.rate for run in runs)
    print(f"\n{label}: {rate:,.0f} messages a second")
    for number in range(len(runs[0].ages)):
        ages = [sorted(run.ages[number]) for run in runs if run.ages[number]]
        if ages:
            p50, p99 = (median(one[int(len(one) * part)] for one in ages) * 1000 for part in (0.5, 0.99))
            where = "the publisher's node" if number == 0 else f"node {number + 1}"
            print(f"  on {where}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    costs = {name: median(run.cpu[name] for run in runs) for name in runs[0].cpu}
    print("  µs of CPU a message: " + ", ".join(f"{name} {cost:.1f}" for name, cost in costs.items()))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.nodes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4, help="how long each takes (default: %(default)s)")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores; {options.rounds} rounds of {options.seconds:g} s; medians")
    for number in (1, 2, 4):
        everywhere = list(range(number))
        with running(number) as (nodes, redis, key):
            for label, channels, rate, listening in (
                ("1 channel, 1,000 a second", 1, 1_000, everywhere),
                ("100 channels, 1,000 a second", 100, 1_000, everywhere),
                ("1 channel, 1,000 a second, listeners on node 1 alone", 1, 1_000, [0]),
                ("1 channel, full speed", 1, 0, everywhere),
                ("100 channels, full speed", 100, 0, everywhere),
            ):
                work = (nodes, redis, key, channels, rate, options.seconds, listening)
                runs = [asyncio.run(measure(*work)) for _ in range(options.rounds)]
                show(f"{number} nodes, {label}", runs)


if __name__ == "__main__":
    main()
