"""Webhooks on several nodes: each change is reported once, also when a node dies, and events wait for the database."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

from realtime.protocols.pusher_channels import MAX_NAME_LENGTH, MAX_USER_ID_LENGTH
from realtime.webhooks.messages import MAX_PENDING_BYTES
from tests.clients import Client, channel_path, open_client
from tests.nodes.service import Service
from tests.receivers import Receiver
from tests.sockets.pusher import open_pusher
from tests.sockets.v4 import open_v4
from tests.webhooks import PROBE, SETTINGS, Tenant, until_known

CHANNELS = 200
# The messages of an outage of the database: how many are small, and how large the others are, in bytes.
SMALL, LARGE = 1_000, 64 * 1024
OUTAGE_SECONDS = 10
MEMBERS = 60


@contextmanager
def started(directory: Path) -> Iterator[tuple[Service, Receiver, str]]:
    """Run the nodes and a tenant's own server, and issue a key of cluster `acme`."""
    with ExitStack() as stack:
        service = Service(directory, stack, **SETTINGS)
        for node in service.nodes:
            stack.callback(node.stop, signal.SIGKILL)
        receiver = stack.enter_context(Receiver())
        key, _ = service.issue_key("acme")
        yield service, receiver, key


async def test_members_are_added_and_removed_once_each_although_a_node_is_killed(tmp_path: Path) -> None:
    with started(tmp_path) as (service, receiver, key):
        tenant = Tenant(service.nodes[1], receiver, "acme", kinds=["member_added", "member_removed"], batches=True)
        members = [(f"c{number % 3}", f"u{number}") for number in range(MEMBERS)]
        paths = [channel_path(channel, key, "presence", uuid=uuid) for channel, uuid in members]

        def connect(node: int, path: str) -> AbstractAsyncContextManager[Client]:
            # The clients do not read the events of presence, which must not keep them from closing.
            return open_client(service.nodes[node], path, max_queue=None)

        def told(name: str) -> list[tuple[str, str]]:
            return [(event["channel"], event["user_id"]) for event in tenant.events(name)]

        async with AsyncExitStack() as on_first, AsyncExitStack() as on_second:
            # Of each channel, a quarter of the members is on both nodes, a quarter on the second, half on the first.
            for number, path in enumerate(paths):
                if number // 3 % 4 != 3:
                    await on_first.enter_async_context(connect(0, path))
                if number // 3 % 4 >= 2:
                    await on_second.enter_async_context(connect(1, path))
            await tenant.until(lambda: len(told("member_added")) == MEMBERS)
            # Members that go from one node to the other in time have not left.
            for number in range(6):
                await on_second.enter_async_context(connect(1, paths[number]))
            service.nodes[0].stop(signal.SIGKILL)
            gone = [each for number, each in enumerate(members) if number // 3 % 4 < 2 and number >= 6]
            await tenant.until(lambda: len(told("member_removed")) >= len(gone), seconds=30)
            assert sorted(told("member_removed")) == sorted(gone)
        await tenant.until(lambda: len(told("member_removed")) == MEMBERS, seconds=30)
        for member in members:
            names = [event["name"] for event in tenant.events() if (event["channel"], event["user_id"]) == member]
            assert names == ["member_added", "member_removed"]


async def test_the_longest_channels_and_members_of_each_protocol_are_reported(tmp_path: Path) -> None:
    with started(tmp_path) as (service, receiver, _):
        node, (key, secret) = service.nodes[0], service.issue_key("acme")
        tenant = Tenant(node, receiver, "acme", kinds=["channel_occupied", "member_added"])
        longest, member = f"presence-{'n' * 119}/{'c' * 128}", "ü" * MAX_USER_ID_LENGTH
        async with open_pusher(node, key, secret) as pusher, open_v4(node, longest, key, member="u" * 64, presence=1):
            channel = f"presence-{'c' * (MAX_NAME_LENGTH - 9)}"
            await pusher.join(channel, {"user_id": member})
            wanted = {(longest, "u" * 64), (longest, None), (channel, member), (channel, None)}
            await tenant.until(
                lambda: {(event["channel"], event.get("user_id")) for event in tenant.events()} == wanted, seconds=30
            )


async def test_channels_are_occupied_and_vacated_once_each_although_a_node_is_killed(tmp_path: Path) -> None:
    with started(tmp_path) as (service, receiver, key):
        tenant = Tenant(service.nodes[1], receiver, "acme", kinds=["channel_occupied", "channel_vacated"], batches=True)
        paths = [channel_path(f"c{number}", key) for number in range(CHANNELS)]
        async with AsyncExitStack() as on_first, AsyncExitStack() as on_second:
            # A quarter of the channels is on both nodes, a quarter on the second only, and half on the first only.
            for number, path in enumerate(paths):
                if number % 4 != 3:
                    await on_first.enter_async_context(open_client(service.nodes[0], path))
                if number % 4 >= 2:
                    await on_second.enter_async_context(open_client(service.nodes[1], path))
            await tenant.until(lambda: len(tenant.events("channel_occupied")) == CHANNELS)
            service.nodes[0].stop(signal.SIGKILL)
            await tenant.until(lambda: len(tenant.events("channel_vacated")) >= CHANNELS // 2, seconds=30)
            gone = {event["channel"] for event in tenant.events("channel_vacated")}
            assert gone == {f"c{number}" for number in range(CHANNELS) if number % 4 < 2}
        await tenant.until(lambda: len(tenant.events("channel_vacated")) == CHANNELS, seconds=30)
        for number in range(CHANNELS):
            names = [event["name"] for event in tenant.events() if event["channel"] == f"c{number}"]
            assert names == ["channel_occupied", "channel_vacated"]


async def test_messages_wait_for_the_database_within_a_bound_and_the_others_are_counted(tmp_path: Path) -> None:
    with started(tmp_path) as (service, receiver, key):
        tenant = Tenant(service.nodes[1], receiver, "acme", batches=True)

        def numbers() -> list[int]:
            return [int(event["data"].split()[0]) for event in tenant.events() if event["data"] != PROBE]

        large = 2 * MAX_PENDING_BYTES // LARGE
        async with open_client(service.nodes[0], channel_path("chat", key)) as client:
            await until_known(tenant, client)
            service.to_postgres[0].cut()
            for number in range(SMALL):
                await client.send(f"{number} small")
            for number in range(SMALL, SMALL + large):
                await client.send(f"{number} {'x' * LARGE}")
            await client.settle()
            await asyncio.sleep(OUTAGE_SECONDS)
            assert not numbers()
            service.to_postgres[0].restore()
            await tenant.until(lambda: len(set(numbers())) + tenant.dropped() == SMALL + large)
        assert set(range(SMALL + large // 4)) <= set(numbers())
        assert tenant.dropped() >= large // 4
