"""Hostile bytes for the listening socket; a seed and a number determine each attack, so it can be repeated.

The module is long because it is a catalogue: each kind of input stands beside the others that it varies.
"""

import itertools
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from tests.conformance.test_short_paths import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, frame

METHODS = [
    "GET",
    "POST",
    "HEAD",
    "OPTIONS",
    "PUT",
    "DELETE",
    "PATCH",
    "TRACE",
    "CONNECT",
    "get",
    "G\tT",
    "\xff",
    "",
    "X" * 9000,
]
TARGETS = [
    *(
        "/",
        "/v3",
        "/v3/",
        "/v3/x",
        "*",
        "//",
        "/..",
        "/v3/../admin/",
        "http://evil.example/v3/x",
        "evil.example:443",
        "?",
        "#",
    ),
    *(
        "/v3/%",
        "/v3/%ff",
        "/v3/%00",
        "/v3/\xff",
        "/v3/x?\xff",
        "/v3/" + "a" * 8000,
        "/v3/x?" + "&" * 8000,
        "/api/publish",
    ),
    *(
        "/app/",
        "/app/x",
        "/app/x?protocol=7",
        "/apps/1/events",
        "/apps/1/channels?auth_key=x",
        "/apps/%ff/events",
        "/apps//",
    ),
    *(
        "/api/publish/batch",
        "/api/connections",
        "/api/connections/sum",
        "/api/domains",
        "/api/v1/token/",
        "/api/v1/keys/",
    ),
    *(
        "/admin/",
        "/console/you/login/",
        "/static/realtime/tester.js",
        "/static/../../piesite/settings.py",
        "/healthz",
        "/readyz",
    ),
    *(
        "/api/v1/schema/",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/console/you/login/?next=//evil.example",
        "/api/v1/accounts/%00/",
        "/%ed%a0%80",
    ),
]
VERSIONS = [
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/0.9",
    "HTTP/2.0",
    "HTTP/9.9",
    "HTTP/1.1 x",
    "http/1.1",
    "HTTP/",
    "",
    "\xff",
    "ICY/1.1",
]
VALUES = [
    *(
        "",
        " ",
        "\0",
        "\xff",
        "\x7f",
        "\x01",
        "0",
        "-1",
        "1" * 30,
        "a" * 8000,
        ",",
        ";",
        "=",
        '"',
        "%",
        "\t",
        "()",
        "[",
        "[::1",
        "::",
    ),
    *(
        "\u00e9",
        "websocket",
        "chunked",
        "close",
        "keep-alive, Upgrade",
        "null",
        "http://[",
        "%ff",
        "../..",
        "{}",
        "\r",
        "a\nb: c",
    ),
]
NAMES = [
    *(
        "Host",
        "Upgrade",
        "Connection",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol",
        "Origin",
    ),
    *(
        "Sec-WebSocket-Extensions",
        "Content-Length",
        "Transfer-Encoding",
        "Expect",
        "Cookie",
        "Authorization",
        "jwt",
        "key",
    ),
    *(
        "secret",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "Daphne-Root-Path",
        "Content-Type",
        "Accept",
    ),
    *(
        "Accept-Encoding",
        "Range",
        "If-Modified-Since",
        "If-None-Match",
        "Referer",
        "Content_Length",
        "Sec-WebSocket-Key1",
    ),
    *(
        "",
        " ",
        ":",
        "\xff",
        "\0",
        "a b",
        "a" * 8000,
        "Host ",
        "Content-Length ",
        "Transfer-Encoding\t",
        "(",
        "HTTP/1.1",
    ),
]
# Headers that a proxy and this server could read as two different body lengths (RFC 9112, sections 6 and 11.2).
LENGTHS = [
    ["Content-Length: 5", "Content-Length: 6"],
    ["Content-Length: 5, 5"],
    ["Content-Length: 5", "Transfer-Encoding: chunked"],
    ["Transfer-Encoding: chunked", "Content-Length: 5"],
    ["Transfer-Encoding: chunked, identity"],
    ["Transfer-Encoding: identity, chunked"],
    ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    ["Transfer-Encoding: xchunked"],
    ["Transfer-Encoding : chunked"],
    ["Transfer-Encoding:\x0bchunked"],
    ["Transfer-Encoding:", " chunked"],
    ["Transfer-Encoding: gzip, chunked"],
    ["Content-Length: +5"],
    ["Content-Length: 0x5"],
    ["Content-Length: 5 "],
    ["Content-Length: -5"],
    ["Content-Length: \xb2"],
    ["Content-Length: 1e1"],
    ["Content-Length: 99999999999999999999"],
    ["Content-Length: " + "9" * 5000],
    ["Content-Length: 1000000000"],
    ["Content-Length: 5"],
    ["Transfer-Encoding: chunked"],
]
BODIES = [
    *(
        b"",
        b"hello",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5;a=b\r\nhello\r\n0\r\na: b\r\n\r\n",
    ),
    *(
        b"fffffffffffffffff\r\n",
        b"-1\r\nx",
        b"0x5\r\nhello\r\n",
        b"5\nhello\n0\n\n",
        b";\r\n",
        b"5" + b";" * 9000 + b"\r\nhello",
    ),
    *(
        b"\0" * 70_000,
        b"{}",
        b"[" * 3000,
        b'{"key":1}',
        b'{"key":"x","secret":"\xff"}',
        b"GET /admin/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    *(
        b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"a=b&c",
        b"--x\r\nContent-Disposition: form-data\r\n\r\n",
    ),
]
OTHER_PROTOCOLS = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2,  # a TLS ClientHello
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04\x00\x00\x00\x00\x00"
    + bytes(18),  # HTTP/2 (RFC 9113, section 3.4)
    b"GET /\r\n",  # HTTP/0.9
    b"GET /v3/x\n\n",
    b"\r\n" * 500,
    b"\n" * 20_000,
    b"\0" * 20_000,
    b"A" * 70_000,
    b"GET " + b"/" * 70_000,
    b"SSH-2.0-x\r\n",
    b"EHLO x\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
    b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a",  # the PROXY protocol's second version
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 40,
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 600 + b"\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"a: " + b"b" * 20_000 + b"\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\na: b\r\n" + b" folded\r\n" * 500 + b"\r\n",
    b"GET / HTTP/1.1",
    b"",
]
PAYLOADS = [
    *(
        b"",
        b"x",
        b"cmd_ping",
        b"cmd_status",
        b"cmd_\xff",
        b"cmd_" + b"x" * 9000,
        b'{"event":"system:x"}',
        b"\xff",
        b"\0" * 125,
    ),
    *(
        b"x" * 126,
        b"x" * 65_535,
        b"x" * 65_536,
        b"[" * 5000,
        "😀".encode() * 50,
        b"\xed\xa0\x80",
        b'{"event":"system:\\ud800"}',
    ),
    *(b'{"error":"x"}', b'{"\\u0065vent":"system:member_left"}', b"{" * 3000, b'"' * 999),
]
PUSHER_PAYLOADS = [
    *(
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"event":1}',
        b"[" * 5000,
        b'{"event":"pusher:ping"',
        b'{"event":"\\ud800"}',
    ),
    *(
        b'{"event":"%s","data":%s}' % (event, data)
        for event in (b"pusher:subscribe", b"pusher:unsubscribe", b"pusher:signin", b"pusher:ping", b"client-x", b"x")
        for data in (
            *(b"{}", b"1", b'"{"', b'"{}"', b"null", b"[" * 2000 + b"]" * 2000),
            *(b'{"channel":"fuzz-%d"}' % number for number in range(5)),
            *(b'{"channel":"cache-fuzz","auth":""}', b'{"channel":"#server-to-user-1","auth":""}'),
            *(b'{"channel":"\\ud800"}', b'{"channel":"\\u0000"}', b'{"channel":"%s"}' % (b"x" * 5000)),
            b'{"channel":"presence-x","auth":"a:b","channel_data":"{\\"user_id\\":\\"\\ud800\\"}"}',
            b'{"channel":"private-x","auth":"%s:%s"}' % (b"x" * 60, "\u00e9".encode() * 32),
            b'{"auth":"x:y","user_data":"{\\"id\\":1}"}',
        )
    ),
    *(
        b'{"event":"client-%s","channel":"%s","data":%s}' % (b"x" * length, channel, data)
        for length in (0, 1, 300)
        for channel in (b"private-x", b"fuzz-1", b"#", b"x" * 5000)
        for data in (b"1", b'"\\ud800"', b"1e999", b'"%s"' % (b"x" * 60_000))
    ),
]
V4_PAYLOADS = [
    *(b"", b"{}", b"[]", b"null", b" null", b"\xff", b'{"event":1}', b"[" * 5000, b"cmd_status", b'{"a":' * 3000),
    *(b'{"event":"system::x"}', b'{"event":"\\ud800"}', b'{"\\ud800":1}', b'{"a":NaN}', b'{"system::channel":{}}'),
    *(
        b'{"event":"%s","data":%s,"system::channel":"fuzz-%d"}' % (event, data, number)
        for number, event in enumerate((b"x", b"pie::binary", b"rtc::offer", b"system:subscribe"))
        for data in (b"1", b'"eA=="', b'"?"', b"1e999", b'"%s"' % (b"x" * 60_000), b"[" * 2000 + b"]" * 2000)
    ),
    *(
        b'{"event":"system::%s","data":%s}' % (event, data)
        for event in (b"subscribe", b"unsubscribe", b"get_members", b"member_list", b"binary")
        for data in (
            *(b"{}", b"1", b'"{}"', b"null", b'{"channel":null}', b'{"channel":1e999}', b'{"channel":1998}'),
            *(b'{"channel":"fuzz-%d","presence":true,"uuid":"same"}' % number for number in range(5)),
            *(b'{"channel":"presence-x","user":%s}' % user for user in (b"{}", b'"\\u0000"', b"[" * 500 + b"]" * 500)),
            *(b'{"channel":"private-x","jwt":"%s"}' % jwt for jwt in (b"", b"a.b.c", b"x" * 5000)),
            *(b'{"channel":"\\ud800"}', b'{"channel":"%s"}' % (b"x" * 5000), b'{"channel":"a","uuid":[]}'),
        )
    ),
]
CLOSES = [
    *(
        b"",
        b"\x03",
        b"\x03\xe8",
        b"\x03\xe8bye",
        b"\x03\xe8\xff",
        b"\x03\xed",
        b"\x03\xee",
        b"\0\0",
        b"\xff\xff",
        b"\x0f\xa0",
    ),
    b"\x03\xe8" + b"x" * 123,
]


@dataclass(frozen=True)
class Attack:
    """What one attacking client does."""

    kind: str
    opening: bytes
    """A valid handshake to complete first; empty if there is none."""
    pieces: list[bytes] = field(repr=False)
    """What the client then sends, one write for each piece."""
    pause_seconds: float
    """How long the client waits after each piece."""
    ending: str
    """How the client leaves: `close`, `reset` (TCP's RST), or `half` (it closes its sending side, then reads)."""

    def __str__(self) -> str:
        sent = b"".join(self.pieces)
        shown = f"{sent[:600]!r}{f' … of {len(sent)} bytes' if len(sent) > 600 else ''}"
        lengths = [len(piece) for piece in self.pieces]
        return f"{self.kind}, in pieces of {lengths}, {self.pause_seconds:.3f} s apart, then {self.ending}: {shown}"


@dataclass(frozen=True)
class Door:
    """Where attackers of one protocol connect, and what they send there."""

    target: Callable[[Random, str], str]
    """Takes the API key; returns the target of a handshake."""
    payloads: list[bytes] = field(repr=False)
    key: str = ""
    """A valid API key."""


_PUSHER_OPTIONS = [*["?protocol=7"] * 8, "", "?protocol=x", "?protocol=7&\xff"]
DOORS = {
    "v3": Door(
        lambda random, key: f"/v3/fuzz-{random.randrange(20)}?api_key={key}{random.choice(_FLAGS)}",
        PAYLOADS,
    ),
    "pusher": Door(
        lambda random, key: f"/app/{key}{random.choice(_PUSHER_OPTIONS)}",
        PUSHER_PAYLOADS,
    ),
    "v4": Door(
        lambda random, key: f"/v4/fuzz-{random.randrange(20)}?api_key={key}{random.choice(_FLAGS)}",
        V4_PAYLOADS,
    ),
}


def make_attack(seed: int, number: int, key: str, protocol: str = "v3") -> Attack:
    """Return the attack with a number.

    Args:
        seed: the seed of the whole run.
        number: the number of the attack in the run.
        key: a valid API key.
        protocol: the protocol of the door that is attacked.
    """
    door = replace(DOORS[protocol], key=key)
    random = Random(f"{seed}:{number}")
    kind, opens, maker = random.choices(_KINDS, _WEIGHTS)[0][:3]
    opening = handshake(door.target(random, key)) if opens else b""
    pieces = _split(random, maker(random, door))
    return Attack(
        kind=kind,
        opening=opening,
        pieces=pieces,
        pause_seconds=random.choice([0, 0, 0, 0, 0.1 / max(len(pieces), 1)]),
        ending=random.choice(["close", "reset", "half"]),
    )


def handshake(target: str, *more: str) -> bytes:
    return "\r\n".join([*_handshake_lines(target), *more, "", ""]).encode("latin-1")


def _handshake_lines(target: str) -> list[str]:
    return [
        f"GET {target} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ]


_FLAGS = [
    "",
    "&presence",
    "&notify_self",
    "&presence&notify_self",
    "&presence&uuid=same",
    "&jwt=x",
    "&notify_self=2",
    "&\xff",
]


def _mutated_lines(random: Random, lines: list[str]) -> bytes:
    """Return a request with some of its lines broken."""
    for _ in range(random.randint(0, 3)):
        at = random.randrange(1, len(lines) + 1)
        match random.randrange(9):
            case 0:
                lines[0] = f"{random.choice(METHODS)} {random.choice(TARGETS)} {random.choice(VERSIONS)}"
            case 1:
                lines[0] = " ".join(
                    random.choice([METHODS, TARGETS, VERSIONS, VALUES])[0] for _ in range(random.randint(0, 4))
                )
            case 2:
                lines[at:] = lines[at + 1 :]
            case 3:
                lines.insert(at, random.choice(lines))
            case 4:
                lines.insert(at, f"{random.choice(NAMES)}: {random.choice(VALUES)}")
            case 5:
                name = lines[at - 1].partition(":")[0]
                lines[at - 1] = f"{name}: {random.choice(VALUES)}"
            case 6:
                lines[at:at] = random.choice(LENGTHS)
            case 7:
                lines.insert(at, random.choice([" folded", "\t", "no colon", ": no name", "a" * 20_000, "\0: \0"]))
            case 8:
                lines[0] = re.sub(
                    "/(v3|app)/",
                    lambda _: random.choice(["/", "/V3/", "/v3//", "/v3/\0", "/v3/%00", "v3/", "/app//", "/app/%00"]),
                    lines[0],
                )
    end = random.choice(["\r\n"] * 8 + ["\n", "\r"])
    body = random.choice(BODIES) if random.random() < 0.4 else b""
    return end.join([*lines, "", ""]).encode("latin-1", "replace") + body


def _handshakes(random: Random, door: Door) -> bytes:
    return _mutated_lines(random, _handshake_lines(door.target(random, random.choice([door.key, "", "x" * 60]))))


def _requests(random: Random, door: Door) -> bytes:
    lines = [
        f"{random.choice(METHODS[:7])} {random.choice(TARGETS)} HTTP/1.1",
        "Host: localhost",
        f"key: {door.key}",
        "secret: x",
    ]
    return _mutated_lines(random, lines)


def _pipelined(random: Random, door: Door) -> bytes:
    makers: list[Callable[[Random, Door], bytes]] = [
        _handshakes,
        _requests,
        lambda random, door: handshake(door.target(random, door.key)),
    ]
    parts = [random.choice(makers)(random, door) for _ in range(random.randint(2, 5))]
    return b"".join([*parts, _frames(random, door)] if random.random() < 0.5 else parts)


def _mutate(random: Random, sent: bytes) -> bytes:
    """Return the bytes with some changed, dropped, added or repeated."""
    mutated = bytearray(sent)
    for _ in range(random.randint(1, 8)):
        at = random.randrange(len(mutated) + 1)
        match random.randrange(5):
            case 0 if at < len(mutated):
                mutated[at] ^= 1 << random.randrange(8)
            case 1:
                del mutated[at : at + random.randint(1, 20)]
            case 2:
                mutated[at:at] = random.randbytes(random.randint(1, 20))
            case 3:
                mutated[at:at] = mutated[at : at + random.randint(1, 200)]
            case 4:
                del mutated[at:]
    return bytes(mutated)


def _mutated_handshakes(random: Random, door: Door) -> bytes:
    return _mutate(random, handshake(door.target(random, door.key), "Sec-WebSocket-Protocol: a, b", "Cookie: a=b"))


def _other_protocols(random: Random, door: Door) -> bytes:
    return random.choice([random.choice(OTHER_PROTOCOLS), random.randbytes(random.randint(1, 3000))])


def _frames(random: Random, door: Door) -> bytes:
    return b"".join(_frame(random, door) for _ in range(random.randint(1, 6)))


def _frame(random: Random, door: Door) -> bytes:
    opcode = random.choice([TEXT] * 4 + [BINARY] * 2 + [CONTINUATION, PING, PONG, CLOSE, *range(16)])
    first = random.choice([FIN] * 4 + [0]) | opcode | random.choice([0] * 8 + [0x10, 0x20, 0x40, 0x70])
    payload = random.choice(CLOSES if opcode == CLOSE else door.payloads)
    if opcode > 7 and random.random() < 0.8:
        payload = payload[:125]
    sent = frame(
        first,
        payload,
        mask=random.choice([bytes(4), random.randbytes(4), random.randbytes(4), None][: random.choice([3, 4])]),
    )
    match random.randrange(12):
        case 0:  # a false length, up to 2**64 - 1
            length = random.choice(
                [0, 125, 65_536, 1 << 20, (1 << 20) + 1, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
            )
            return struct.pack("!BBQ", first, 0x80 | 127, length) + random.randbytes(random.randint(0, 200))
        case 1:  # a length in a longer form than necessary
            return frame(first, payload, form=random.choice([126, 127]))
        case 2:
            return sent[: random.randrange(len(sent) + 1)]
    return sent


def _mutated_frames(random: Random, door: Door) -> bytes:
    return _mutate(random, _frames(random, door))


# Each kind: its name, whether a valid handshake comes first, its generator, and its weight.
_KINDS: list[tuple[str, bool, Callable[[Random, Door], bytes], int]] = [
    ("handshake", False, _handshakes, 20),
    ("request", False, _requests, 20),
    ("pipelined", False, _pipelined, 8),
    ("mutated handshake", False, _mutated_handshakes, 10),
    ("other protocol", False, _other_protocols, 6),
    ("frames", True, _frames, 24),
    ("mutated frames", True, _mutated_frames, 12),
]
_WEIGHTS = [weight for *_, weight in _KINDS]


def _split(random: Random, sent: bytes) -> list[bytes]:
    """Return the bytes in the pieces that are written to TCP."""
    if random.random() < 0.5:
        return [sent]
    if len(sent) < 400 and random.random() < 0.1:
        return [sent[at : at + 1] for at in range(len(sent))]
    cuts = sorted(random.randrange(len(sent) + 1) for _ in range(random.randint(1, 5)))
    return [sent[start:end] for start, end in itertools.pairwise([0, *cuts, len(sent)])]
