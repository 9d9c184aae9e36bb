"""Clients of every kind, well-behaved or not, each from its first byte to its last."""

import asyncio
import contextlib
import itertools
import json
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from realtime.protocols import tokens
from tests.clients import channel_path, open_client
from tests.conformance.test_short_paths import BINARY, FIN, TEXT, frame
from tests.servers import LiveServer
from tests.sockets.pusher import open_pusher
from tests.sockets.pusher_api import PusherServer
from tests.sockets.test_refusals import GOOD_HANDSHAKE, handshake
from tests.sockets.v4 import Refused, open_v4

CHANNELS = 50
# What a slow reader is sent until the server disconnects it.
SLOW_MESSAGES = 120
SLOW_BYTES = 64 * 1024
# How long a client that answers no pings stays, in seconds; the server disconnects it sooner.
SILENT_SECONDS = 75.0


@dataclass
class Site:
    """The servers that clients connect to, and the credentials that they use."""

    servers: list[LiveServer]
    keys: dict[str, str]
    secrets: dict[str, str]
    app_id: str
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def server(self) -> LiveServer:
        """A server chosen at random."""
        return random.choice(self.servers)

    def channel(self, prefix: str) -> str:
        return f"{prefix}-{next(self._numbers) % CHANNELS}"

    def path(self, prefix: str, *flags: str, key: str = "demo", **options: str) -> str:
        return channel_path(self.channel(prefix), self.keys.get(key, key), *flags, **options)


async def orderly(site: Site) -> None:
    async with open_client(site.server, site.path("talk")) as client:
        await client.send("hello")
        await client.send(b"hello")


async def abrupt(site: Site) -> None:
    async with open_client(site.server, site.path("talk", "presence")) as client:
        await client.send("bye")
        _reset(client.socket.transport)


async def half_closed(site: Site) -> None:
    """Send TCP's FIN without a close frame, and leave later."""
    async with _raw(site, site.path("talk")) as (reader, writer):
        writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await reader.read()


async def in_presence(site: Site) -> None:
    number = next(site._numbers)
    path = site.path("presence", "presence", uuid=f"member-{number % 7}", user="Ann")
    async with open_client(site.server, path) as client:
        assert "member_list" in str(await client.receive())


async def private(site: Site) -> None:
    channel = site.channel("private")
    jwt = tokens.sign(site.secrets["demo"], channel, 60, "Ann")
    async with open_client(site.server, channel_path(channel, site.keys["demo"], jwt=jwt)) as client:
        await client.send("secret")


async def refused(site: Site) -> None:
    path = random.choice(
        [
            site.path("private", jwt="x.y.z"),
            site.path("talk", key=random.choice(["k" * 60, "unknown", ""])),
            site.path("talk", "notify_self=2"),
            "/nowhere",
        ]
    )
    async with open_client(site.server, path) as client:
        frames, code = await client.ending()
    assert frames, code
    assert 4000 <= code <= 4009


async def publisher(site: Site) -> None:
    """Publish with the APIs of all protocols."""
    key, secret = site.keys["demo"], site.secrets["demo"]
    url, headers = site.server.url("", scheme="http"), {"key": key, "secret": secret}
    publication = {"channelId": site.channel("talk"), "message": {"event": "news", "data": "x" * 200}}
    async with httpx.AsyncClient(trust_env=False, base_url=url, headers=headers) as client:
        for path, sent in (
            ("/api/publish", publication),
            ("/api/publish/batch", {"messages": [publication] * 20}),
            ("/api/v4/publish", publication),
            ("/api/v4/members", {"channelId": site.channel("presence-talk")}),
        ):
            answer = await client.post(path, json=sent)
            assert answer.status_code == 200, answer.text
        answer = await client.post("/api/publish", content=b"not JSON")
        assert answer.status_code == 400, answer.text
    async with httpx.AsyncClient(trust_env=False, base_url=url) as client:
        event = json.dumps({"name": "news", "channel": site.channel("public"), "data": "x" * 200}).encode()
        assert await PusherServer(client, site.app_id, key, secret).ask("POST", "/events", event) == (200, {})


async def of_v4(site: Site) -> None:
    """Subscribe to channels of all kinds, send to them, and leave one of them; then go, perhaps abruptly."""
    number = next(site._numbers)
    lobby, member = site.channel("lobby"), f"member-{number % 7}"
    async with open_v4(site.server, lobby, site.keys["demo"], member, presence=number % 2) as client:
        public, presence, private = (site.channel(kind) for kind in ("talk", "presence-talk", "private"))
        await client.subscribe(public)
        await client.subscribe(presence)
        await client.subscribe(private, jwt=tokens.sign(site.secrets["demo"], private, 60, "Ann"))
        await client.publish("news", "hello", channel=public)
        await client.send_bytes(b"hello", private)
        await client.ask_members(presence)
        await client.unsubscribe(random.choice([public, presence, private]))
        if number % 3:
            _reset(client.client.socket.transport)


async def refused_by_v4(site: Site) -> None:
    """Subscribe without a JWT; then connect with an unknown key, which is slowed down if it happens often."""
    number = next(site._numbers)
    async with open_v4(site.server, site.channel("lobby"), site.keys["demo"]) as client:
        try:
            await client.subscribe(site.channel("private"))
        except Refused:
            pass
        else:
            raise AssertionError("a private channel is open to all")
    async with open_v4(site.server, site.channel("lobby"), "k" * 60, f"member-{number % 7}") as client:
        await client.listening
        assert client.client.socket.close_code == 4001


async def of_pusher(site: Site) -> None:
    """Sign in, watch others, subscribe to channels of all kinds, and leave some of them, perhaps abruptly."""
    number = next(site._numbers)
    user = f"user-{number % 7}"
    async with open_pusher(site.server, site.keys["demo"], site.secrets["demo"]) as client:
        await client.sign_in({"id": user, "watchlist": [f"user-{each}" for each in range(9)]})
        channels = [site.channel(kind) for kind in ("public", "private", "presence", "cache", "presence-cache")]
        for channel in channels:
            await client.subscribe(channel, {"user_id": user})
        await client.send("client-x", "hello", channels[1])
        for channel in random.sample(channels, 2):
            await client.send("pusher:unsubscribe", {"channel": channel})
        if number % 2:
            await client.client.send('{"event":"pusher:ping"}')
            await client.client.receive()
        elif number % 3:
            _reset(client.client.socket.transport)


async def refused_by_pusher(site: Site) -> None:
    async with open_pusher(site.server, site.keys["demo"], "wrong") as client:
        await client.subscribe(site.channel("private"))
        await client.subscribe(site.channel("presence"), {"user_id": "1"})
        await client.sign_in({"id": "1"})
        _, code = await client.client.ending()
    assert code == 4009


async def rude(site: Site) -> None:
    """Break the WebSocket protocol, or stop in the middle of a frame or of the handshake."""
    whole = handshake(site.path("talk"), *GOOD_HANDSHAKE)
    first = random.choice([whole, whole, whole[: random.randrange(len(whole))]])
    then = random.choice([b"\xf1\x80\0\0\0\0", frame(FIN | TEXT, b"\xff"), frame(TEXT, b"begun"), b"\x82\xff\x7f", b""])
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
    writer.write(first + then)
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(0.2):
            await reader.read()
    _reset(writer.transport)


async def slow(site: Site) -> None:
    """Read nothing while another client sends much."""
    channel = f"slow-{next(site._numbers)}"
    path = channel_path(channel, site.keys["demo"])
    server = site.server
    async with _raw(site, path, server), open_client(server, path) as sender:
        for _ in range(SLOW_MESSAGES):
            await sender.send(b"x" * SLOW_BYTES)
        while await sender.ask("cmd_ping") == b"here":  # the first message of the other, if it was slower
            pass


async def silent(site: Site) -> None:
    """Stay connected without answering, like a machine that has lost its network."""
    async with _raw(site, site.path("talk", "presence")) as (reader, _):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SILENT_SECONDS):
                await reader.read()


Visit = Callable[[Site], Awaitable[None]]


async def run_visit(visit: Visit, site: Site) -> None:
    """Run one client, however its connection ends; the server is judged by what it holds afterwards."""
    with contextlib.suppress(ConnectionClosed, InvalidHandshake, OSError, asyncio.IncompleteReadError):
        await visit(site)


QUICK: dict[str, tuple[Visit, int]] = {
    "orderly": (orderly, 30),
    "abrupt": (abrupt, 20),
    "half closed": (half_closed, 5),
    "in presence": (in_presence, 15),
    "private": (private, 10),
    "refused": (refused, 15),
    "publisher": (publisher, 5),
    "of v4": (of_v4, 20),
    "refused by v4": (refused_by_v4, 5),
    "of Pusher": (of_pusher, 20),
    "refused by Pusher": (refused_by_pusher, 5),
    "rude": (rude, 15),
    "slow": (slow, 1),
}
"""Clients that leave soon, each with its weight."""
PATIENT: dict[str, tuple[Visit, int]] = {"silent": (silent, 1)}
"""Clients that stay for a minute, each with its weight."""


def visits(kinds: dict[str, tuple[Visit, int]], random: random.Random) -> Iterator[tuple[str, Visit]]:
    """Yield clients endlessly, each kind as often as its weight says."""
    names, weights = list(kinds), [weight for _, weight in kinds.values()]
    while True:
        name = random.choices(names, weights)[0]
        yield name, kinds[name][0]


@asynccontextmanager
async def _raw(
    site: Site, path: str, server: LiveServer | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a WebSocket without a client library that would answer for it; reset the connection at the end."""
    # With a small buffer, unread data waits in the server.
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", (server or site.server).port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=4096)
    try:
        writer.write(handshake(path, *GOOD_HANDSHAKE))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(frame(FIN | BINARY, b"here"))
        yield reader, writer
    finally:
        _reset(writer.transport)


def _reset(transport: asyncio.WriteTransport) -> None:
    with contextlib.suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
