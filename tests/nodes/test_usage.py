"""Usage over several nodes equals what was sent, delivered and refused, to the message, through kills and outages.

`USAGE_MINUTES=5` has the clients send for five minutes before a node is killed, and for five minutes afterwards.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest

from tests.clients import Client, channel_path, open_client, until
from tests.conftest import Connect
from tests.nodes.service import Service

MESSAGE = "x" * 10
FRAME_BYTES = 12
NONE = {"messages": 0, "message_bytes": 0, "deliveries": 0, "delivered_bytes": 0, "api_calls": 0}
WAIT_SECONDS = 60
MINUTES = float(os.environ.get("USAGE_MINUTES", "0"))

READ = """
import json
from accounts.models import Cluster, UsageUnit
from accounts.usage_reports import last, over_time, total
account = Cluster.objects.get(cluster_id="{cluster_id}").account_id
hours, days = (total(over_time(account, last(unit, 2)).values()) for unit in UsageUnit)
assert hours == days, (hours, days)
print(json.dumps({{name: getattr(hours, name) for name in hours.__slots__}}))
"""
RESTRICT = """
from accounts import services
from accounts.models import ApiKey
services.update_key(ApiKey.objects.get(public_key="{key}"), allowed_origins=["example.com"])
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Three nodes that write usage twice a second, which they otherwise do once a minute."""
    with ExitStack() as stack:
        service = Service(tmp_path_factory.mktemp("service"), stack, USAGE_SECONDS="0.5")
        yield service
        for node in service.nodes:
            node.stop()
        for node in service.nodes:
            assert "Traceback" not in node.log, node.log


@pytest.fixture
def credentials(service: Service, channel: str) -> tuple[str, str]:
    return service.issue_key(channel)


@pytest.fixture
async def connect(service: Service, credentials: tuple[str, str], channel: str) -> AsyncIterator[Connect]:
    """Connect to a room of the cluster on a node."""
    async with AsyncExitStack() as stack:

        async def connect_one(number: int, *, key: str | None = None, **options: Any) -> Client:
            path = channel_path("room", key or credentials[0])
            host = f"{channel}.localhost"
            return await stack.enter_async_context(open_client(service.nodes[number], path, host=host, **options))

        yield connect_one


class Traffic:
    """Clients of one room on several nodes, and what their usage must be."""

    def __init__(self, service: Service, cluster_id: str, credentials: tuple[str, str]) -> None:
        self._service, self._cluster_id = service, cluster_id
        self._key, self._secret = credentials
        self.clients: list[Client] = []
        self.expected: dict[str, Any] = {**NONE, "peak_connections": 0, "refusals": {}}

    def add(self, client: Client) -> None:
        self.clients.append(client)
        self.expected["peak_connections"] = max(self.expected["peak_connections"], len(self.clients))

    async def send(self, client: Client, number: int) -> None:
        """Send messages, and return when all others have them."""
        for _ in range(number):
            await client.send(MESSAGE)
        await self._receive(number, [other for other in self.clients if other is not client])
        self._count(number, len(self.clients) - 1)

    async def publish(self, node: int, number: int) -> None:
        async with self._service.nodes[node].http_client() as http:
            for _ in range(number):
                body = {"key": self._key, "secret": self._secret, "channelId": "room", "message": MESSAGE}
                assert (await http.post("/api/publish", json=body)).status_code == 200
        await self._receive(number, self.clients)
        self._count(number, len(self.clients))
        self.expected["api_calls"] += number

    async def send_for(self, minutes: float, nodes: Sequence[int]) -> None:
        """Have every client send and some nodes publish, at least once."""
        until = time.monotonic() + minutes * 60
        while True:
            for client in self.clients:
                await self.send(client, 50)
            for node in nodes:
                await self.publish(node, 20)
            if time.monotonic() >= until:
                return

    async def _receive(self, number: int, receivers: list[Client]) -> None:
        for receiver in receivers:
            assert [await receiver.receive() for _ in range(number)] == [MESSAGE] * number

    def _count(self, messages: int, receivers: int) -> None:
        self.expected["messages"] += messages
        self.expected["message_bytes"] += messages * FRAME_BYTES
        self.expected["deliveries"] += messages * receivers
        self.expected["delivered_bytes"] += messages * receivers * FRAME_BYTES

    def recorded(self) -> dict[str, Any]:
        return dict(json.loads(self._service.shell(READ.format(cluster_id=self._cluster_id))))

    async def until_recorded(self) -> None:
        """Wait until the usage in the database is as expected."""
        recorded: dict[str, Any] = {}
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while (recorded := await asyncio.to_thread(self.recorded)) != self.expected:  # noqa: ASYNC110
                    await asyncio.sleep(0.5)
        except TimeoutError:
            assert recorded == self.expected


@pytest.fixture
async def traffic(service: Service, connect: Connect, channel: str, credentials: tuple[str, str]) -> Traffic:
    """Two clients on each of two nodes."""
    traffic = Traffic(service, channel, credentials)
    for number in (0, 1, 0, 1):
        traffic.add(await connect(number))
    return traffic


async def test_usage_equals_what_was_sent_delivered_and_refused_though_a_node_is_killed(
    service: Service, connect: Connect, credentials: tuple[str, str], traffic: Traffic
) -> None:
    await traffic.send_for(MINUTES, (0, 1))
    service.shell(RESTRICT.format(key=credentials[0]))
    refusals = traffic.expected["refusals"]
    for node, times in ((0, 3), (1, 2)):
        for _ in range(times):
            refused = await connect(node, origin="https://elsewhere.example")
            assert (await refused.ending())[1] == 4003
        refused = await connect(node, key="unknown")
        assert (await refused.ending())[1] == 4001
    async with service.nodes[0].http_client() as http:
        body = {"key": credentials[0], "secret": "wrong", "channelId": "room", "message": MESSAGE}
        assert (await http.post("/api/publish", json=body)).status_code == 401
    refusals |= {"bad_origin": 5, "bad_key": 2, "bad_secret": 1}
    await traffic.until_recorded()

    service.nodes[1].stop(signal.SIGKILL)
    service.nodes[1].start()
    traffic.clients = traffic.clients[0:3:2]
    await traffic.send_for(MINUTES, (0,))
    await traffic.until_recorded()


async def test_a_node_that_stops_records_everything_first(service: Service, traffic: Traffic, connect: Connect) -> None:
    await traffic.send(traffic.clients[1], 100)
    service.nodes[1].stop()
    assert await asyncio.to_thread(traffic.recorded) | NONE == traffic.expected | NONE
    service.nodes[1].start()
    await traffic.until_recorded()


async def test_usage_during_an_outage_of_the_database_is_recorded_afterwards(
    service: Service, traffic: Traffic
) -> None:
    service.postgres.stop()
    try:
        for client in traffic.clients:
            await traffic.send(client, 50)
        await traffic.publish(0, 5)
        await until(lambda: all("Cannot record usage yet" in node.log for node in service.nodes[:2]), WAIT_SECONDS)
        await traffic.publish(1, 5)
    finally:
        service.postgres.start()
    await traffic.until_recorded()
