"""Nodes are stopped and started one after the other, under load; clients that are connected miss nothing."""

import asyncio
import contextlib
import itertools
import random
import signal
import time
from collections import defaultdict
from dataclasses import dataclass, field

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.clients import Client, channel_path, open_client
from tests.proxies import Balanced
from tests.servers import LiveServer

CLIENTS, TALKERS = 60, 15
PONG = '{"system":"pong"}'
# How long a message may take at most until it is missed, in seconds.
LATE_SECONDS = 2.0


@dataclass
class Stay:
    """One connection of a client, from when it was in the channel for sure to when it heard of its end."""

    begun: float = float("inf")
    ended: float = float("inf")
    heard: set[str] = field(default_factory=set)


class Visitor:
    """A client that comes back, with jitter, whenever it is told to; what it has sent, and what it heard when."""

    def __init__(self, server: LiveServer, path: str, name: str, *, talks: bool) -> None:
        self._server, self._path, self._name, self._talks = server, path, name, talks
        self.stays: list[Stay] = []
        self.sent: dict[str, float] = {}
        self.codes: list[int] = []

    async def live(self, until: asyncio.Event) -> None:
        while not until.is_set():
            with contextlib.suppress(ConnectionClosed, InvalidHandshake, OSError):  # the proxy may have no node for it
                async with open_client(self._server, self._path, host="demo.ws.test") as client:
                    await self._stay(client, until)
            await asyncio.sleep(random.uniform(0, 0.5))

    async def _stay(self, client: Client, until: asyncio.Event) -> None:
        stay = Stay()
        self.stays.append(stay)
        tasks = [asyncio.create_task(self._close(client, until))]
        await client.send("cmd_ping")
        try:
            while True:
                message = str(await client.socket.recv())
                stay.heard.add(message)
                if message == PONG:
                    stay.begun = time.monotonic()
                    tasks += [asyncio.create_task(self._talk(client))] if self._talks else []
        except ConnectionClosed as closed:
            stay.ended = time.monotonic()
            self.codes.append(closed.rcvd.code if closed.rcvd else 1006)
        finally:
            for task in tasks:
                task.cancel()

    async def _talk(self, client: Client) -> None:
        for number in itertools.count(len(self.sent)):
            message = f"{self._name}:{number}"
            await client.send(message)
            self.sent[message] = time.monotonic()
            await asyncio.sleep(0.02)

    async def _close(self, client: Client, until: asyncio.Event) -> None:
        await until.wait()
        await asyncio.sleep(LATE_SECONDS)
        await client.socket.close()


async def test_no_message_between_connected_clients_is_lost(
    balanced: Balanced, keys: dict[str, str], channel: str
) -> None:
    path, done = channel_path(channel, keys["demo"]), asyncio.Event()
    visitors = [Visitor(balanced, path, f"v{number}", talks=number < TALKERS) for number in range(CLIENTS)]
    living = asyncio.gather(*(visitor.live(done) for visitor in visitors))
    await asyncio.sleep(2)
    for node in balanced.nodes:
        node.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(node.process.wait, 30) == 0
        await asyncio.sleep(1)
        await asyncio.to_thread(node.start)
        await asyncio.sleep(4)  # in which the proxy finds out
    done.set()
    await living

    codes = [code for visitor in visitors for code in visitor.codes]
    assert {1012} <= set(codes) <= {1000, 1012}
    assert codes.count(1012) >= CLIENTS
    lost: dict[str, list[str]] = defaultdict(list)
    expected = 0
    for talker in visitors[:TALKERS]:
        for message, sent_at in talker.sent.items():
            for visitor in visitors:
                if visitor is talker:
                    continue
                for stay in visitor.stays:
                    if stay.begun <= sent_at and sent_at + LATE_SECONDS <= stay.ended:
                        expected += 1
                        if message not in stay.heard:
                            lost[message].append(visitor._name)
    print(f"{expected} deliveries were due, {sum(map(len, lost.values()))} are missing")
    assert expected > 10_000
    assert not lost
