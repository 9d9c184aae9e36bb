"""Two nodes, and a page that watches a cluster live, for tests."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.clients import Client, channel_path, open_client
from tests.console.browsing import Service
from tests.console.watching import Watcher, watch
from tests.servers import LiveServer

SOON = 5.0
MAX_CHANNELS = 4
"""How many channels a connection may have."""
START = """
from accounts import services
from accounts.models import *
key = ApiKey.objects.get(pk={key})
"""


class Nodes:
    """Two nodes with one database and one Redis."""

    def __init__(self, first: Service, second: LiveServer) -> None:
        self.first = first
        self.second = second
        self.shop = first.tenants.shop

    def on(self, number: int) -> LiveServer:
        return self.second if number else self.first.server


class Shop:
    """The shop's cluster, watched by its developer on the first node."""

    def __init__(self, nodes: Nodes, stack: AsyncExitStack, watcher: Watcher) -> None:
        self.nodes = nodes
        self.watcher = watcher
        self._stack = stack

    async def connect(
        self, number: int, channel: str, *flags: str, key: str | None = None, host: str = "127.0.0.1", **options: Any
    ) -> Client:
        given = {name: str(options.pop(name)) for name in ("user", "uuid", "jwt") if name in options}
        path = channel_path(channel, self.nodes.shop.public_key if key is None else key, *flags, **given)
        return await self._stack.enter_async_context(open_client(self.nodes.on(number), path, host=host, **options))

    def run(self, code: str) -> str:
        """Run Python on the service with the shop's key as `key`."""
        return self.nodes.first.shell(START.format(key=self.nodes.shop.key) + code)

    async def issue(self, **settings: Any) -> str:
        """Issue another key of the cluster, and return it."""
        code = f"print(services.issue_key(key.cluster, 'special', **{settings!r}).key.public_key)"
        return (await asyncio.to_thread(self.run, code)).strip()


async def open_stream(
    nodes: Nodes, stack: AsyncExitStack, *, number: int = 0, session: str = "", content: bool = True
) -> Watcher:
    session = session or nodes.first.sessions["developer"]
    opened = watch(nodes.on(number), nodes.shop.account, nodes.shop.cluster, session, content=content)
    return await stack.enter_async_context(opened)


EACH_NODE = pytest.mark.parametrize("number", [0, 1], ids=["on the same node", "on another node"])
