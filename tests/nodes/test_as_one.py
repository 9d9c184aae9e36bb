"""Three nodes act as one service: counts, access changes, quotas, and publishing from other processes."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress

import pytest
import redis
from websockets.exceptions import ConnectionClosed

from realtime.cluster.redis_connection_counts import LEASE_SECONDS
from realtime.protocols import closes
from tests.clients import Client, channel_path, open_client
from tests.conftest import Connect
from tests.nodes.service import NODES, Service
from tests.servers import LiveServer, Redis
from tests.sockets.test_presence_crowd import Listener
from tests.sockets.test_refusals import error

ROUNDS, CONNECTS = 20, 500
MESSAGES = 100_000
# How long a change may take to reach all nodes, in seconds. Without its announcement, it would take up to 30.
SOON_SECONDS = 5


@pytest.fixture
def credentials(service: Service, channel: str) -> tuple[str, str]:
    """The key and the secret of a cluster that is named after the channel."""
    return service.issue_key(channel)


@pytest.fixture
async def connect(service: Service, credentials: tuple[str, str]) -> AsyncIterator[Connect]:
    """Connect to a channel on a node: `await connect(0, "room")`."""
    async with AsyncExitStack() as stack:

        async def connect_one(number: int, channel: str, **options: str) -> Client:
            path = channel_path(channel, credentials[0])
            return await stack.enter_async_context(open_client(service.nodes[number], path, **options))

        yield connect_one


async def visit(node: LiveServer, path: str) -> None:
    """Connect, and abort the connection soon after the server has opened it, or before."""
    listener = Listener(path)
    try:
        await asyncio.get_running_loop().create_connection(lambda: listener, "127.0.0.1", node.port)
    except OSError:
        return  # the node is down
    await asyncio.sleep(0.05)
    listener.transport.abort()


async def test_counts_are_exact_after_thousands_of_visits_and_the_crash_of_a_node(
    service: Service, connect: Connect, credentials: tuple[str, str]
) -> None:
    path = channel_path("busy", credentials[0])
    residents = [await connect(number, "busy") for number in NODES[:2]]
    killed = service.nodes[2]
    guests = [await connect(2, "busy") for _ in range(3)]
    assert await residents[0].count() == 5
    for number in range(ROUNDS):
        await asyncio.gather(*(visit(service.nodes[visitor % 3], path) for visitor in range(CONNECTS)))
        if number == ROUNDS // 2:
            killed.stop(signal.SIGKILL)
            killed.start()
    assert [(await guest.ending())[1] for guest in guests] == [1006] * 3
    deadline = time.monotonic() + LEASE_SECONDS + 5
    while (counts := [await resident.count() for resident in residents]) != [2, 2]:
        assert time.monotonic() < deadline, counts
        await asyncio.sleep(0.1)
    returned = await connect(2, "busy")
    assert [await client.count() for client in (*residents, returned)] == [3, 3, 3]


async def test_a_process_without_connections_publishes_to_the_clients_of_every_node(
    service: Service, connect: Connect, channel: str
) -> None:
    clients = [await connect(number, "news") for number in NODES]
    service.shell(PUBLISH.format(cluster_id=channel))
    for client in clients:
        assert [await client.receive() for _ in range(3)] == ["text", b"\x00\xff", ""]
        await client.settle()


PUBLISH = """
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from realtime.protocols.channels import group_name, message_event
group = group_name("{cluster_id}", "news")
for data in ("text", bytes([0, 255]), ""):
    async_to_sync(get_channel_layer().group_send)(group, message_event(group, data))
"""


@pytest.mark.parametrize(
    ("change", "close"),
    [
        pytest.param("services.revoke_key(key)", closes.KEY_REVOKED, id="a key is revoked"),
        pytest.param(
            "services.suspend_account(key.cluster.account)", closes.ACCOUNT_SUSPENDED, id="an account is suspended"
        ),
        pytest.param(
            "services.update_cluster(key.cluster, enabled=False)", closes.CLUSTER_OFF, id="a cluster is disabled"
        ),
        pytest.param(
            "services.update_key(key, allowed_origins=['other.example'])",
            closes.BAD_ORIGIN,
            id="an origin is no longer allowed",
        ),
    ],
)
async def test_lost_access_closes_connections_on_every_node_soon(
    service: Service, connect: Connect, credentials: tuple[str, str], change: str, close: closes.Close
) -> None:
    clients = [await connect(number, "room", origin="https://example.com") for number in NODES]
    for client in clients:
        await client.settle()
    changed_at = float(service.shell(CHANGE.format(key=credentials[0], change=change)))
    endings = await asyncio.gather(*(timed_ending(client) for client in clients))
    assert [(frames, code) for frames, code, _ in endings] == [([error(close)], close.code)] * 3
    assert max(moment for *_, moment in endings) - changed_at < SOON_SECONDS
    rejected = [await connect(number, "room", origin="https://example.com") for number in NODES]
    assert [(await client.ending())[1] for client in rejected] == [close.code] * 3


async def timed_ending(client: Client) -> tuple[list[str | bytes], int, float]:
    frames, code = await client.ending()
    return frames, code, time.time()


CHANGE = """
import time
from accounts import services
from accounts.models import ApiKey
key = ApiKey.objects.select_related("cluster__account").get(public_key="{key}")
print(time.time())
{change}
"""


async def test_a_changed_quota_takes_effect_on_every_node_soon(
    service: Service, connect: Connect, credentials: tuple[str, str]
) -> None:
    clients = [await connect(number, f"room{number}") for number in NODES]
    for client in clients:
        await client.settle()
    service.shell(CHANGE.format(key=credentials[0], change="services.update_key(key, max_message_bytes=5)"))
    for client in clients:
        assert await close_code_of_long_messages(client) == closes.TOO_BIG.code


async def close_code_of_long_messages(client: Client) -> int | None:
    """Send a message of six bytes again and again until the node closes the connection; return with which code."""
    async with asyncio.timeout(SOON_SECONDS):
        while client.socket.close_code is None:
            with suppress(ConnectionClosed):
                await client.send("123456")
            await asyncio.sleep(0.05)
    return client.socket.close_code


async def test_all_nodes_together_accept_exactly_as_many_concurrent_clients_as_the_quota_allows(
    service: Service, credentials: tuple[str, str], connect: Connect
) -> None:
    service.shell(CHANGE.format(key=credentials[0], change="services.update_key(key, max_connections=40)"))
    await asyncio.sleep(1)
    clients = await asyncio.gather(*(connect(number % 3, "crowd") for number in range(120)))
    rejected = [client for client in clients if await is_rejected(client)]
    assert len(rejected) == 80
    residents = [client for client in clients if client not in rejected]
    assert [await client.count() for client in residents[:3]] == [40] * 3


async def is_rejected(client: Client) -> bool:
    try:
        await client.settle()
    except (AssertionError, ConnectionClosed):  # the error frame, or the close after it
        assert (await client.ending())[1] == closes.QUOTA_USED_UP.code
        return True
    return False


async def test_a_channel_costs_nothing_on_a_node_without_a_subscriber(service: Service, connect: Connect) -> None:
    sender, listener = await connect(0, "busy"), await connect(1, "busy")
    idle = service.nodes[2]
    before = idle.cpu_seconds()
    await asyncio.sleep(3)
    quiet = (idle.cpu_seconds() - before) / 3
    before, begun = idle.cpu_seconds(), time.monotonic()
    for number in range(MESSAGES):
        await sender.send(str(number))
        if number % 100 == 99:
            for _ in range(100):
                await listener.receive()
    seconds = time.monotonic() - begun
    busy = (idle.cpu_seconds() - before) / seconds
    print(
        f"{quiet:.1%} of a core when all nodes are idle, "
        f"{busy:.1%} while the others carry {MESSAGES / seconds:.0f} messages per second"
    )
    assert busy < quiet + 0.05


async def test_the_channels_of_one_service_are_spread_over_several_redis_servers(
    start: Callable[..., LiveServer], keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Redis(tmp_path_factory.mktemp("redis")) as first, Redis(tmp_path_factory.mktemp("redis")) as second:
        nodes = [start("serve", REDIS_URL=f"{first.url},{second.url}") for _ in range(2)]
        async with AsyncExitStack() as stack:
            for number in range(30):
                path = channel_path(f"sharded-{number}", keys["demo"])
                pair = [await stack.enter_async_context(open_client(node, path)) for node in nodes]
                await pair[0].send(f"to {number}")
                assert await pair[1].receive() == f"to {number}"
                assert await pair[0].count() == 2
            used = [redis.Redis.from_url(server.url).info("commandstats") for server in (first, second)]
            assert all("cmdstat_publish" in stats and "cmdstat_subscribe" in stats for stats in used)
        for node in nodes:
            node.stop()
