"""A message that a person sends from the console counts and arrives as one that a server publishes."""

import html
import re
from collections.abc import Callable

import httpx
import pytest

from tests.clients import channel_path, open_client, until
from tests.console.browsing import Service
from tests.console.conftest import add_tenants
from tests.servers import LiveServer, Redis


def browser_of(service: Service, role: str, server: LiveServer) -> httpx.AsyncClient:
    """Return a client in which the person of a role is logged in."""
    return server.http_client(
        f"/console/{service.tenants.shop.account}/",
        cookies={"sessionid": service.sessions[role]},
        follow_redirects=True,
    )


async def send(client: httpx.AsyncClient, message: str) -> str:
    """Send a message in the first steps, and return the page that follows."""
    form = (await client.get("start/")).text
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
    assert token
    answer = await client.post("start/send/", data={"message": message, "csrfmiddlewaretoken": token[1]})
    assert answer.status_code == 200
    return html.unescape(answer.text)


MESSAGES_TODAY = (
    "from accounts.models import DailyUsage; "
    "print(sum(DailyUsage.objects.filter(account_pk={}).values_list('messages', flat=True)))"
)


async def test_it_counts_against_the_quota_of_the_account(service: Service) -> None:
    account = service.tenants.shop.account
    service.shell(
        "from accounts import services; from accounts.models import Account; "
        f"services.set_quotas(Account.objects.get(pk={account}), max_messages_per_day=2, max_message_bytes=20)"
    )
    async with browser_of(service, "developer", service.server) as client:
        assert "The message is larger than 20 bytes" in await send(client, "x" * 21)
        assert "Sent, but no connection is open" in await send(client, "first")
        assert "Sent, but no connection is open" in await send(client, "second")
        assert "used up its quota of messages per day (UTC); nothing was sent." in await send(client, "third")
        tenant = service.tenants.shop
        body = {"key": tenant.public_key, "secret": tenant.secret, "channelId": "hello", "message": "fourth"}
        assert (await client.post(service.url("/api/publish"), json=body)).status_code == 429
    await until(lambda: service.shell(MESSAGES_TODAY.format(account)).strip() == "2", seconds=30)


async def test_a_cluster_that_is_off_sends_nothing(service: Service) -> None:
    service.shell(
        "from accounts import services; from accounts.models import Cluster; "
        "services.update_cluster(Cluster.objects.get(cluster_id='shop'), enabled=False)"
    )
    async with browser_of(service, "owner", service.server) as client:
        assert "The cluster is" in await send(client, "Hello!")


@pytest.fixture
def pair(
    start: Callable[..., LiveServer], tmp_path_factory: pytest.TempPathFactory
) -> tuple[LiveServer, LiveServer, Redis]:
    """Two nodes that share a Redis and a database."""
    redis = Redis(tmp_path_factory.mktemp("redis"))
    redis.start()
    first = start("serve", REDIS_URL=redis.url)
    second = start("serve", REDIS_URL=redis.url, DATABASE_URL=f"sqlite:///{first.directory}/db.sqlite3")
    return first, second, redis


async def test_it_reaches_connections_on_every_node_and_the_numbers_are_those_of_all(
    pair: tuple[LiveServer, LiveServer, Redis],
) -> None:
    first, second, redis = pair
    try:
        with add_tenants(first) as service:
            path = channel_path("hello", service.tenants.shop.public_key)
            async with (
                open_client(first, path) as here,
                open_client(second, path) as there,
                browser_of(service, "owner", first) as client,
            ):
                assert "Sent to 2 connections." in await send(client, "Hello, both!")
                assert await here.receive() == await there.receive() == "Hello, both!"
                assert "This closes <strong>2 connections</strong>." in (await client.get("clusters/shop/off/")).text
                await client.get("clusters/shop/")
                redis.stop()
                shown = (await client.get("clusters/shop/")).text
                assert re.search(r"The connections cannot be counted now\. Last count: 2, at \d\d:\d\d UTC\.", shown)
    finally:
        for server in (first, second):
            server.stop()
        if redis.process.poll() is None:
            redis.stop()
