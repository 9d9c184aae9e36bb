"""Quotas: what happens when one is used up, and when it is changed."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from realtime.protocols import closes
from realtime.protocols.frames import system_message
from realtime.sessions import base
from tests.clients import Client
from tests.conftest import SERVERS, Connect
from tests.proxies import Balanced
from tests.servers import LiveServer
from tests.sockets.test_refusals import error

MAKE_OPERATOR = """
from django.contrib.auth import get_user_model
from accounts import services
from accounts.models import Account
operator = get_user_model().objects.create_superuser("operator@example.com", password="operator-password")
services.add_member(Account.objects.get(clusters__cluster_id="demo"), operator, role="owner")
"""
TOO_OFTEN, USED_UP = (system_message({"error": notice.sentence}).data for notice in (base.TOO_OFTEN, base.USED_UP))
Issue = Callable[..., Awaitable[tuple[str, str]]]


@pytest.fixture(scope="module", params=[kind for kind in SERVERS if kind in ("serve", "uvicorn", "balanced")])
def server(request: pytest.FixtureRequest, start: Callable[..., LiveServer]) -> LiveServer:
    server = request.getfixturevalue("balanced") if request.param == "balanced" else start(request.param)
    server.shell(MAKE_OPERATOR)
    return server


@pytest.fixture(scope="module")
def token(server: LiveServer) -> str:
    return server.token("operator@example.com")


@pytest.fixture
async def operator(server: LiveServer, token: str) -> AsyncIterator[httpx.AsyncClient]:
    """An operator of the service, as a client of its REST API."""
    async with server.http_client(headers={"Authorization": f"Token {token}"}) as client:
        yield client


@pytest.fixture
async def account(operator: httpx.AsyncClient, channel: str) -> dict[str, Any]:
    """An account for one test, with a cluster that has the same name as the channel."""
    account = (await operator.post("/api/v1/accounts/", json={"name": "Acme"})).json()
    await operator.post("/api/v1/clusters/", json={"account": account["id"], "cluster_id": channel})
    return dict(account)


@pytest.fixture
def issue(operator: httpx.AsyncClient, account: dict[str, Any], channel: str) -> Issue:
    """A function that issues a key with quotas in that cluster and returns the public key and the secret."""

    async def issue_key(**quotas: int) -> tuple[str, str]:
        key = {"cluster": channel, "label": "x", **quotas}
        issued = (await operator.post("/api/v1/keys/", json=key)).json()
        return issued["public_key"], issued["secret"]

    return issue_key


async def change(operator: httpx.AsyncClient, path: str, **quotas: int | None) -> None:
    answer = await operator.patch(f"/api/v1/{path}/", json=quotas)
    assert answer.status_code == 200, answer.text
    await asyncio.sleep(1)  # time for the change to reach every open connection


async def test_connections_over_the_quota_of_the_key_are_refused_with_4004(
    connect: Connect, channel: str, issue: Issue
) -> None:
    key, _ = await issue(max_connections=2)
    one, two = await connect(channel, key=key), await connect(f"{channel}-2", key=key)
    refused = await connect(channel, key=key)
    assert await refused.ending() == ([error(closes.QUOTA_USED_UP)], 4004)
    assert await one.count() == 1
    await two.socket.close()
    await (await connect(channel, key=key)).settle()


async def test_the_keys_of_an_account_share_its_connection_quota(
    connect: Connect, channel: str, issue: Issue, operator: httpx.AsyncClient, account: dict[str, Any]
) -> None:
    (first, _), (second, _) = await issue(), await issue()
    await change(operator, f"accounts/{account['id']}", max_connections=2)
    kept = [await connect(channel, key=first), await connect(channel, key=second)]
    assert (await (await connect(channel, key=second)).ending())[1] == 4004
    used = (await operator.get(f"/api/v1/accounts/{account['id']}/")).json()["usage"]
    assert used == {"connections": 2, "messages_today": 0}
    assert (await operator.get(f"/api/v1/keys/{first}/")).json()["usage"] == {"connections": 1}
    await change(operator, f"accounts/{account['id']}", max_connections=1)
    for client in kept:
        await client.settle()


async def test_of_a_hundred_simultaneous_clients_no_more_are_accepted_than_the_quota_allows(
    connect: Connect, channel: str, issue: Issue
) -> None:
    key, _ = await issue(max_connections=30)
    clients = await asyncio.gather(*(connect(channel, key=key) for _ in range(100)))
    for client in clients:
        with contextlib.suppress(ConnectionClosed):
            await client.send("cmd_ping")
    answers = [await client.receive() for client in clients]
    assert Counter(answers) == {'{"system":"pong"}': 30, error(closes.QUOTA_USED_UP): 70}


async def test_a_message_over_the_size_quota_of_the_key_is_refused_with_1009_and_over_rest_with_413(
    connect: Connect, channel: str, issue: Issue, operator: httpx.AsyncClient
) -> None:
    key, secret = await issue(max_message_bytes=1000)
    sender, receiver = await connect(channel, key=key), await connect(channel, key=key)
    await sender.send("x" * 1000)
    assert await receiver.receive() == "x" * 1000
    await sender.send("x" * 1001)
    assert await sender.ending() == ([error(closes.TOO_BIG)], 1009)
    body = {"key": key, "secret": secret, "channelId": channel, "message": "x" * 1001}
    assert (await operator.post("/api/publish", json=body)).status_code == 413
    await receiver.settle()
    await change(operator, f"keys/{key}", max_message_bytes=None)
    await receiver.send("x" * 2000)
    await receiver.settle()


async def test_messages_over_the_rate_limit_are_dropped_and_the_sender_is_notified(
    connect: Connect, channel: str, issue: Issue
) -> None:
    key, _ = await issue(max_messages_per_second=20)
    sender, receiver = await connect(channel, key=key), await connect(channel, key=key)
    for number in range(40):
        await sender.send(str(number))
    await asyncio.sleep(1)
    notices, distributed = await received_before_pong(sender), await received_before_pong(receiver)
    assert distributed[:20] == [str(number) for number in range(20)]
    assert set(notices) == {TOO_OFTEN}
    assert len(notices) + len(distributed) == 40
    await sender.send("later")
    assert await receiver.receive() == "later"


async def received_before_pong(client: Client) -> list[str | bytes]:
    await client.send("cmd_ping")
    received: list[str | bytes] = []
    while (message := await client.receive()) != '{"system":"pong"}':
        received.append(message)
    return received


async def test_a_sender_far_above_the_rate_limit_is_disconnected_with_4301(
    connect: Connect, channel: str, issue: Issue
) -> None:
    key, _ = await issue(max_messages_per_second=5)
    sender, receiver = await connect(channel, key=key), await connect(channel, key=key)
    for number in range(100):
        await sender.send(str(number))
    frames, code = await sender.ending()
    assert code == 4301
    assert frames[-1] == error(closes.TOO_FAST)
    assert frames[:-1] == [TOO_OFTEN] * (len(frames) - 1)
    assert [await receiver.receive() for _ in range(5)] == [str(number) for number in range(5)]


async def test_a_message_in_fragments_counts_as_one(connect: Connect, channel: str, issue: Issue) -> None:
    """Chromium sends messages over 131,000 bytes in fragments; other clients may choose smaller ones."""
    key, _ = await issue(max_messages_per_second=5)
    sender, receiver = await connect(channel, key=key), await connect(channel, key=key)
    for size, count in ((131_072, 7), (100, 500)):
        for _ in range(2):
            await sender.socket.send(["x" * size] * count)
            assert await receiver.receive() == "x" * size * count


async def test_a_flood_of_tiny_fragments_is_disconnected_with_4301(
    server: LiveServer, connect: Connect, channel: str, issue: Issue
) -> None:
    if server.kind == "uvicorn":
        pytest.skip("Uvicorn does not pass on fragments.")
    key, _ = await issue(max_messages_per_second=5)
    sender = await connect(channel, key=key)

    async def fragments() -> AsyncIterator[str]:
        for _ in range(20_000):
            yield "x"

    with contextlib.suppress(ConnectionClosed):
        await sender.socket.send(fragments())
    assert await sender.ending() == ([error(closes.TOO_FAST)], 4301)


async def test_clients_of_an_account_over_its_daily_quota_get_an_error_and_stay_connected(
    server: LiveServer,
    connect: Connect,
    channel: str,
    issue: Issue,
    operator: httpx.AsyncClient,
    account: dict[str, Any],
) -> None:
    if isinstance(server, Balanced):
        pytest.skip("A node does not know how many messages the other nodes accepted in the last seconds.")
    (key, secret), (other, _) = await issue(), await issue()
    await change(operator, f"accounts/{account['id']}", max_messages_per_day=5)
    sender, receiver = await connect(channel, key=key), await connect(channel, key=other)
    body = {"key": key, "secret": secret, "channelId": channel}
    assert (await operator.post("/api/publish", json={**body, "message": "0"})).status_code == 200
    assert [await sender.receive(), await receiver.receive()] == ["0", "0"]
    for number in range(1, 5):
        await sender.send(str(number))
    assert [await receiver.receive() for _ in range(4)] == ["1", "2", "3", "4"]
    assert await sender.ask("one too many") == USED_UP
    assert await receiver.ask("from another key") == USED_UP
    refused = await operator.post("/api/publish", json={**body, "message": "x"})
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 86400
    assert "quota" in refused.json()["error"]
    await receiver.settle()
    await change(operator, f"accounts/{account['id']}", max_messages_per_day=6)
    await sender.send("allowed")
    assert await receiver.receive() == "allowed"


async def test_a_batch_over_the_daily_quota_is_rejected_as_a_whole(
    connect: Connect, channel: str, issue: Issue, operator: httpx.AsyncClient, account: dict[str, Any]
) -> None:
    key, secret = await issue()
    await change(operator, f"accounts/{account['id']}", max_messages_per_day=5)
    client = await connect(channel, key=key)

    async def publish(count: int) -> int:
        messages = [{"channelId": channel, "message": "x"}] * count
        answer = await operator.post("/api/publish/batch", json={"key": key, "secret": secret, "messages": messages})
        return answer.status_code

    assert await publish(6) == 429
    await client.settle()
    assert await publish(5) == 200
    assert [await client.receive() for _ in range(5)] == ["x"] * 5


async def test_sent_messages_are_recorded_and_reported(
    connect: Connect, channel: str, issue: Issue, operator: httpx.AsyncClient, account: dict[str, Any]
) -> None:
    key, secret = await issue()
    sender, receiver = await connect(channel, key=key), await connect(channel, key=key)
    for number in range(20):
        await sender.send(str(number))
        await receiver.receive()
    messages = [{"channelId": channel, "message": "x"}] * 30
    await operator.post("/api/publish/batch", json={"key": key, "secret": secret, "messages": messages})
    assert [await client.receive() for client in (sender, receiver) for _ in messages] == ["x"] * 60
    async with asyncio.timeout(15):
        while await sent_today(operator, account) != 50:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def sent_today(operator: httpx.AsyncClient, account: dict[str, Any]) -> int:
    return int((await operator.get(f"/api/v1/accounts/{account['id']}/")).json()["usage"]["messages_today"])


async def test_a_key_cannot_have_a_higher_quota_than_its_account(
    operator: httpx.AsyncClient, account: dict[str, Any], channel: str
) -> None:
    await change(operator, f"accounts/{account['id']}", max_connections=10)
    wanted = {"cluster": channel, "label": "x", "max_connections": 11}
    refused = await operator.post("/api/v1/keys/", json=wanted)
    assert refused.status_code == 400
    assert json.loads(refused.text) == {
        "max_connections": ["A key cannot exceed the quota of its account, which is 10."]
    }
