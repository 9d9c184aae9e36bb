"""Pusher's protocol: how a connection begins, stays alive and ends."""

import json
import re
from collections.abc import Awaitable, Callable

import pytest

from tests.clients import open_client
from tests.servers import LiveServer
from tests.sockets.pusher import PusherClient

OpenPusher = Callable[..., Awaitable[PusherClient]]


async def test_the_first_frame_names_the_connection_and_the_time_until_pings(pusher: OpenPusher) -> None:
    first, second = await pusher(), await pusher()
    assert first.hello["event"] == "pusher:connection_established"
    assert json.loads(first.hello["data"]) == {"socket_id": first.socket_id, "activity_timeout": 120}
    assert re.fullmatch(r"\d+\.\d+", first.socket_id)
    assert first.socket_id != second.socket_id


async def test_a_ping_gets_a_pong_and_a_pong_gets_nothing(pusher: OpenPusher) -> None:
    client = await pusher()
    await client.send("pusher:pong", {})
    await client.settle()


@pytest.mark.parametrize(
    "path", ["/app/{}?protocol=4", "/app/{}?protocol=5", "/prefix/app/{}?protocol=7", "/app/{}/?protocol=6"]
)
async def test_versions_4_to_7_are_served_and_clients_may_put_a_prefix_before_the_path(
    server: LiveServer, keys: dict[str, str], path: str
) -> None:
    async with open_client(server, path.format(keys["demo"])) as client:
        assert "pusher:connection_established" in str(await client.receive())


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/app/unknown?protocol=7", 4001),
        ("/app/{}", 4008),
        ("/app/{}?protocol=", 4008),
        ("/app/{}?protocol=seven", 4006),
        ("/app/{}?protocol=3", 4007),
        ("/app/{}?protocol=8", 4007),
        ("/app/{}?protocol=70", 4007),
        ("/app/?protocol=7", 4005),
    ],
)
async def test_a_refused_client_gets_an_error_with_the_code_of_the_close(
    server: LiveServer, keys: dict[str, str], path: str, code: int
) -> None:
    async with open_client(server, path.format(keys["demo"])) as client:
        frames, closed_with = await client.ending()
    (error,) = map(json.loads, frames)
    assert error["event"] == "pusher:error"
    assert error["data"]["code"] == closed_with == code
    assert error["data"]["message"]


@pytest.mark.parametrize("frame", ["", "x", "[]", "7", '{"event":7}', '{"event":"x"', b"{}", "{}", '{"event":"news"}'])
async def test_a_frame_that_means_nothing_gets_an_error_and_the_connection_stays_open(
    pusher: OpenPusher, frame: str | bytes
) -> None:
    client = await pusher()
    await client.client.send(frame)
    error = await client.receive()
    assert (error["event"], error["data"]["code"]) == ("pusher:error", None)
    await client.settle()


async def test_pusher_and_piesocket_have_channels_of_their_own(
    server: LiveServer, keys: dict[str, str], pusher: OpenPusher
) -> None:
    client = await pusher()
    await client.join("room")
    async with open_client(server, f"/v3/room?api_key={keys['demo']}") as other:
        assert await other.count() == 1
        await other.send('{"event":"client-x","channel":"room","data":1}')
        await other.settle()
    await client.settle()
