"""PieSocket v4: publishing to its channels and asking for their members over HTTP."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.sockets.cluster_api import SUCCESS, Publish, sentence
from tests.sockets.v4 import V4Client

OpenV4 = Callable[..., Awaitable[V4Client]]
PUBLISH, MEMBERS = "/api/v4/publish", "/api/v4/members"


@pytest.mark.parametrize(
    ("message", "received"),
    [
        ({"event": "x", "data": [1]}, {"event": "x", "data": [1]}),
        ('{"event":"x","data":1}', {"event": "x", "data": 1}),
        ({"event": "system::note", "system::channel": "other"}, {"event": "system::note"}),
        ("text", "text"),
        ([1], [1]),
    ],
)
async def test_a_message_reaches_all_connections_of_the_channel(
    v4: OpenV4, channel: str, publish: Publish, message: Any, received: Any
) -> None:
    (first, second), other = [await v4(channel) for _ in "ab"], f"{channel}-b"
    await first.subscribe(other)
    for name in (channel, other):
        assert await publish(name, message, PUBLISH) == SUCCESS
    assert await first.receive() == await second.receive() == received
    assert await first.receive(other if isinstance(received, dict) else None) == received


async def test_the_room_id_and_numbers_and_namespaces_name_channels(v4: OpenV4, channel: str, publish: Publish) -> None:
    for name in ("1998", f"{channel}/1"):
        client = await v4(name)
        identifier = int(name) if name.isdigit() else name
        assert await publish(..., {"event": "x"}, PUBLISH, roomId=identifier) == SUCCESS
        assert await client.receive() == {"event": "x"}


async def test_each_version_publishes_to_its_own_channels(
    v4: OpenV4, connect: Callable[..., Any], channel: str, publish: Publish
) -> None:
    new, old = await v4(channel, presence=1), await connect(channel)
    await new.receive()
    assert await publish(channel, "x", "/api/publish") == SUCCESS
    assert await old.receive() == "x"
    assert await publish(channel, {"event": "y"}, PUBLISH) == SUCCESS
    assert await new.receive() == {"event": "y"}
    assert await publish(channel, ..., "/api/members") == (200, '{"members":[],"count":0}')
    await new.settle()
    await old.settle()


async def test_members_are_those_with_presence(v4: OpenV4, channel: str, publish: Publish) -> None:
    client = await v4(channel, member="a", presence=1, user="Ann")
    await client.receive()
    await v4(channel)
    expected = '{"members":[{"uuid":"a","user":"Ann"}],"count":1}'
    assert await publish(channel, ..., MEMBERS) == (200, expected)


async def test_connections_are_counted_with_all_others_but_not_listed_as_channels_of_v3(
    v4: OpenV4, channel: str, http: httpx.AsyncClient, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    credentials = {"key": keys["other"], "secret": secrets["other"]}
    client = await v4(channel, key="other")
    await client.subscribe(f"{channel}-b")
    await client.settle()
    assert (await http.get("/api/connections/sum", headers=credentials)).json() == {"connections": 1}
    assert (await http.get("/api/connections", headers=credentials)).json() == {"channels": []}


@pytest.mark.parametrize(
    ("path", "changed", "status"),
    [
        (PUBLISH, {"message": None}, 400),
        (PUBLISH, {"message": ...}, 400),
        (PUBLISH, {"channelId": "a b"}, 400),
        (PUBLISH, {"channelId": ...}, 400),
        (PUBLISH, {"secret": "wrong"}, 401),
        (PUBLISH, {"key": ..., "secret": ...}, 400),
        (PUBLISH, {"message": "x" * (1024 * 1024 + 1)}, 413),
        (PUBLISH, {"message": "é" * (1024 * 512 + 1)}, 413),
        (MEMBERS, {"channelId": "a b"}, 400),
        (MEMBERS, {"secret": "wrong"}, 401),
    ],
)
async def test_a_request_that_is_not_valid_gets_a_sentence(
    publish: Publish, channel: str, path: str, changed: Any, status: int
) -> None:
    body = {"channel": channel, "message": "x", **changed}
    body["channel"] = body.pop("channelId", channel)
    assert sentence(await publish(path=path, **body))[0] == status


async def test_the_largest_message_is_delivered(v4: OpenV4, channel: str, publish: Publish) -> None:
    client = await v4(channel)
    assert await publish(channel, "x" * (1024 * 1024), PUBLISH) == SUCCESS
    assert len(await client.receive()) == 1024 * 1024


@pytest.mark.parametrize(("path", "status"), [("/v4/", 404), ("/v4", 404), ("/v4/room", 426), ("/api/v4/publish", 405)])
async def test_a_plain_request_is_told_what_to_do(http: httpx.AsyncClient, path: str, status: int) -> None:
    answer = await http.get(path)
    assert answer.status_code == status
    assert answer.json()["error"]
