"""The Cluster API, over HTTP, with WebSocket clients that receive what it publishes."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from tests.conftest import Connect
from tests.sockets.cluster_api import SUCCESS, Publish, sentence


@pytest.mark.parametrize(
    ("message", "delivered"),
    [
        ("text", "text"),
        ("", ""),
        ("cmd_ping", "cmd_ping"),
        (' {"a": 1} ', ' {"a": 1} '),
        ({"event": "new-message", "data": {"text": "hé 😀"}}, '{"event":"new-message","data":{"text":"hé 😀"}}'),
        ({"event": "system:portal", "data": None}, '{"event":"system:portal","data":null}'),
        ([1, 2.5, True], "[1,2.5,true]"),
        (0, "0"),
        (None, "null"),
        ("x" * 300_000, "x" * 300_000),
    ],
)
async def test_a_message_reaches_every_connection_of_the_channel(
    publish: Publish, connect: Connect, channel: str, message: Any, delivered: str
) -> None:
    clients = [await connect(channel), await connect(channel, key="second"), await connect(channel, "presence=0")]
    elsewhere = [await connect(channel, key="other"), await connect(f"{channel}x"), await connect(f"1/{channel}")]
    assert await publish(channel, message) == SUCCESS
    assert [await client.receive() for client in clients] == [delivered] * 3
    for client in elsewhere:
        await client.settle()


async def test_room_id_is_an_alias_and_a_channel_may_be_a_number(publish: Publish, connect: Connect) -> None:
    client = await connect("1998")
    assert await publish(1998, "a") == SUCCESS
    assert await publish(..., "b", roomId="1998") == SUCCESS
    assert await publish("1998", "c", roomId="ignored", anything={"else": []}) == SUCCESS
    assert await publish("1998", "d", path="/api/publish?src=piesocket-nodejs&v=3&key=x") == SUCCESS
    assert await publish("1998", "e", path="/api/publish/") == SUCCESS
    assert [await client.receive() for _ in "abcde"] == list("abcde")


async def test_a_channel_in_a_namespace_is_addressed_by_its_path(
    publish: Publish, connect: Connect, channel: str
) -> None:
    client = await connect(f"1/{channel}")
    assert await publish(f"1/{channel}", "a") == SUCCESS
    assert await client.receive() == "a"


async def test_key_and_secret_may_be_headers(
    http: httpx.AsyncClient, connect: Connect, channel: str, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    client = await connect(channel)
    headers = {"key": keys["demo"], "secret": secrets["demo"]}
    answer = await http.post("/api/publish", json={"channelId": channel, "message": "a"}, headers=headers)
    assert (answer.status_code, answer.text) == SUCCESS
    assert await client.receive() == "a"


async def test_servers_can_publish_to_private_channels_and_with_keys_whose_clients_may_not_send(
    publish: Publish, connect: Connect, channel: str, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    silent = await connect(channel, key="silent")
    assert await publish(channel, "a", key=keys["silent"], secret=secrets["silent"]) == SUCCESS
    assert await silent.receive() == "a"
    assert await publish(f"private-{channel}", "a") == SUCCESS


async def test_publishing_to_an_empty_channel_succeeds(publish: Publish, channel: str) -> None:
    assert await publish(channel, "a") == SUCCESS


async def test_messages_from_one_publisher_arrive_complete_and_in_order(
    publish: Publish, connect: Connect, channel: str
) -> None:
    clients = [await connect(channel) for _ in range(3)]
    for number in range(200):
        assert await publish(channel, number) == SUCCESS
    for client in clients:
        assert [await client.receive() for _ in range(200)] == [str(number) for number in range(200)]


async def test_other_methods_get_405(http: httpx.AsyncClient) -> None:
    for method, path, allowed in (("GET", "/api/publish", "POST"), ("POST", "/api/connections", "GET")):
        answer = await http.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert answer.json() == {"error": f"Use {allowed} here."}


async def test_a_batch_is_delivered_in_order_to_its_channels(publish: Publish, connect: Connect, channel: str) -> None:
    one, two = await connect(channel), await connect(f"{channel}-2")
    messages = [{"channelId": (channel, f"{channel}-2")[number % 2], "message": number} for number in range(1000)]
    assert await publish(..., ..., "/api/publish/batch", messages=messages) == SUCCESS
    assert [await one.receive() for _ in range(500)] == [str(number) for number in range(0, 1000, 2)]
    assert [await two.receive() for _ in range(500)] == [str(number) for number in range(1, 1000, 2)]


@pytest.mark.parametrize(
    ("bad", "status", "beginning"),
    [
        ({"channelId": "a b", "message": "a"}, 400, "messages[1]: The channelId"),
        ({"message": "a"}, 400, "messages[1]: Send channelId"),
        ({"channelId": "a", "message": "x" * 2**20 + "x"}, 413, "messages[1]: The message is larger"),
        ("text", 400, "messages[1]: "),
    ],
)
async def test_a_batch_with_one_bad_message_is_rejected_as_a_whole(
    publish: Publish, connect: Connect, channel: str, bad: Any, status: int, beginning: str
) -> None:
    client = await connect(channel)
    messages = [{"channelId": channel, "message": "good"}, bad]
    found = sentence(await publish(..., ..., "/api/publish/batch", messages=messages))
    assert found[0] == status
    assert found[1].startswith(beginning)
    await client.settle()


@pytest.mark.parametrize("messages", [..., None, [], {}, "x", [{"channelId": "1", "message": 1}] * 1001])
async def test_a_batch_must_have_1_to_1000_messages(publish: Publish, messages: Any) -> None:
    found = sentence(await publish(..., ..., "/api/publish/batch", messages=messages))
    assert found == (400, "Send 1 to 1000 messages, as a list.")


async def test_the_connections_in_the_cluster_of_the_key_are_listed_and_summed(
    http: httpx.AsyncClient, connect: Connect, channel: str, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    headers = {"key": keys["second"], "secret": secrets["second"]}
    clients = [await connect(name) for name in (channel, channel, f"1/{channel}", f"presence-{channel}")]
    await connect(channel, key="other")
    listed = (await http.get("/api/connections", headers=headers)).json()["channels"]
    of_this_test = {entry["channel"]: entry["connections"] for entry in listed if channel in entry["channel"]}
    assert of_this_test == {channel: 2, f"1/{channel}": 1, f"presence-{channel}": 1}
    total = (await http.get("/api/connections/sum", headers=headers)).json()
    assert total == {"connections": sum(entry["connections"] for entry in listed)}
    await asyncio.gather(*(client.socket.close() for client in clients))
    deadline = time.monotonic() + 5
    while channel in (body := (await http.get("/api/connections", headers=headers)).text):
        assert time.monotonic() < deadline, body


async def test_the_domains_are_the_allowed_origins_of_the_key(
    http: httpx.AsyncClient, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    answer = await http.get("/api/domains", headers={"key": keys["browser"], "secret": secrets["browser"]})
    assert (answer.status_code, answer.text) == (200, '{"domains":["example.com"]}')
