"""Pusher's libraries for servers, unchanged: the packages `pusher` of npm and of PyPI."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.conftest import FOLDER
from tests.servers import LiveServer
from tests.sockets.pusher import PusherClient, channel_name, open_pusher

Call = Callable[..., list[Any]]
Open = Callable[[], Any]

MASTER_KEY = "nxzvbGF+f8FGhk/jOaZvgMle1tqxzF/VfUZLBLhhaH0="


@pytest.fixture
def node(serve: LiveServer, node_modules: Path, app_id: str, keys: dict[str, str], secret: str) -> Call:
    """Call methods of the package of npm; each call is a list of its name and its arguments."""
    options = {
        "appId": app_id,
        "key": keys["demo"],
        "host": "127.0.0.1",
        "port": str(serve.port),
        "useTLS": False,
        "encryptionMasterKeyBase64": MASTER_KEY,
    }

    def call(*calls: list[Any], secret: str = secret) -> list[Any]:
        request = {"options": {**options, "secret": secret}, "calls": calls}
        return _run(["node", "pusher_server.mjs"], request, node_modules)

    return call


@pytest.fixture
def python(serve: LiveServer, app_id: str, keys: dict[str, str], secret: str) -> Call:
    """Call methods of the package of PyPI; each call is a list of its name and its arguments."""
    options = {"app_id": app_id, "key": keys["demo"], "host": "127.0.0.1", "port": serve.port, "ssl": False}

    def call(*calls: list[Any], secret: str = secret) -> list[Any]:
        request = {"options": {**options, "secret": secret}, "calls": calls}
        return _run([sys.executable, "pusher_server.py"], request, FOLDER)

    return call


def _run(command: list[str], request: dict[str, Any], folder: Path) -> list[Any]:
    done = subprocess.run(
        [*command, json.dumps(request)], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


@pytest.fixture
async def pusher(serve: LiveServer, keys: dict[str, str], secret: str) -> AsyncIterator[Open]:
    """Connect as a client of Pusher's protocol."""
    async with AsyncExitStack() as stack:

        async def connect_client() -> PusherClient:
            return await stack.enter_async_context(open_pusher(serve, keys["demo"], secret))

        yield connect_client


class TestNode:
    async def test_events_reach_the_subscribers_but_the_excluded_one(self, node: Call, pusher: Open) -> None:
        channel, excluded, other = channel_name(), await pusher(), await pusher()
        await excluded.join(channel)
        await other.join(channel)
        first, second = node(
            ["trigger", channel, "new", {"thé": 1}, {"socket_id": excluded.socket_id, "info": "subscription_count"}],
            ["triggerBatch", [{"channel": channel, "name": "b", "data": "x", "info": "subscription_count"}]],
        )
        assert first == {"status": 200, "body": {"channels": {channel: {"subscription_count": 2}}}}
        assert second == {"status": 200, "body": {"batch": [{"subscription_count": 2}]}}
        assert await other.receive() == {"event": "new", "channel": channel, "data": '{"thé":1}'}
        assert await other.receive() == await excluded.receive() == {"event": "b", "channel": channel, "data": "x"}

    async def test_events_of_encrypted_channels_arrive_as_they_were_encrypted(self, node: Call, pusher: Open) -> None:
        channel, client = channel_name("private-encrypted-"), await pusher()
        await client.join(channel)
        assert node(["trigger", channel, "new", {"a": 1}]) == [{"status": 200, "body": {}}]
        event = await client.receive()
        assert json.loads(event["data"]).keys() == {"nonce", "ciphertext"}

    async def test_channels_and_users_are_listed(self, node: Call, pusher: Open) -> None:
        channel, client = channel_name("presence-"), await pusher()
        await client.join(channel, {"user_id": "1"})
        answers = node(
            ["get", {"path": "/channels", "params": {"filter_by_prefix": channel, "info": "user_count"}}],
            ["get", {"path": f"/channels/{channel}", "params": {"info": "user_count,subscription_count"}}],
            ["get", {"path": f"/channels/{channel}/users"}],
        )
        assert [answer["body"] for answer in answers] == [
            {"channels": {channel: {"user_count": 1}}},
            {"occupied": True, "user_count": 1, "subscription_count": 1},
            {"users": [{"id": "1"}]},
        ]

    async def test_a_user_gets_events_and_is_disconnected(self, node: Call, pusher: Open) -> None:
        client = await pusher()
        await client.sign_in({"id": "node 1"})
        assert (await client.receive())["event"] == "pusher:signin_success"
        await client.join("#server-to-user-node 1")
        answers = node(["sendToUser", "node 1", "new", 1], ["terminateUserConnections", "node 1"])
        assert answers == [{"status": 200, "body": {}}] * 2
        assert (await client.receive())["event"] == "new"
        assert (await client.client.ending())[1] == 4009

    def test_errors_have_the_status_that_pusher_documents(self, node: Call) -> None:
        (wrong,) = node(["trigger", "a", "new", 1], secret="wrong")
        answers = node(["get", {"path": "/channels/a/users"}], ["trigger", "a", "pusher:new", 1])
        assert [wrong["status"], *(answer["status"] for answer in answers)] == [401, 400, 400]
        assert "Invalid signature" in wrong["body"]["error"]


class TestPython:
    async def test_events_reach_the_subscribers_but_the_excluded_one(self, python: Call, pusher: Open) -> None:
        channel, excluded, other = f"{channel_name()},b=@;", await pusher(), await pusher()
        await excluded.join(channel)
        await other.join(channel)
        assert python(
            ["trigger", [channel], "new", {"thé": 1}, excluded.socket_id],
            ["trigger_batch", [{"channel": channel, "name": "b", "data": "x"}]],
        ) == [{}, {}]
        event = await other.receive()
        assert (event["event"], json.loads(event["data"])) == ("new", {"thé": 1})
        assert await other.receive() == await excluded.receive() == {"event": "b", "channel": channel, "data": "x"}

    async def test_channels_and_users_are_listed(self, python: Call, pusher: Open) -> None:
        channel, client = f"{channel_name('presence-')},b=@;", await pusher()
        await client.join(channel, {"user_id": "1"})
        assert python(
            ["channels_info", channel, ["user_count"]],
            ["channel_info", channel, ["user_count", "subscription_count"]],
            ["users_info", channel],
        ) == [
            {"channels": {channel: {"user_count": 1}}},
            {"occupied": True, "user_count": 1, "subscription_count": 1},
            {"users": [{"id": "1"}]},
        ]

    async def test_a_user_gets_events_and_is_disconnected(self, python: Call, pusher: Open) -> None:
        client = await pusher()
        await client.sign_in({"id": "python-1"})
        assert (await client.receive())["event"] == "pusher:signin_success"
        await client.join("#server-to-user-python-1")
        assert python(["send_to_user", "python-1", "new", 1], ["terminate_user_connections", "python-1"]) == [{}, {}]
        assert (await client.receive())["event"] == "new"
        assert (await client.client.ending())[1] == 4009

    def test_errors_raise_what_pusher_documents(self, python: Call) -> None:
        (wrong,) = python(["trigger", "a", "new", 1], secret="wrong")
        (invalid,) = python(["users_info", "a"])
        assert (wrong["raised"], invalid["raised"]) == ("PusherBadAuth", "PusherBadRequest")
        assert "Invalid signature" in wrong["said"]
