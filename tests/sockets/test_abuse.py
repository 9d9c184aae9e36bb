"""A stranger with a valid key, or with just an open socket, can neither take the service down nor slow others down.

Each test attacks a running server with frames that no well-behaved client sends, or with far more frames than such a
client sends.
"""

import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest

from realtime.protocols import closes
from realtime.server.socket_outlet import SLOW_CLOSE_SECONDS
from tests.conformance.test_short_paths import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, frame
from tests.conftest import Connect, Tenants
from tests.servers import LiveServer, Redis
from tests.sockets.pusher_api import signed_query
from tests.sockets.raw import Open, Raw
from tests.sockets.test_refusals import MIB, error

DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
NO_MASK = b"\0\0\0\0"
# The median delay that a flood may cause for another tenant, in seconds. On a quiet node it is 0.3 ms; a flood that is
# not throttled raises it to hundreds of milliseconds.
DISTURBED_SECONDS = 0.02


@pytest.fixture(scope="module")
def server(start: Callable[..., LiveServer]) -> LiveServer:
    """A server for this module only, because the tests measure its memory."""
    return start("serve")


@pytest.fixture(scope="module")
def shut(start: Callable[..., LiveServer]) -> LiveServer:
    """A server with the front door shut."""
    return start("shut")


@pytest.fixture(scope="module")
def strict(start: Callable[..., LiveServer]) -> LiveServer:
    """A server that allows each connection 1,000 messages a second."""
    return start("serve", QUOTA_MESSAGES_PER_SECOND="1000")


@pytest.fixture(scope="module")
def small(start: Callable[..., LiveServer]) -> LiveServer:
    """A server that limits the backlog of each connection to 64 KiB."""
    return start("serve", MAX_BACKLOG_BYTES="65536")


@pytest.fixture(scope="module")
def with_redis(start: Callable[..., LiveServer], redis: Redis) -> Iterator[LiveServer]:
    with start("serve", REDIS_URL=redis.url) as server:
        yield server


def growth_kib(server: LiveServer, attack: Callable[[], object]) -> int:
    """Run an attack and return by how much the server's memory grew at most."""
    before = most = server.memory_kib()
    thread = threading.Thread(target=attack)
    thread.start()
    while thread.is_alive():
        most = max(most, server.memory_kib())
        thread.join(0.05)
    return most - before


class TestOversized:
    def test_a_frame_that_announces_a_gigabyte_is_refused_and_bytes_that_trickle_in_are_not_kept(
        self, server: LiveServer, raw: Open, channel: str
    ) -> None:
        client = raw(server, channel)
        client.send(b"\x82\xff" + struct.pack("!Q", 1024 * MIB) + NO_MASK)

        def trickle() -> None:
            until = time.monotonic() + 2
            while time.monotonic() < until:
                client.send(b"x")

        assert growth_kib(server, trickle) < 2 * 1024
        assert client.ending() == ([error(closes.TOO_BIG)], 1009)

    def test_fragments_are_refused_as_soon_as_their_total_is_too_large(
        self, server: LiveServer, raw: Open, channel: str
    ) -> None:
        client = raw(server, channel)

        def attack() -> None:
            client.send(frame(BINARY, bytes(65_536), mask=NO_MASK))
            for _ in range(1024):
                client.send(b"\x00\xff" + struct.pack("!Q", 65_536) + NO_MASK + bytes(65_536))

        assert growth_kib(server, attack) < 4 * 1024
        assert client.ending()[1] in (1009, 1006), "a client that keeps sending may lose the close frame to a reset"

    def test_a_message_in_tiny_fragments_takes_little_more_memory_than_its_size(
        self, server: LiveServer, raw: Open, channel: str
    ) -> None:
        client, receiver = raw(server, channel), raw(server, channel)
        fragments = 100_000

        def attack() -> None:
            client.send(frame(BINARY, b""))
            client.send(frame(CONTINUATION, b"ab", mask=NO_MASK) * fragments)
            assert client.answers() is False, "a text frame within a fragmented message violates the protocol"

        assert growth_kib(server, attack) < 2 * 1024
        assert receiver.answers()

    def test_endless_fragments_take_no_memory_and_do_not_starve_others(
        self, server: LiveServer, raw: Open, channel: str
    ) -> None:
        client, other = raw(server, channel), raw(server, channel, key="other")
        client.send(frame(TEXT, b""))
        assert growth_kib(server, lambda: client.send(frame(CONTINUATION, b"") * 100_000)) < 1024
        assert other.answers()
        client.send(frame(FIN | CONTINUATION, b"cmd_ping"))
        assert client.socket.recv(100).endswith(b'{"system":"pong"}'), "fragments that end are a message"


class TestFloods:
    @pytest.mark.parametrize(
        ("begin", "again"),
        [
            (b"", frame(FIN | TEXT, b"message")),
            (b"", frame(FIN | TEXT, b"cmd_status")),
            (b"", frame(FIN | TEXT, b"cmd_unknown")),
            (b"", frame(FIN | PING, b"")),
            (b"", frame(FIN | PONG, b"")),
            (frame(TEXT, b""), frame(CONTINUATION, b"")),
        ],
        ids=["messages", "cmd_status", "unknown commands", "pings", "pongs", "empty fragments"],
    )
    def test_a_client_that_sends_far_more_frames_than_its_quota_is_disconnected(
        self, strict: LiveServer, raw: Open, channel: str, begin: bytes, again: bytes
    ) -> None:
        client = raw(strict, channel)
        reader = threading.Thread(target=client.send, args=(begin + again * 20_000,))
        reader.start()
        texts, code = client.ending()
        reader.join()
        assert (texts[-1], code) == (error(closes.TOO_FAST), 4301)

    @pytest.mark.parametrize(
        ("again", "times"),
        [
            (frame(FIN | PING, b"p" * 125), 80_000),
            (frame(FIN | TEXT, b"cmd_" + b"x" * 100), 80_000),
        ],
        ids=["pings", "unknown commands"],
    )
    def test_a_client_that_does_not_read_its_answers_is_closed_with_4100(
        self, small: LiveServer, raw: Open, channel: str, again: bytes, times: int
    ) -> None:
        client = raw(small, channel, receive_buffer=4096)
        assert growth_kib(small, lambda: client.send(again * times)) < 8 * 1024
        assert client.ending()[1] == 4100

    async def test_a_sender_at_full_speed_is_throttled_and_loses_nothing(
        self, server: LiveServer, connect: Connect, raw: Open, channel: str
    ) -> None:
        receiver, client = raw(server, channel), raw(server, channel)
        sent = b"".join(frame(FIN | TEXT, b"%06d" % number, mask=NO_MASK) for number in range(50_000))
        flood = threading.Thread(target=client.send, args=(sent,))
        flood.start()
        expected = b"".join(b"\x81\x06%06d" % number for number in range(50_000))
        received = b""
        while len(received) < len(expected):
            received += receiver.socket.recv(1 << 20)
        flood.join()
        assert received == expected


class TestProtocolViolations:
    def test_compression_is_declined_so_a_small_frame_cannot_inflate(
        self, server: LiveServer, raw: Open, channel: str
    ) -> None:
        client = raw(server, channel, DEFLATE)
        assert b"101 Switching Protocols" in client.answer
        assert b"sec-websocket-extensions" not in client.answer.lower()
        client.send(frame(FIN | 0x40 | BINARY, b"\xec\xc1\x01\x01\0\0\0\x80\x90\xfe\xaf\xee\x08\n" + bytes(1000)))
        assert client.ending() == ([], 1002)

    @pytest.mark.parametrize(
        ("sent", "code"),
        [
            *((frame(FIN | bit | TEXT, b"x"), 1002) for bit in (0x10, 0x20, 0x40)),
            (frame(FIN | 0x40 | PING, b"x"), 1002),
            (frame(FIN | TEXT, b"not masked", mask=None), 1002),
            (frame(FIN | CONTINUATION, b"of nothing"), 1002),
            (frame(FIN | 3, b"reserved"), 1002),
            (frame(PING, b"in fragments"), 1002),
            (frame(FIN | PING, b"x" * 126), 1002),
            (frame(TEXT, b"\xe2\x82") + frame(CONTINUATION, b"") + frame(FIN | CONTINUATION, b"\x28"), 1007),
            (frame(TEXT, b"\xe2\x82") + frame(FIN | CONTINUATION, b""), 1007),
            (frame(FIN | CLOSE, b"\x03"), 1002),
            (frame(FIN | CLOSE, struct.pack("!H", 1005)), 1002),
            (frame(FIN | CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
        ],
    )
    def test_a_protocol_violation_ends_the_connection_and_does_not_affect_others(
        self, server: LiveServer, raw: Open, channel: str, sent: bytes, code: int
    ) -> None:
        client, other = raw(server, channel), raw(server, channel)
        client.send(sent)
        assert client.ending()[1] == code
        assert other.answers()

    @pytest.mark.parametrize(
        "first",
        [frame(FIN | CLOSE, struct.pack("!H", 1000)), frame(FIN | 0x40 | TEXT, b"x")],
        ids=["a close frame", "a violation"],
    )
    def test_data_after_the_end_of_a_connection_is_neither_kept_nor_distributed(
        self, server: LiveServer, raw: Open, channel: str, first: bytes
    ) -> None:
        client, other = raw(server, channel), raw(server, channel)

        def attack() -> None:
            client.send(first)
            client.send(frame(FIN | BINARY, bytes(60_000), mask=NO_MASK) * 500)

        assert growth_kib(server, attack) < 2 * 1024
        assert other.answers()
        client.ending()


class FloodKind(NamedTuple):
    """What a client sends: first one frame once, then others repeatedly."""

    begin: bytes
    again: bytes
    path: str = "/v3/{channel}?api_key={key}"


V4, PUSHER = "/v4/{channel}?api_key={key}", "/app/{key}?protocol=7"
FLOODS = {
    "messages": FloodKind(b"", frame(FIN | TEXT, b"message")),
    "large messages": FloodKind(b"", frame(FIN | TEXT, b"x" * 1000)),
    "cmd_status": FloodKind(b"", frame(FIN | TEXT, b"cmd_status")),
    "unknown commands": FloodKind(b"", frame(FIN | TEXT, b"cmd_unknown")),
    "pings": FloodKind(b"", frame(FIN | PING, b"")),
    "empty fragments": FloodKind(frame(TEXT, b""), frame(CONTINUATION, b"")),
    "v4 messages": FloodKind(b"", frame(FIN | TEXT, b'{"event":"e","data":1}'), V4),
    "v4 subscriptions": FloodKind(
        b"",
        frame(FIN | TEXT, b'{"event":"system::subscribe","data":{"channel":"flood"}}')
        + frame(FIN | TEXT, b'{"event":"system::unsubscribe","data":{"channel":"flood"}}'),
        V4,
    ),
    "Pusher pings": FloodKind(b"", frame(FIN | TEXT, b'{"event":"pusher:ping","data":{}}'), PUSHER),
    "Pusher subscriptions": FloodKind(
        b"",
        frame(FIN | TEXT, b'{"event":"pusher:subscribe","data":{"channel":"flood"}}')
        + frame(FIN | TEXT, b'{"event":"pusher:unsubscribe","data":{"channel":"flood"}}'),
        PUSHER,
    ),
}
SENDERS, RECEIVERS = 4, 20


class Flood:
    """Clients of one tenant that send the same frames to others as fast as the server accepts them, in a thread."""

    def __init__(self, server: LiveServer, key: str, channel: str, kind: str) -> None:
        begin, again, path = FLOODS[kind]
        self._selector = selectors.DefaultSelector()
        self._is_over = False
        self._chunk = memoryview(again * (MIB // len(again)))
        self._clients = [
            Raw(server, path.format(channel=f"{channel}-{number % SENDERS}", key=key))
            for number in range(SENDERS + RECEIVERS)
        ]
        self._left = {client.socket: self._chunk for client in self._clients[:SENDERS]}
        for client in self._clients:
            is_sender = client.socket in self._left
            client.send(begin if is_sender else b"")
            client.socket.setblocking(False)
            events = selectors.EVENT_READ | selectors.EVENT_WRITE if is_sender else selectors.EVENT_READ
            self._selector.register(client.socket, events)
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._is_over:
            for ready, events in self._selector.select(0.1):
                connection: socket.socket = ready.fileobj  # type: ignore[assignment]
                try:
                    if events & selectors.EVENT_READ and not connection.recv(1 << 18):
                        self._selector.unregister(connection)
                    elif events & selectors.EVENT_WRITE:
                        left = self._left[connection]
                        self._left[connection] = left[connection.send(left) :] or self._chunk
                except BlockingIOError:
                    pass
                except OSError:
                    self._selector.unregister(connection)

    def __enter__(self) -> None:
        self._thread.start()
        time.sleep(0.5)

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()
        for client in self._clients:
            client.socket.close()


class Publisher(NamedTuple):
    """A tenant that publishes with requests."""

    key: str
    secret: str
    app_id: str


PUSHER_REQUESTS = "Pusher requests"
REQUESTS = {"requests": "/api/publish", "v4 requests": "/api/v4/publish", PUSHER_REQUESTS: "/apps/{app_id}/events"}
"""The path of each kind of request that publishes."""


def publish_request(kind: str, publisher: Publisher) -> bytes:
    """Return a request of a kind that publishes a message."""
    key, secret, app_id = publisher
    path = REQUESTS[kind].format(app_id=app_id)
    if kind == PUSHER_REQUESTS:
        body, credentials = b'{"name":"e","channel":"1","data":"x"}', ""
        path = f"{path}?{signed_query('POST', path, body, key, secret)}"
    else:
        body, credentials = b'{"channelId":"1","message":"x"}', f"key: {key}\r\nsecret: {secret}\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{credentials}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class RequestFlood:
    """Requests of one tenant that publish as fast as the server answers, in a thread for each connection."""

    def __init__(self, server: LiveServer, request: bytes, connections: int = 16) -> None:
        self._request = request
        self._port = server.port
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._publish) for _ in range(connections)]

    def _publish(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port), timeout=20) as connection:
            while not self._is_over.is_set():
                connection.sendall(self._request)
                assert connection.recv(65_536).startswith(b"HTTP/1.1 200")

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()


class TestFairness:
    """The server processes a tenant's flood in slices of the loop's time, and other tenants' messages between them.

    `python -m tests.fairness` measures the delays.
    """

    @pytest.mark.parametrize("kind", ["server", "with_redis"])
    @pytest.mark.parametrize("flood", FLOODS)
    def test_a_flood_of_one_tenant_delays_other_tenants_by_milliseconds(
        self, request: pytest.FixtureRequest, kind: str, raw: Open, channel: str, keys: dict[str, str], flood: str
    ) -> None:
        server = request.getfixturevalue(kind)
        pair = raw(server, channel, key="other"), raw(server, channel, key="other")
        quiet = delays(*pair)
        with Flood(server, keys["demo"], channel, flood):
            disturbed = delays(*pair)
        assert median(disturbed) < max(2 * median(quiet), DISTURBED_SECONDS)

    @pytest.mark.parametrize("kind", ["server", "shut"])
    @pytest.mark.parametrize("flood", REQUESTS)
    def test_a_flood_of_requests_of_one_tenant_delays_other_tenants_by_milliseconds(
        self,
        request: pytest.FixtureRequest,
        kind: str,
        raw: Open,
        channel: str,
        tenants: Tenants,
        flood: str,
    ) -> None:
        server = request.getfixturevalue(kind)
        pair = raw(server, channel, key="other"), raw(server, channel, key="other")
        quiet = delays(*pair)
        publisher = Publisher(tenants.keys["demo"], tenants.secrets["demo"], tenants.app_id)
        with RequestFlood(server, publish_request(flood, publisher)):
            disturbed = delays(*pair)
        assert median(disturbed) < max(2 * median(quiet), DISTURBED_SECONDS)


def delays(sender: Raw, receiver: Raw, count: int = 40) -> list[float]:
    """Send 50 messages a second and return how long each took to arrive, in seconds."""
    measured = []
    message = b"x" * 64
    for _ in range(count):
        time.sleep(0.02)
        begun = time.perf_counter()
        sender.socket.sendall(frame(FIN | TEXT, message))
        received = b""
        while len(received) < 2 + len(message):
            received += receiver.socket.recv(2 + len(message) - len(received))
        measured.append(time.perf_counter() - begun)
    return measured


def test_a_thousand_clients_that_do_not_read_cost_only_their_backlogs_and_delay_nobody(
    small: LiveServer, raw: Open, channel: str
) -> None:
    sender, receiver = raw(small, channel), raw(small, channel)
    for _ in range(1000):
        raw(small, channel, receive_buffer=4096)
    other = raw(small, f"{channel}-2", key="other"), raw(small, f"{channel}-2", key="other")
    message = b"x" * 16_384
    others: list[float] = []

    def attack() -> None:
        for number in range(200):
            sender.send(frame(FIN | BINARY, message, mask=NO_MASK))
            received = 0
            while received < 4 + len(message):
                received += len(receiver.socket.recv(4 + len(message) - received))
            if number % 50 == 0:
                others.extend(delays(*other, count=20))

    # For each client: its backlog in the transport, and the copy that the transport joins while it writes.
    assert growth_kib(small, attack) < 1000 * (64 + 16) * 2
    assert median(others) < DISTURBED_SECONDS
    until = time.monotonic() + SLOW_CLOSE_SECONDS + 5
    while (count := sender.ask(b"cmd_status")) != b'{"system":{"connection_count":2}}':
        assert time.monotonic() < until, count
        time.sleep(0.1)


def test_the_servers_survived_all_attacks_without_a_traceback(
    server: LiveServer, strict: LiveServer, small: LiveServer
) -> None:
    for attacked in (server, strict, small):
        assert "Traceback" not in attacked.log
        assert Path(f"/proc/{attacked.process.pid}").exists()
