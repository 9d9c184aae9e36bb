"""Pusher's protocol on one node and on two: what subscribers get of servers and of others, and how they are closed."""

import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from tests.servers import LiveServer
from tests.sockets.pusher import PusherClient, channel_name, open_pusher
from tests.sockets.pusher_api import PusherServer

OpenOn = Callable[[int], Awaitable[PusherClient]]


@pytest.fixture
async def at(places: list[LiveServer], keys: dict[str, str], secrets: dict[str, str]) -> AsyncIterator[OpenOn]:
    async with AsyncExitStack() as stack:

        async def connect(place: int) -> PusherClient:
            return await stack.enter_async_context(open_pusher(places[place], keys["demo"], secrets["demo"]))

        yield connect


@pytest.fixture
async def server_at(
    places: list[LiveServer], app_id: str, keys: dict[str, str], secrets: dict[str, str]
) -> AsyncIterator[Callable[[int], PusherServer]]:
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=place.url("", scheme="http"), trust_env=False))
            for place in places
        ]
        yield lambda place: PusherServer(clients[place], app_id, keys["demo"], secrets["demo"])


async def publish(server: PusherServer, channel: str, data: Any, **more: Any) -> None:
    body = json.dumps({"name": "news", "channels": [channel], "data": json.dumps(data), **more}).encode()
    assert await server.ask("POST", "/events", body) == (200, {})


def news(channel: str, data: Any) -> dict[str, Any]:
    return {"event": "news", "channel": channel, "data": json.dumps(data)}


async def test_an_event_of_a_server_reaches_all_subscribers_but_the_excluded_one(
    at: OpenOn, server_at: Callable[[int], PusherServer]
) -> None:
    clients, channel = [await at(place) for place in (0, 1)], channel_name()
    for client in clients:
        await client.join(channel)
    await publish(server_at(0), channel, 1)
    for client in clients:
        assert await client.receive() == news(channel, 1)
    for excluded, other in (clients, clients[::-1]):
        await publish(server_at(0), channel, 2, socket_id=excluded.socket_id)
        assert await other.receive() == news(channel, 2)
        await excluded.settle()


async def test_client_events_and_presence_cross_nodes(at: OpenOn) -> None:
    (ann, bob), channel = [await at(place) for place in (0, 1)], channel_name("presence-")
    await ann.join(channel, {"user_id": "ann"})
    assert (await bob.join(channel, {"user_id": "bob"}))["presence"]["ids"] == ["ann", "bob"]
    assert (await ann.receive())["event"] == "pusher_internal:member_added"
    await bob.send("client-x", 1, channel)
    assert await ann.receive() == {"event": "client-x", "channel": channel, "data": "1", "user_id": "bob"}
    await bob.client.socket.close()
    assert (await ann.receive())["event"] == "pusher_internal:member_removed"


@pytest.mark.parametrize("kind", ["cache-", "private-cache-", "private-encrypted-cache-", "presence-cache-"])
async def test_subscribers_of_cache_channels_get_the_last_event_of_servers(
    at: OpenOn, server_at: Callable[[int], PusherServer], kind: str
) -> None:
    (first, second), channel, user = [await at(place) for place in (0, 1)], channel_name(kind), {"user_id": "1"}
    await first.join(channel, user)
    assert await first.receive() == {"event": "pusher:cache_miss", "channel": channel, "data": "{}"}
    for number in (1, 2):
        await publish(server_at(0), channel, number)
        assert await first.receive() == news(channel, number)
    if kind in ("private-cache-", "presence-cache-"):
        await first.send("client-x", 3, channel)  # events of clients are not kept
        await first.settle()
    await second.join(channel, user)
    assert await second.receive() == news(channel, 2)
    status, shown = await server_at(1).ask("GET", f"/channels/{channel}", info="cache")
    assert (status, shown["cache"]["data"]) == (200, "2")
    assert 1700 < shown["cache"]["ttl"] <= 1800


async def test_a_server_closes_the_connections_of_a_user_on_all_nodes(
    at: OpenOn, server_at: Callable[[int], PusherServer]
) -> None:
    clients = [await at(place) for place in (0, 1, 0)]
    for client, user in zip(clients, ("gone", "gone", "other"), strict=True):
        await client.sign_in({"id": user})
        await client.receive()
    assert await server_at(0).ask("POST", "/users/gone/terminate_connections", b"{}") == (200, {})
    for client in clients[:2]:
        frames, code = await client.client.ending()
        assert (json.loads(frames[-1])["data"]["code"], code) == (4009, 4009)
    await clients[2].settle()


async def test_occupied_channels_and_their_users_are_listed(
    at: OpenOn, server_at: Callable[[int], PusherServer]
) -> None:
    clients, channel = [await at(place) for place in (0, 1)], channel_name("presence-")
    for client, user in zip(clients, ("1", "2"), strict=True):
        await client.join(channel, {"user_id": user})
    await clients[0].receive()
    listed = await server_at(0).ask("GET", "/channels", filter_by_prefix=channel, info="user_count")
    assert listed == (200, {"channels": {channel: {"user_count": 2}}})
    users = await server_at(1).ask("GET", f"/channels/{channel}/users")
    assert users == (200, {"users": [{"id": "1"}, {"id": "2"}]})


async def test_a_stopping_node_asks_its_clients_to_reconnect_at_once(
    start: Callable[..., LiveServer], keys: dict[str, str], secrets: dict[str, str]
) -> None:
    server = start("serve", DRAIN_SECONDS="0")
    async with open_pusher(server, keys["demo"], secrets["demo"]) as client:
        server.process.send_signal(signal.SIGTERM)
        frames, code = await client.client.ending()
    assert (json.loads(frames[-1])["data"]["code"], code) == (4200, 4200)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("services.revoke_key(key)", 4001),
        ("services.rotate_secret(key)", 4200),
        ("services.update_key(key, protects_channels=True)", 4200),
    ],
)
async def test_a_change_of_access_ends_the_connections_that_it_concerns(
    own_server: LiveServer, keys: dict[str, str], secrets: dict[str, str], change: str, code: int
) -> None:
    async with open_pusher(own_server, keys["demo"], secrets["demo"]) as client:
        await client.join(channel_name("private-"))
        await client.join(channel_name())
        own_server.shell(
            "from accounts import services; from accounts.models import ApiKey\n"
            f"key = ApiKey.objects.get(public_key='{keys['demo']}')\n{change}",
        )
        frames, closed_with = await client.client.ending(40)
    assert (json.loads(frames[-1])["data"]["code"], closed_with) == (code, code)


async def test_a_request_that_is_repeated_at_another_node_is_not_performed_again(
    at: OpenOn, server_at: Callable[[int], PusherServer]
) -> None:
    channel, client = channel_name(), await at(0)
    await client.join(channel)
    await publish(server_at(0), channel, 1, idempotency_key=channel)
    await publish(server_at(1), channel, 2, idempotency_key=channel)
    await publish(server_at(1), channel, 3)
    assert [await client.receive() for _ in range(2)] == [news(channel, 1), news(channel, 3)]
