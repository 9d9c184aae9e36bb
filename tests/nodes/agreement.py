"""Clients on several nodes that show whether these act as one service."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from tests.clients import Client, Member, channel_path, open_client, until
from tests.metrics import get
from tests.servers import LiveServer


class Crowd:
    """On each node, a client that talks and one in presence; all of them in one channel of their own."""

    def __init__(self, nodes: Sequence[LiveServer], key: str, secret: str, stack: AsyncExitStack) -> None:
        self.nodes = nodes
        self.clients: list[Client] = []
        self.members: list[Member] = []
        self._headers = {"key": key, "secret": secret}
        self._key = key
        self._stack = stack
        self._rounds = 0

    async def connect(self, node: LiveServer, channel: str) -> Client:
        return await self._stack.enter_async_context(open_client(node, channel_path(channel, self._key)))

    async def join(self, node: LiveServer, channel: str, uuid: str) -> Member:
        path = channel_path(channel, self._key, "presence", f"uuid={uuid}")
        return Member(await self._stack.enter_async_context(open_client(node, path)), uuid)

    async def gather(self) -> None:
        """Connect the clients, and wait until the nodes agree."""
        for number, node in enumerate(self.nodes):
            self.clients.append(await self.connect(node, "crowd"))
            self.members.append(await self.join(node, "people", f"m{number}"))
        await self.until_exact()

    async def until_exact(self, seconds: float = 10, others: int = 0) -> float:
        """Wait until all nodes count the same connections, list the same members and hear each other.

        Args:
            seconds: how long this may take.
            others: how many further connections the cluster has.

        Returns:
            How long it took, in seconds.
        """
        begun = time.monotonic()
        count = len(self.nodes)
        expected = (count, 2 * count + others, sorted(member.uuid for member in self.members))
        while (states := [await self._state(number) for number in range(count)]) != [expected] * count:
            assert time.monotonic() < begun + seconds, (states, expected)
            await asyncio.sleep(0.1)
        await self.until_heard(begun + seconds - time.monotonic())
        return time.monotonic() - begun

    async def until_heard(self, seconds: float) -> None:
        """Wait until a message of each client arrives at all others."""
        async with asyncio.timeout(seconds):
            while True:
                self._rounds += 1
                for client in self.clients:
                    await client.send(f"{self._rounds}")
                if all([await self._hears(client) for client in self.clients]):
                    return

    async def _hears(self, client: Client) -> bool:
        """Return whether the message of each other client in the last round arrives soon."""
        missing = len(self.clients) - 1
        try:
            async with asyncio.timeout(1):
                while missing:
                    missing -= await client.socket.recv() == f"{self._rounds}"
        except TimeoutError:
            return False
        return True

    async def _state(self, number: int) -> tuple[int, int, list[str]]:
        """Return what a node counts in the channel and in the cluster, and the members that it lists."""
        answer = await asyncio.to_thread(get, self.nodes[number], "/api/connections/sum", self._headers)
        return (
            await self._count(self.clients[number]),
            answer.json()["connections"],
            sorted(self.members[number].members),
        )

    async def _count(self, client: Client) -> int:
        """Return what a client's node counts; messages that arrive first are left aside."""
        await client.send("cmd_status")
        async with asyncio.timeout(10):
            while not (text := str(await client.socket.recv())).startswith('{"system":{"connection_count":'):
                pass
        return int(text.rpartition(":")[2].rstrip("}"))


async def check_served(crowd: Crowd, node: LiveServer, channel: str, seconds: float) -> None:
    """Check that a node serves new clients, and that these hear each other and see each other in presence.

    Args:
        crowd: connects the clients.
        node: the node.
        channel: a channel of theirs.
        seconds: how long all of that may take.
    """
    async with asyncio.timeout(seconds):
        first, second = [await crowd.connect(node, channel) for _ in range(2)]
        await first.send("hello")
        assert await second.receive() == "hello"
        await first.settle()
        visitor = await crowd.join(node, f"{channel}-people", "visitor")
        await until(lambda: visitor.members == ["visitor"])
    for client in (first, second, visitor.client):
        await client.socket.close()
