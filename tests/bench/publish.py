"""Compare publishing through HTTP with a view of Django REST framework: `.venv/bin/python -m tests.bench.publish`.

Each server runs alone on one core. Clients on another core publish over keep-alive connections to 100 channels with 10
receivers each; each connection sends one request at a time. Every message must arrive at every receiver of its channel,
and the messages of one connection in the order in which they were published.
"""

import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tests.clients import channel_path
from tests.options import option_parser
from tests.servers import PROJECT, environment, free_port, make_tenants, wait_for_port

CHANNELS, RECEIVERS = 100, 10
SERVER_CORE, LOAD_CORE = 0, 1
APPLICATIONS = {"this project": "piesite.asgi:application", "DRF view": "tests.bench.drf:application"}
HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
REQUEST = (
    "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
)
PADDING = "x" * 100


@dataclass
class Publisher:
    """A keep-alive connection that publishes to one channel after another."""

    number: int
    socket: socket.socket
    sent: int = 0
    sent_at: float = 0.0
    answer: bytes = b""

    def channel(self) -> int:
        return (self.number + self.sent) % CHANNELS

    def publish(self, credentials: dict[str, str]) -> None:
        message = f"{self.number}:{self.sent}:{PADDING}"
        body = json.dumps({**credentials, "channelId": f"c{self.channel()}", "message": message})
        self.socket.sendall((REQUEST.format(size=len(body)) + body).encode())
        self.sent += 1
        self.sent_at = time.perf_counter()

    def read_answer(self) -> bool:
        """Read from the connection and return whether the answer is complete."""
        self.answer += self.socket.recv(65536)
        if not self.answer.endswith(b"}") or b"\r\n\r\n" not in self.answer:
            return False
        if not self.answer.startswith(b"HTTP/1.1 200"):
            raise AssertionError(self.answer)
        self.answer = b""
        return True


@dataclass
class Receiver:
    """A connection to a channel, and the number of the last message that it received from each publisher."""

    channel: int
    socket: socket.socket
    buffer: bytes = b""
    received: int = 0
    last: dict[int, int] = field(default_factory=dict)

    def read(self) -> None:
        data = self.buffer + self.socket.recv(1 << 18)
        position = 0
        while len(data) - position >= 2:
            end = position + 2 + data[position + 1]  # all messages are shorter than 126 bytes
            if end > len(data):
                break
            publisher, number, _ = data[position + 2 : end].split(b":")
            self._check_order(int(publisher), int(number))
            position = end
        self.buffer = data[position:]

    def _check_order(self, publisher: int, number: int) -> None:
        expected = self.last.get(publisher, (self.channel - publisher) % CHANNELS - CHANNELS) + CHANNELS
        if number != expected:
            raise AssertionError(
                f"channel {self.channel}: message {number} of publisher {publisher} arrived instead of {expected}"
            )
        self.last[publisher] = number
        self.received += 1


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def connect_receivers(port: int, key: str) -> list[Receiver]:
    receivers = []
    for number in range(CHANNELS * RECEIVERS):
        receiver = Receiver(number % CHANNELS, connect(port))
        receiver.socket.sendall(HANDSHAKE.format(path=channel_path(f"c{receiver.channel}", key)).encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += receiver.socket.recv(1)
        receivers.append(receiver)
    return receivers


def load(port: int, credentials: dict[str, str], connections: int, seconds: float) -> tuple[float, float, float]:
    """Publish for some seconds; return requests per second, and the median and 99th percentile of their time in ms."""
    selector = selectors.DefaultSelector()
    receivers = connect_receivers(port, credentials["key"])
    publishers = [Publisher(number, connect(port)) for number in range(connections)]
    for client in (*receivers, *publishers):
        selector.register(client.socket, selectors.EVENT_READ, client)
    started = time.perf_counter()
    for publisher in publishers:
        publisher.publish(credentials)
    times: list[float] = []
    busy, until, quiet_since = connections, started + seconds, started
    while busy or time.perf_counter() - quiet_since < 0.5:
        for ready, _ in selector.select(0.1):
            client = ready.data
            quiet_since = now = time.perf_counter()
            if isinstance(client, Receiver):
                client.read()
            elif client.read_answer():
                times.append(now - client.sent_at)
                if now < until:
                    client.publish(credentials)
                else:
                    busy -= 1
                    finished = now
    expected = RECEIVERS * sum(publisher.sent for publisher in publishers)
    received = sum(receiver.received for receiver in receivers)
    if received != expected:
        raise AssertionError(f"{expected - received} of {expected} deliveries are missing")
    times.sort()
    return len(times) / (finished - started), median(times) * 1000, times[int(len(times) * 0.99)] * 1000


def main() -> None:
    parser = option_parser("tests.bench.publish", __doc__)
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4, help="seconds per measurement (default: %(default)s)")
    parser.add_argument(
        "--connections", type=int, nargs="+", default=[1, 64], help="numbers of keep-alive connections (default: 1 64)"
    )
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    results: dict[tuple[int, str], list[tuple[float, float, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        keys, secrets, _ = make_tenants(environment(Path(name)))
        credentials = {"key": keys["demo"], "secret": secrets["demo"]}
        for _ in range(options.rounds):
            for connections in options.connections:
                for label, application in APPLICATIONS.items():
                    port = free_port()
                    daphne = [sys.executable, "-m", "daphne", "-v", "0", "-p", str(port), application]
                    server = subprocess.Popen(
                        ["taskset", "-c", str(SERVER_CORE), *daphne], cwd=PROJECT, env=environment(Path(name))
                    )
                    try:
                        wait_for_port(port, server)
                        result = load(port, credentials, connections, options.seconds)
                    finally:
                        server.terminate()
                        server.wait(20)
                    results[connections, label].append(result)
                    rate, p50, p99 = result
                    print(f"{connections:>3} connections, {label}: {rate:,.0f} requests per second", flush=True)
    print(f"\n{'':<32}{'requests per second':>20}{'p50 ms':>10}{'p99 ms':>10}{'ratio':>8}")
    for (connections, label), runs in results.items():
        rate, p50, p99 = (median(values) for values in zip(*runs, strict=True))
        baseline = median(run[0] for run in results[connections, "DRF view"])
        name = f"{connections} connections, {label}"
        print(f"{name:<32}{rate:>20,.0f}{p50:>10.2f}{p99:>10.2f}{rate / baseline:>8.2f}")


if __name__ == "__main__":
    main()
