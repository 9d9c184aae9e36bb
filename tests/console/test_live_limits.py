"""Refusals because of a limit of the server, or of a quota of messages, are shown live."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.clients import Client, channel_path, open_client
from tests.console.browsing import Service
from tests.console.conftest import add_tenants
from tests.console.watching import Watcher, watch
from tests.servers import LiveServer

LIMITS = {"MAX_CONNECTIONS": "8", "MAX_CONNECTIONS_PER_ADDRESS": "5", "MAX_BACKLOG_BYTES": "10000"}
LONG_NAME = "😀" * 250
ISSUE = """
from accounts import services
from accounts.access import find_access
from accounts.models import ApiKey
key = ApiKey.objects.get(pk={key})
new = services.issue_key(key.cluster, "small", max_message_bytes=100).key.public_key
services.set_quotas(key.cluster.account, max_messages_per_day=1)
print(new, find_access(new).secret)
"""


@pytest.fixture(scope="module")
def service(start: Callable[..., LiveServer]) -> Iterator[Service]:
    """A server that admits few connections."""
    with add_tenants(start("serve", **LIMITS)) as service:
        yield service


@pytest.fixture
async def watcher(service: Service) -> AsyncIterator[Watcher]:
    """The shop's cluster, watched by its developer."""
    shop = service.tenants.shop
    async with watch(service.server, shop.account, shop.cluster, service.sessions["developer"]) as watcher:
        yield watcher


async def connect(service: Service, stack: AsyncExitStack, *flags: str, **options: Any) -> Client:
    path = channel_path("room", service.tenants.shop.public_key, *flags)
    return await stack.enter_async_context(open_client(service.server, path, **options))


async def test_too_many_connections_of_an_address_and_of_all(
    service: Service, stack: AsyncExitStack, watcher: Watcher
) -> None:
    for _ in range(5):
        await connect(service, stack)
    refused = await connect(service, stack)
    assert (await refused.ending())[1] == 1013
    shown = await watcher.wait_for("refusal", code=1013, reason="too_many_of_address")
    assert shown["sentence"] == "Too many connections from one address"
    for _ in range(3):
        await connect(service, stack, local_addr=("127.0.0.2", 0))
    refused = await connect(service, stack, local_addr=("127.0.0.3", 0))
    assert (await refused.ending())[1] == 1013
    shown = await watcher.wait_for("refusal", code=1013, reason="over_capacity")
    assert shown["sentence"] == "Server at capacity"


async def test_a_channel_with_too_many_members(service: Service, stack: AsyncExitStack, watcher: Watcher) -> None:
    for number in range(4):
        await connect(service, stack, "presence", f"uuid=m{number}", f"user={LONG_NAME}")
    refused = await connect(service, stack, "presence", "uuid=more", f"user={LONG_NAME}")
    assert (await refused.ending())[1] == 4004
    shown = await watcher.wait_for("refusal", code=4004)
    assert shown["sentence"] == "Channel has too many members"


async def test_publishes_that_are_too_large_or_over_the_quota_of_a_day(service: Service, watcher: Watcher) -> None:
    shop = service.tenants.shop
    key, secret = service.shell(ISSUE.format(key=shop.key)).split()
    async with service.server.http_client() as http:

        async def publish(message: str) -> int:
            body = {"key": key, "secret": secret, "channelId": "room", "message": message}
            return (await http.post("/api/publish", json=body)).status_code

        assert await publish("x" * 200) == 413
        shown = await watcher.wait_for("refusal", code=413)
        assert shown["sentence"] == "Message too large"
        assert [await publish("x"), await publish("x")] == [200, 429]
        shown = await watcher.wait_for("refusal", code=429)
        assert shown["sentence"] == "Message quota used up"
