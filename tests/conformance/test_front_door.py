"""The front door is invisible: whatever clients send, and however it arrives, it is answered as when the door is shut.

Two servers get the same bytes in the same pieces. One of them serves ordinary requests at its front door, the other one
serves all of them the ordinary way.
"""

import contextlib
import itertools
import json
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conformance.test_short_paths import BINARY, CLOSE, FIN, TEXT, frame
from tests.metrics import scrape
from tests.servers import LiveServer
from tests.sockets.test_refusals import GOOD_HANDSHAKE, handshake

EXAMPLES = int(os.environ.get("CONFORMANCE_EXAMPLES", "60"))
# How long to wait for answers, in seconds: to requests that are right, and to those after which the server may wait for
# something itself.
ANSWER_SECONDS = 20.0
ODD_SECONDS = 1.0
COUNT_SECONDS = 5.0
ATTEMPTS = 3
"""A busy machine may take longer than these seconds once."""
CHANNEL = "front-door"

# They stand for the real ones, which differ from run to run, and have the same length.
KEY, SECRET = "key".ljust(60, "_"), "secret".ljust(60, "_")
LISTENED = {
    f"/v3/{CHANNEL}": b'{"system":"pong"}',
    f"/v4/{CHANNEL}": b'{"system":"pong","system::channel":"' + CHANNEL.encode() + b'"}',
}
"""The channels in which somebody listens, each with the answer to `cmd_ping`."""

contents = st.one_of(
    st.sampled_from(['"text"', '""', "null", "-0", "1e400", "0.30000000000000000001", '{"a":1,"a":2}', '"\\u00e9é"']),
    st.sampled_from(['"\\ud800"', "NaN", "01", '"' + "x" * 70_000 + '"', "[" * 3000 + "]" * 3000, '"\xff"']),
    st.text(max_size=30).map(json.dumps),
)
channels = st.sampled_from([f'"{CHANNEL}"', f'"{CHANNEL}"', f'"{CHANNEL}"', "12", '""', "null", '"a b"', "1.5", "true"])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Return the body of a request to publish: mostly right, sometimes with something missing or wrong."""
    members = [f'"key":"{KEY}"', f'"secret":"{SECRET}"', f'"channelId":{draw(channels)}', f'"message":{draw(contents)}']
    change = draw(st.sampled_from(["none"] * 12 + ["drop", "wrong", "more", "batch", "cut", "binary"]))
    if change == "drop":
        members.pop(draw(st.integers(0, 3)))
    elif change == "wrong":
        members[draw(st.integers(0, 1))] = draw(st.sampled_from(['"key":"x"', '"secret":"x"', '"key":null', '"key":7']))
    elif change == "more":
        members.append(draw(st.sampled_from(['"other":[1]', '"roomId":"2"', '"message":"again"', '"messages":[]'])))
    elif change == "batch":
        items = draw(st.lists(st.builds('{{"channelId":{},"message":{}}}'.format, channels, contents), max_size=3))
        members.append(f'"messages":[{",".join(items)}]')
    body = ("{" + ",".join(members) + "}").encode("latin-1" if '"\xff"' in members[-1] else "utf-8", "replace")
    return {"cut": body[:-1], "binary": b"\xff\x00"}.get(change, body)


headers = st.sampled_from(
    [
        *(
            "Content-Type: application/json",
            "Accept: */*",
            "User-Agent: test",
            "X-Forwarded-For: 10.0.0.1",
            "Cookie: a=b",
        ),
        *("Connection: keep-alive", "Connection: Keep-Alive", "Origin: https://example.com", "key: x", "secret: x"),
        *(
            "Empty:",
            "Spaces:   around   ",
            "Tab:\tb",
            "lower-case: 1",
            "With_Underscore: 1",
            "Latin: \xe9",
            "X: y",
            "X: z",
        ),
    ]
)
odd_headers = st.sampled_from(
    [
        *("Expect: 100-continue", "Transfer-Encoding: chunked", "Content-Length: 3", "Content-Length: +3", "No colon"),
        *("Space : before", " Folded: line", "Connection: close, keep-alive", "Upgrade: h2c", "Upgrade: websocket"),
        *("Nul: \0", "Long: " + "x" * 9000, "Sec-WebSocket-Protocol: json", "Host: twice", "Bare: lf\nX: y"),
    ]
)
targets = st.sampled_from(
    [
        *["/api/publish"] * 8,
        *["/api/v4/publish"] * 5,
        *("/api/v4/members", "/api/v4/publish?x=1", "/api/v4/publish/", "/api/v4/publish/batch", "/api/v5/publish"),
        *(
            "/api/publish/batch",
            "/api/publish?x=1&y",
            "/api/publish/",
            "//api/publish",
            "/api/publish#x",
            "/api%2Fpublish",
        ),
        *("http://localhost/api/publish", "/api/publish?\xe9", "/api/publishes", "/api/members"),
    ]
)


@st.composite
def publishes(draw: st.DrawFn, last: bool) -> tuple[bytes, bool]:
    """Return a request to publish, and whether something is odd about it."""
    body = draw(bodies())
    lines = draw(st.lists(headers, max_size=4))
    is_odd = draw(st.sampled_from([False] * 5 + [True]))
    if is_odd:
        lines.insert(draw(st.integers(0, len(lines))), draw(odd_headers))
    if draw(st.sampled_from([True] * 9 + [False])):
        lines.insert(0, "Host: localhost")
    if last:
        lines.append(draw(st.sampled_from(["Connection: close", "connection: Close"])))
    first = f"POST {draw(targets)} HTTP/{draw(st.sampled_from(['1.1'] * 9 + ['1.0']))}"
    head = "\r\n".join([first, *lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1")
    return head + body, is_odd


others = st.sampled_from(
    [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"OPTIONS /api/publish HTTP/1.1\r\nHost: localhost\r\nOrigin: https://example.com\r\n\r\n",
        b"GET /api/publish HTTP/1.1\r\nHost: localhost\r\n\r\n",
        f"GET /api/domains HTTP/1.1\r\nHost: localhost\r\nkey: {KEY}\r\nsecret: {SECRET}\r\n\r\n".encode(),
        b"GET /v3/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v4/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"OPTIONS /api/v4/publish HTTP/1.1\r\nHost: localhost\r\nOrigin: https://example.com\r\n\r\n",
        b"\r\n",
    ]
)


class Conversation(list[bytes]):
    """The pieces that a client writes to TCP one at a time."""

    is_odd = False

    def __repr__(self) -> str:
        return f"[{', '.join(repr(piece[:300]) + f' of {len(piece)}' for piece in self)}]"


def cut(draw: st.DrawFn, sent: bytes, *, is_odd: bool) -> Conversation:
    """Divide what is sent into pieces."""
    if len(sent) < 800 and draw(st.sampled_from([False, False, True])):
        cuts = list(range(1, len(sent)))
    else:
        cuts = sorted(set(draw(st.lists(st.integers(0, len(sent)), max_size=5))))
    pieces = Conversation(sent[start:end] for start, end in itertools.pairwise([0, *cuts, len(sent)]) if end > start)
    pieces.is_odd = is_odd
    return pieces


@st.composite
def http_conversations(draw: st.DrawFn) -> Conversation:
    """Return requests on one connection, the last of which ends it."""
    requests = draw(
        st.lists(st.one_of(publishes(False), publishes(False), st.tuples(others, st.just(False))), max_size=4)
    )
    requests.append(draw(publishes(True)))
    return cut(draw, b"".join(sent for sent, _ in requests), is_odd=any(is_odd for _, is_odd in requests))


options = st.sampled_from(
    [
        *[
            "",
            "",
            "",
            "&notify_self",
            "&notify_self=2",
            "&uuid=",
            "&jwt=x",
            "&v=%ff",
            "&api_key=x",
            "#x",
        ],
        *("&source=\xe9", "&user=" + "x" * 300, "&" * 200, "&a=;b"),
    ]
)
paths = st.sampled_from(
    [
        *[f"/v3/{CHANNEL}"] * 6,
        *(
            f"/v3/{CHANNEL}/",
            "/v3/1/2",
            "/v3/private-x",
            "/v3/",
            "/v3/a/b/c",
            "/v3/x;a=b",
            "//h/v3/x",
            "/v3/%78",
            "/v4/x",
        ),
    ]
)
handshake_headers = st.sampled_from(
    [
        *("Origin: https://example.com", "Origin: null", "Origin: \xe9", "Cookie: a=b", "User-Agent: test", "jwt: x"),
        *("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits", "X-Forwarded-For: 10.0.0.1"),
        *("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8", "Sec-WebSocket-Protocol: json, b"),
        *(
            "Sec-WebSocket-Extensions: nonsense",
            "Sec-WebSocket-Version: 12",
            "Sec-WebSocket-Key: x",
            "Content-Length: 0",
        ),
        *("Content-Length: 3", "Host: other.localhost", "Connection: keep-alive", "Upgrade: h2c", "With_Underscore: 1"),
    ]
)


@st.composite
def socket_conversations(draw: st.DrawFn) -> Conversation:
    """Return a handshake, and the frames that follow."""
    key = draw(st.sampled_from([KEY] * 6 + ["x", "", "k" * 60]))
    path = f"{draw(paths)}?api_key={key}{draw(options)}"
    lines = draw(st.permutations(GOOD_HANDSHAKE)) + draw(st.lists(handshake_headers, max_size=2))
    frames = frame(FIN | TEXT, b"cmd_ping") + frame(FIN | TEXT, b"a message") + frame(FIN | CLOSE, b"\x03\xe8")
    return cut(draw, handshake(path, *lines) + frames, is_odd=True)


v4_paths = st.sampled_from(
    [*[f"/v4/{CHANNEL}"] * 8, "/v4/private-x", "/v4/", "/v4", "/v4/1/2", "/v4/a/b/c", "/v4/%78", f"/v4/{CHANNEL}/"]
)
v4_names = st.sampled_from([*['"two"'] * 4, f'"{CHANNEL}"', '"private-x"', '"a b"', "12", "null", "[]"])
v4_wishes = st.sampled_from(
    ["", "", ',"presence":false', ',"presence":"maybe"', ',"uuid":"u","user":{"a":[1]}', ',"jwt":"x"']
)
v4_frames = st.one_of(
    st.builds(
        '{{"event":"system{}{}","data":{{"channel":{},"uuid":"u"{}}}}}'.format,
        st.sampled_from(["::", "::", "::", ":"]),
        st.sampled_from(["subscribe", "subscribe", "unsubscribe", "get_members", "subscribe_success"]),
        v4_names,
        v4_wishes,
    ),
    st.builds('{{"event":"e","system::channel":{},"data":{}}}'.format, v4_names, contents),
    st.builds(
        '{{"event":"pie::binary","system::channel":{},"data":"{}"}}'.format, v4_names, st.sampled_from(["AA==", "!"])
    ),
    st.sampled_from(
        ["cmd_ping", "text", "null", "[1]", '{"event":7}', '{"event":"system::x"}', '{"event":"rtc::offer"}']
    ),
)


@st.composite
def v4_conversations(draw: st.DrawFn) -> Conversation:
    """Return a handshake of PieSocket v4, and frames of all kinds, but without presence.

    The list of members comes in a later turn of the loop, so it may be before or after the answer to the next frame.
    """
    key = draw(st.sampled_from([KEY] * 9 + ["x"]))
    # Refused clients are slowed down by their UUID.
    member = draw(st.integers(0, 10**9))
    path = f"{draw(v4_paths)}?api_key={key}&uuid=u{member}{draw(options)}"
    lines = draw(st.permutations(GOOD_HANDSHAKE)) + draw(st.lists(handshake_headers, max_size=1))
    texts = draw(st.lists(v4_frames, max_size=6))
    frames = [frame(FIN | TEXT, text.encode("utf-8", "surrogatepass")) for text in texts]
    frames.insert(draw(st.integers(0, len(frames))), frame(FIN | BINARY, b"\x00\xff"))
    sent = handshake(path, *lines) + b"".join(frames) + frame(FIN | CLOSE, b"\x03\xe8")
    return cut(draw, sent, is_odd=True)


def converse(server: LiveServer, credentials: tuple[str, str], pieces: Conversation) -> bytes:
    """Send the pieces; return what comes back until the connection ends, without what depends on the time."""
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=ANSWER_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):  # the server may end the connection early
            for piece in with_credentials(pieces, credentials):
                connection.sendall(piece)
        connection.settimeout(ODD_SECONDS if pieces.is_odd else ANSWER_SECONDS)
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while chunk := connection.recv(1 << 20):
                received += chunk
    return re.sub(rb"(?i)(retry-after: |[Ww]ait )[0-9]+", rb"\1some", received)


def with_credentials(pieces: Conversation, credentials: tuple[str, str]) -> Iterator[bytes]:
    """Return the pieces with the real key and secret, which are as long as their placeholders."""
    whole = b"".join(pieces)
    for placeholder, real in zip((KEY, SECRET), credentials, strict=True):
        whole = whole.replace(placeholder.encode(), real.encode())
    position = 0
    for piece in pieces:
        yield whole[position : position + len(piece)]
        position += len(piece)


class Listener:
    """A connection to a channel, which receives what is published."""

    def __init__(self, server: LiveServer, path: str, key: str) -> None:
        self._pong = bytes((FIN | TEXT, len(LISTENED[path]))) + LISTENED[path]
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=ANSWER_SECONDS)
        self._socket.sendall(handshake(f"{path}?api_key={key}", *GOOD_HANDSHAKE))
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._socket.recv(1)

    def heard(self) -> bytes:
        """Return the frames that have arrived since the last call."""
        self._socket.sendall(frame(FIN | TEXT, b"cmd_ping"))
        received = b""
        while not received.endswith(self._pong):
            received += self._socket.recv(1 << 20)
        return received

    def close(self) -> None:
        self._socket.close()


Pair = tuple[LiveServer, LiveServer]
Listeners = list[list[Listener]]
Counts = Counter[tuple[str, ...]]


@pytest.fixture(scope="module")
def servers(start: Callable[..., LiveServer]) -> Pair:
    """The service with the front door open, and with the front door shut."""
    return start("daphne"), start("shut")


@pytest.fixture(scope="module")
def listeners(servers: Pair, keys: dict[str, str]) -> Iterator[Listeners]:
    opened = [[Listener(server, path, keys["demo"]) for path in LISTENED] for server in servers]
    yield opened
    for listener in itertools.chain(*opened):
        listener.close()


def check_same(servers: Pair, listeners: Listeners, credentials: tuple[str, str], pieces: Conversation) -> None:
    for _ in range(ATTEMPTS):
        opened, shut = effects(servers, listeners, credentials, pieces)
        if opened == shut:
            return
    assert opened == shut


def effects(
    servers: Pair, listeners: Listeners, credentials: tuple[str, str], pieces: Conversation
) -> list[tuple[bytes, list[bytes], Counts]]:
    """Return what each server answers, what its listeners hear, and by how much its counters grow."""
    before = [counted(server) for server in servers]
    with ThreadPoolExecutor() as executor:
        answers = list(executor.map(lambda server: converse(server, credentials, pieces), servers))
    heard = [[listener.heard() for listener in each] for each in listeners]
    deadline = time.monotonic() + COUNT_SECONDS
    while True:
        grown = [counted(server) - counts for server, counts in zip(servers, before, strict=True)]
        if grown[0] == grown[1] or time.monotonic() > deadline:
            return list(zip(answers, heard, grown, strict=True))
        time.sleep(0.05)  # one of them may be slower


def counted(server: LiveServer) -> Counts:
    """Return what the server has counted, without durations."""
    counters = scrape(server).counters()
    return Counter({n: value for n, value in counters.items() if not n[0].endswith(("_seconds_sum", "_bucket"))})


any_conversation = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)


@any_conversation
@given(pieces=http_conversations())
def test_any_requests_get_the_same_answers_with_the_door_open_and_shut(
    servers: Pair, listeners: Listeners, keys: dict[str, str], secrets: dict[str, str], pieces: Conversation
) -> None:
    check_same(servers, listeners, (keys["demo"], secrets["demo"]), pieces)


@any_conversation
@given(pieces=socket_conversations())
def test_any_handshake_gets_the_same_answers_with_the_door_open_and_shut(
    servers: Pair, listeners: Listeners, keys: dict[str, str], secrets: dict[str, str], pieces: Conversation
) -> None:
    check_same(servers, listeners, (keys["demo"], secrets["demo"]), pieces)


@any_conversation
@given(pieces=v4_conversations())
def test_any_conversation_of_v4_is_the_same_with_the_door_open_and_shut(
    servers: Pair, listeners: Listeners, keys: dict[str, str], secrets: dict[str, str], pieces: Conversation
) -> None:
    check_same(servers, listeners, (keys["demo"], secrets["demo"]), pieces)
