"""The fast path for reading is invisible: whatever a client sends, the answers are the same with and without it.

The channel echoes messages (`notify_self`), so the answers show what the application received.
"""

import contextlib
import itertools
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.clients import channel_path
from tests.servers import LiveServer
from tests.sockets.test_refusals import GOOD_HANDSHAKE, handshake

EXAMPLES = int(os.environ.get("CONFORMANCE_EXAMPLES", "100"))
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN = 0x80
# How long to wait for the server's answers, in seconds. After garbage the wait is short, because the server may itself
# be waiting for the rest of a frame.
ANSWER_SECONDS = 20.0
GARBAGE_SECONDS = 1.5
LENGTHS = [0, 1, 124, 125, 126, 127, 65535, 65536]


def frame(first: int, payload: bytes, *, mask: bytes | None = b"\x37\xfa\x21\x3d", form: int | None = None) -> bytes:
    """Return a frame as a client sends it (RFC 6455, section 5.2).

    Args:
        first: the first byte: FIN, reserved bits and opcode.
        payload: the payload before masking.
        mask: the masking key, or None for an unmasked frame.
        form: 126 or 127 to encode the length in that form even if a shorter one would do.
    """
    length, masked = len(payload), 0x80 if mask is not None else 0
    if form == 127 or length > 65535:
        head = struct.pack("!BBQ", first, masked | 127, length)
    elif form == 126 or length > 125:
        head = struct.pack("!BBH", first, masked | 126, length)
    else:
        head = struct.pack("!BB", first, masked | length)
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


masks = st.sampled_from([b"\0\0\0\0", b"\x37\xfa\x21\x3d", b"\xff\x00\xff\x00"])
texts = st.one_of(
    st.sampled_from([b"x" * length for length in LENGTHS]),
    st.sampled_from(["", "é", "😀" * 40, "cmd_ping", "cmd_status", '{"event":"system:x"}', "a" * 124 + "é"]).map(
        str.encode
    ),
    st.text(max_size=200).map(str.encode),
)
binaries = st.one_of(st.sampled_from([b"\xfe" * length for length in LENGTHS]), st.binary(max_size=200))
not_utf8 = st.sampled_from(
    [b"\xff", b"abc\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"x" * 200 + b"\xfe"]
)

whole_messages = st.one_of(
    st.builds(lambda payload, mask: frame(FIN | TEXT, payload, mask=mask), texts, masks),
    st.builds(lambda payload, mask: frame(FIN | BINARY, payload, mask=mask), binaries, masks),
)
controls = st.builds(
    lambda opcode, payload, mask: frame(FIN | opcode, payload, mask=mask),
    st.sampled_from([PING, PONG]),
    st.binary(max_size=125),
    masks,
)


@st.composite
def fragmented(draw: st.DrawFn) -> bytes:
    """Return a message split into fragments anywhere, with control frames between them."""
    opcode, payload = draw(st.one_of(st.tuples(st.just(TEXT), texts), st.tuples(st.just(BINARY), binaries)))
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), min_size=1, max_size=4)))
    pieces = [payload[start:end] for start, end in itertools.pairwise([0, *cuts, len(payload)])]
    sent = b""
    for number, piece in enumerate(pieces):
        last = FIN if number == len(pieces) - 1 else 0
        sent += frame(last | (CONTINUATION if number else opcode), piece, mask=draw(masks))
        if not last and draw(st.booleans()):
            sent += draw(controls)
    return sent


faults = st.one_of(
    not_utf8.map(lambda payload: frame(FIN | TEXT, payload)),
    st.builds(
        lambda bits, opcode: frame(FIN | bits | opcode, b"x"), st.sampled_from([0x10, 0x20, 0x40]), st.integers(0, 15)
    ),
    st.sampled_from([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]).map(lambda opcode: frame(FIN | opcode, b"x")),
    st.sampled_from([TEXT, BINARY, PING]).map(lambda opcode: frame(FIN | opcode, b"hello", mask=None)),
    st.sampled_from([126, 127]).map(lambda form: frame(FIN | TEXT, b"short", form=form)),
    st.just(frame(FIN | BINARY, b"x" * 200, form=127)),
    st.just(frame(FIN | CONTINUATION, b"of nothing")),
    st.just(frame(TEXT, b"begun") + frame(FIN | TEXT, b"and begun again")),
    st.just(frame(PING, b"in pieces")),
    st.just(frame(FIN | PING, b"x" * 126)),
    st.sampled_from([b"", b"\x03", b"\x03\xe8", b"\x03\xe8bye", b"\x03\xed", b"\x03\xe8\xff"]).map(
        lambda payload: frame(FIN | CLOSE, payload)
    ),
    st.just(b"\x82\xff" + struct.pack("!Q", 1 << 30) + bytes(4)),
    st.just(b"\x82\xff" + struct.pack("!Q", 1 << 63) + bytes(4)),
)
garbage = st.binary(min_size=1, max_size=20)


class Pieces(list[bytes]):
    """The pieces that a client writes to TCP one at a time; the representation truncates long ones."""

    answer_seconds = ANSWER_SECONDS

    def __repr__(self) -> str:
        return f"[{', '.join(repr(piece[:40]) + f' of {len(piece)}' for piece in self)}]"


@st.composite
def conversations(draw: st.DrawFn) -> Pieces:
    """Return what a client sends, in the pieces that it writes to TCP."""
    parts = draw(st.lists(st.one_of(whole_messages, whole_messages, controls, fragmented()), max_size=6))
    kind = draw(st.sampled_from(["valid"] * 10 + ["fault"] * 10 + ["garbage"]))
    if kind != "valid":
        parts.insert(draw(st.integers(0, len(parts))), draw(faults if kind == "fault" else garbage))
    sent = b"".join([*parts, frame(FIN | TEXT, b"cmd_ping"), frame(FIN | CLOSE, b"\x03\xe8")])
    if len(sent) < 300 and draw(st.booleans()):
        cuts = list(range(1, len(sent)))
    else:
        cuts = sorted(set(draw(st.lists(st.integers(0, len(sent)), max_size=6))))
    pieces = Pieces(sent[start:end] for start, end in itertools.pairwise([0, *cuts, len(sent)]))
    if kind == "garbage":
        pieces.answer_seconds = GARBAGE_SECONDS
    return pieces


Answer = tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]


def converse(server: LiveServer, path: str, pieces: Pieces) -> Answer:
    """Send the pieces; return the data frames and the control frames received until the connection ends.

    The two kinds are separate, since the server may answer a ping before or after the messages of the same turn.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(handshake(path, *GOOD_HANDSHAKE))
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536)
        received = received.partition(b"\r\n\r\n")[2]
        with contextlib.suppress(OSError):  # some faults make the server close early
            for piece in pieces:
                connection.sendall(piece)
        connection.settimeout(pieces.answer_seconds)
        with contextlib.suppress(ConnectionResetError):
            while True:
                try:
                    chunk = connection.recv(1 << 20)
                except TimeoutError:
                    # The server is waiting for the rest of a frame, so its answers are complete.
                    connection.close()
                    break
                if not chunk:
                    break
                received += chunk
    return split(received)


def split(received: bytes) -> Answer:
    data, control = [], []
    while received:
        opcode, length, start = received[0] & 15, received[1], 2
        if length == 126:
            length, start = int.from_bytes(received[2:4]), 4
        elif length == 127:
            length, start = int.from_bytes(received[2:10]), 10
        assert received[0] & 0x80, "the server sent a fragment"
        assert len(received) >= start + length, "the server sent an incomplete frame"
        (control if opcode > 7 else data).append((opcode, received[start : start + length]))
        received = received[start + length :]
    return data, control


@pytest.fixture(scope="module")
def servers(start: Callable[..., LiveServer]) -> tuple[LiveServer, LiveServer]:
    """Start the service with and without its fast path for reading."""

    def start_daphne(application: str) -> LiveServer:
        return start("daphne", application=application)

    return start_daphne("piesite.asgi:application"), start_daphne("tests.conformance.long_way:application")


_channel_numbers = itertools.count()


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
@given(pieces=conversations())
def test_any_input_gets_the_same_answers_with_and_without_the_fast_path(
    servers: tuple[LiveServer, LiveServer], keys: dict[str, str], pieces: Pieces
) -> None:
    path = channel_path(f"conversation-{next(_channel_numbers)}", keys["demo"], "notify_self")
    with ThreadPoolExecutor() as executor:
        fast, slow = executor.map(lambda server: converse(server, path, pieces), servers)
    assert fast == slow


def test_a_known_conversation_gets_the_expected_answers(
    servers: tuple[LiveServer, LiveServer], keys: dict[str, str]
) -> None:
    pieces = Pieces(
        [
            frame(FIN | TEXT, b"a"),
            frame(FIN | PING, b"p"),
            frame(FIN | TEXT, b"cmd_ping"),
            frame(FIN | CLOSE, b"\x03\xe8"),
        ]
    )
    expected = ([(TEXT, b"a"), (TEXT, b'{"system":"pong"}')], [(PONG, b"p"), (CLOSE, b"\x03\xe8")])
    for server in servers:
        assert converse(server, channel_path("known", keys["demo"], "notify_self"), pieces) == expected
