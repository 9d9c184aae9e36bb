"""Measure several nodes that share a Redis: `.venv/bin/python -m tests.bench.nodes`.

A client of the first node publishes, and clients of all nodes listen. At a steady rate, the program measures how much
later a message arrives on the other nodes, and what a message costs each process. At full speed, it measures the rate
of all nodes together. Nodes, Redis and clients share the cores, so costs say more than rates. Every message must arrive
at every listener, in order.

Then, the program compares two nodes with one node, and with other systems in alternating rounds: see `two_nodes.py`.
"""

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

from tests.bench.two_nodes import WORKS, System, compare
from tests.clients import channel_path
from tests.options import option_parser
from tests.servers import LiveServer, Redis, environment, free_port, make_tenants
from tests.sockets.test_refusals import GOOD_HANDSHAKE, handshake

SIZE = 120  # bytes per message; longer ones would need a longer frame header
FRAME = SIZE + 2
WINDOW = 256  # messages on the way to the slowest listener of a channel, at full speed
_STAMP = struct.Struct("<dq")


class Client(asyncio.Protocol):
    """A connection to a channel. With `ages`, it records the age of each message and checks their order."""

    def __init__(self, path: str, ages: list[float] | None = None) -> None:
        self._path = path
        self._ages = ages
        self._buffer = b""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = 0

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
                if number != self.received:
                    raise AssertionError(f"received message {number} instead of {self.received}")
                self._ages.append(now - sent_at)
                self.received += 1
        else:
            self.received += whole
        self._buffer = self._buffer[whole * FRAME :]


def message(number: int) -> bytes:
    """Return the frame of a binary message, masked with zeros."""
    return b"\x82" + bytes([0x80 | SIZE]) + bytes(4) + _STAMP.pack(time.perf_counter(), number).ljust(SIZE, b"x")


@dataclass
class Channel:
    """A publisher on the first node, and one listener on each node that has listeners."""

    publisher: Client
    listeners: list[Client]
    sent: int = 0

    def publish(self, messages: int = 1) -> None:
        self.publisher.transport.write(b"".join(message(self.sent + more) for more in range(messages)))
        self.sent += messages

    @property
    def received(self) -> int:
        return min(listener.received for listener in self.listeners)


@dataclass
class Run:
    """The result of a run: ages of messages by node in seconds, and CPU per message by process in microseconds."""

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
    """Publish for some seconds and return the result.

    Args:
        rate: messages per second in all channels together; 0 for as many as possible.
        listening: the numbers of the nodes that have listeners.
    """
    ages: list[list[float]] = [[] for _ in nodes]
    open_channels = []
    for number in range(channels):
        path = channel_path(f"c{number}", key)
        listeners = [await connect(nodes[node].port, path, ages[node] if rate else None) for node in listening]
        open_channels.append(Channel(await connect(nodes[0].port, path), listeners))
    await asyncio.sleep(0.5)
    processes = {**{f"node {number + 1}": node.process.pid for number, node in enumerate(nodes)}}
    processes["Redis"] = redis.process.pid
    before = {name: cpu_of(pid) for name, pid in processes.items()}
    started = time.perf_counter()
    while (now := time.perf_counter() - started) < seconds:
        if rate:
            due = int(now * rate)
            for number in range(sum(channel.sent for channel in open_channels), due):
                open_channels[number % channels].publish()
            await asyncio.sleep(0.001)
        else:
            for channel in open_channels:
                if channel.sent - channel.received < WINDOW:
                    channel.publish(16)
            await asyncio.sleep(0)
    while any(channel.received < channel.sent for channel in open_channels):
        if time.perf_counter() - started > seconds + 10:
            raise AssertionError("Some messages did not arrive.")
        await asyncio.sleep(0.001)
    elapsed = time.perf_counter() - started
    sent = sum(channel.sent for channel in open_channels)
    cpu = {name: (cpu_of(pid) - before[name]) * 1e6 / sent for name, pid in processes.items()}
    for channel in open_channels:
        for client in (channel.publisher, *channel.listeners):
            client.transport.abort()
    return Run(sent / elapsed, ages, cpu)


def cpu_of(pid: int) -> float:
    """Return the CPU time of a process in seconds, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


@contextmanager
def running(number: int) -> Iterator[tuple[list[LiveServer], Redis, str]]:
    """Start nodes that share a Redis and a database; yield the nodes, the Redis and the API key of their tenant."""
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
            nodes.append(stack.enter_context(LiveServer(own, command, port, **env).start()))
        yield nodes, redis, key


def print_medians(label: str, runs: list[Run]) -> None:
    """Print the medians of the runs."""
    rate = median(run.rate for run in runs)
    print(f"\n{label}: {rate:,.0f} messages per second")
    for number in range(len(runs[0].ages)):
        ages = [sorted(run.ages[number]) for run in runs if run.ages[number]]
        if ages:
            p50, p99 = (median(run[int(len(run) * part)] for run in ages) * 1000 for part in (0.5, 0.99))
            where = "the publisher's node" if number == 0 else f"node {number + 1}"
            print(f"  on {where}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    costs = {name: median(run.cpu[name] for run in runs) for name in runs[0].cpu}
    print("  CPU per message in µs: " + ", ".join(f"{name} {cost:.1f}" for name, cost in costs.items()))


def main() -> None:
    parser = option_parser("tests.bench.nodes", __doc__)
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4, help="seconds per measurement (default: %(default)s)")
    parser.add_argument(
        "--work", nargs="+", choices=["scaling", *WORKS], default=["scaling", *WORKS], help="run only this work"
    )
    parser.add_argument("--before", type=Path, help="folder of another version of this project, to compare with")
    parser.add_argument("--soketi", type=Path, help="folder in which npm has installed Soketi, to compare with")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, rounds: {options.rounds}, seconds per measurement: {options.seconds:g}; medians")
    if "scaling" in options.work:
        scale(options.rounds, options.seconds)
    systems = [System("2 nodes"), System("2 nodes, `rediss://`", uses_tls=True), System("1 node", nodes=1)]
    if options.before:
        systems.append(System("2 nodes, before", options.before))
    if options.soketi:
        systems.append(System("2 nodes of Soketi", options.soketi, is_soketi=True))
    if works := [work for work in WORKS if work in options.work]:
        compare(systems, works, options.rounds, options.seconds)


def scale(rounds: int, seconds: float) -> None:
    """Measure 1, 2 and 4 nodes that all have listeners."""
    for number in (1, 2, 4):
        everywhere = list(range(number))
        with running(number) as (nodes, redis, key):
            for label, channels, rate, listening in (
                ("1 channel, 1,000 messages per second", 1, 1_000, everywhere),
                ("100 channels, 1,000 messages per second", 100, 1_000, everywhere),
                ("1 channel, 1,000 messages per second, listeners only on node 1", 1, 1_000, [0]),
                ("1 channel, full speed", 1, 0, everywhere),
                ("100 channels, full speed", 100, 0, everywhere),
            ):
                work = (nodes, redis, key, channels, rate, seconds, listening)
                runs = [asyncio.run(measure(*work)) for _ in range(rounds)]
                print_medians(f"{number} {'node' if number == 1 else 'nodes'}, {label}", runs)


if __name__ == "__main__":
    main()
