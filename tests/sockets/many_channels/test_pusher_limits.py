"""Pusher's protocol: who may connect, quotas, shutdown, and what people and metrics learn of it."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.clients import Client, channel_path, open_client
from tests.conftest import SERVERS
from tests.metrics import scrape, until
from tests.servers import LiveServer
from tests.sockets.pusher import PusherClient, channel_name, open_pusher


@pytest.fixture(scope="module", params=[kind for kind in SERVERS if kind in ("serve", "shut", "uvicorn")])
def server(request: pytest.FixtureRequest, start: Callable[..., LiveServer]) -> LiveServer:
    return start(request.param)


@pytest.fixture(scope="module")
def token(server: LiveServer) -> str:
    return server.token("owner@example.com")


@pytest.fixture
async def owner(server: LiveServer, token: str) -> AsyncIterator[httpx.AsyncClient]:
    """The owner of the demo account, as a client of the server's REST API."""
    async with server.http_client("/api/v1/", headers={"Authorization": f"Token {token}"}) as client:
        yield client


async def issue(owner: httpx.AsyncClient, **settings: Any) -> tuple[str, str]:
    """Issue a key; return its public key and its secret."""
    issued = (await owner.post("keys/", json={"cluster": "demo", "label": "x", **settings})).json()
    return issued["public_key"], issued["secret"]


@asynccontextmanager
async def refused(server: LiveServer, key: str, **options: Any) -> AsyncIterator[Client]:
    async with open_client(server, f"/app/{key}?protocol=7", **options) as client:
        yield client


async def code_of(client: Client) -> int:
    """Return the code with which a connection ends, which the error before it must have too."""
    frames, code = await client.ending()
    error = json.loads(frames[-1])
    assert (error["event"], error["data"]["code"]) == ("pusher:error", code)
    assert error["data"]["message"]
    return code


async def test_an_origin_that_the_key_does_not_allow_is_refused_with_4009(
    server: LiveServer, keys: dict[str, str]
) -> None:
    async with refused(server, keys["browser"], origin="https://evil.example") as client:
        assert await code_of(client) == 4009
    for options in ({"origin": "https://example.com"}, {}):
        async with refused(server, keys["browser"], **options) as client:
            assert "connection_established" in str(await client.receive())


async def test_connections_over_the_quota_are_refused_with_4004(server: LiveServer, owner: httpx.AsyncClient) -> None:
    key, secret = await issue(owner, max_connections=2)
    async with open_pusher(server, key, secret) as pusher, open_client(server, channel_path("room", key)):
        async with refused(server, key) as client:
            assert await code_of(client) == 4004
        for _ in range(3):  # subscriptions are no connections
            await pusher.join(channel_name())


async def test_a_revoked_key_closes_its_connections_with_4001_and_no_others(
    server: LiveServer, owner: httpx.AsyncClient, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    key, secret = await issue(owner)
    async with (
        open_pusher(server, key, secret) as concerned,
        open_pusher(server, keys["demo"], secrets["demo"]) as other,
    ):
        channel = channel_name("presence-")
        await other.join(channel, {"user_id": "other"})
        await concerned.join(channel, {"user_id": "concerned"})
        await other.receive()  # member_added
        assert (await owner.delete(f"keys/{key}/")).status_code == 204
        assert await code_of(concerned.client) == 4001
        assert (await other.receive())["event"] == "pusher_internal:member_removed"
        async with refused(server, key) as client:
            assert await code_of(client) == 4001


async def test_a_cluster_that_is_off_closes_and_refuses_with_4003(server: LiveServer, owner: httpx.AsyncClient) -> None:
    account = (await owner.get("accounts/")).json()["results"][0]["id"]
    name = channel_name().replace("_", "-")
    cluster = (await owner.post("clusters/", json={"account": account, "cluster_id": name})).json()
    key, secret = await issue(owner, cluster=name)
    async with open_pusher(server, key, secret) as client:
        await owner.patch(f"clusters/{cluster['id']}/", json={"enabled": False})
        assert await code_of(client.client) == 4003
        async with refused(server, key) as late:
            assert await code_of(late) == 4003


async def test_a_key_that_protects_channels_permits_private_ones_only(
    server: LiveServer, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    async with open_pusher(server, keys["protected"], secrets["protected"]) as client:
        assert (await client.refusal(channel_name()))["type"] == "AuthError"
        assert await client.join(channel_name("private-")) == {}


async def test_a_client_far_above_its_quota_is_closed_with_4100(server: LiveServer, owner: httpx.AsyncClient) -> None:
    key, secret = await issue(owner, max_messages_per_second=5)
    async with open_pusher(server, key, secret) as client:
        channel = channel_name("private-")
        await client.join(channel)
        for number in range(100):
            await client.send("client-x", number, channel)
        assert await code_of(client.client) == 4100


async def test_a_frame_larger_than_the_quota_closes_the_connection(
    server: LiveServer, owner: httpx.AsyncClient
) -> None:
    key, secret = await issue(owner, max_message_bytes=1000)
    async with open_pusher(server, key, secret) as client:
        channel = channel_name("private-")
        await client.join(channel)
        await client.send("client-x", "x" * 2000, channel)
        assert await code_of(client.client) == 1009


async def test_the_refusals_of_an_account_name_the_key_and_the_code_that_the_client_got(
    server: LiveServer, owner: httpx.AsyncClient
) -> None:
    key, secret = await issue(owner, allowed_origins=["example.com"])
    async with refused(server, key, origin="https://evil.example") as client:
        await client.ending()
    async with open_pusher(server, key, secret) as client:
        await client.sign_in({})
        await client.client.ending()
    wanted = {("bad_origin", 4009), ("bad_sign_in", 4009)}
    assert {(row["reason"], row["code"]) for row in await refusals_of(owner, key, 2)} == wanted


async def test_of_a_long_origin_the_beginning_is_kept(server: LiveServer, owner: httpx.AsyncClient) -> None:
    key, _ = await issue(owner)
    origin = f"https://{'x' * 300}.example"
    async with open_client(server, f"/app/{key}?protocol=7", origin=origin) as client:  # type: ignore[arg-type]
        await client.send('{"event":"pusher:signin","data":{}}')
        await client.ending()
    (row,) = await refusals_of(owner, key, 1)
    assert row["origin"] == origin[:200]


async def refusals_of(owner: httpx.AsyncClient, key: str, number: int) -> list[dict[str, Any]]:
    """Wait until some refusals of a key are kept, and return them."""
    account = (await owner.get("accounts/")).json()["results"][0]["id"]
    async with asyncio.timeout(30):
        while True:
            listed = (await owner.get(f"accounts/{account}/refusals/?key={key}")).json()["results"]
            found = [dict(row) for row in listed if row["key"] == key]
            if len(found) == number:
                return found
            await asyncio.sleep(0.2)


async def test_a_conversation_is_counted_exactly(
    start: Callable[..., LiveServer], keys: dict[str, str], secrets: dict[str, str]
) -> None:
    server, channel = start("serve"), channel_name("private-")
    async with AsyncExitStack() as stack:
        opened = [open_pusher(server, keys["demo"], secrets["demo"]) for _ in range(3)]
        clients: list[PusherClient] = [await stack.enter_async_context(each) for each in opened]
        for client in clients:
            await client.join(channel)
        await clients[0].send("client-x", 1, channel)
        for client in clients[1:]:
            await client.receive()
        async with refused(server, "unknown") as client:
            assert await code_of(client) == 4001
        numbers = await until(lambda values: values["closes_total", "4001"] == 1, server)
        assert (numbers["connections"], numbers["connections_opened_total"], numbers["channels"]) == (3, 3, 1)
        assert numbers.some("messages_received_total") == {"client": 1}
        assert numbers["deliveries_total"] == 2
        assert numbers.some("refusals_total") == {"bad_key": 1}
    assert (await until(lambda values: values["connections"] == 0, server))["channels"] == 0
    assert scrape(server).some("messages_refused_total") == {}


async def test_a_stopping_node_closes_its_connections_gradually_with_4200(
    start: Callable[..., LiveServer], keys: dict[str, str], secrets: dict[str, str]
) -> None:
    server = start("serve", DRAIN_SECONDS="2")

    async def closed_at(client: PusherClient) -> float:
        assert await code_of(client.client) == 4200
        return time.monotonic()

    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(open_pusher(server, keys["demo"], secrets["demo"])) for _ in range(200)
        ]
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        closed = sorted([moment - begun for moment in await asyncio.gather(*map(closed_at, clients))])
    assert 1.5 < closed[-1] < 6
    assert closed[99] < closed[-1] - 0.4
