"""PieSocket's SDK for servers in Node, unchanged: messages that it publishes reach the channel."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Connect
from tests.servers import LiveServer

Publish = Callable[..., dict[str, Any]]


@pytest.fixture
def publish(server: LiveServer, node_modules: Path, keys: dict[str, str]) -> Publish:
    """Publish with a secret; return the status and the body of the answer."""

    def publish_message(secret: str, *message: Any) -> dict[str, Any]:
        options = {"clusterId": "demo", "apiKey": keys["demo"], "secret": secret}
        done = subprocess.run(
            ["node", "publish.mjs", json.dumps({"port": server.port, "options": options, "message": message})],
            cwd=node_modules,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    return publish_message


async def test_it_publishes_event_data_and_meta(publish: Publish, connect: Connect, channel: str, secret: str) -> None:
    subscriber = await connect(channel)
    answer = publish(secret, channel, "new-order", {"item": "thé"}, {"from": "shop"})
    assert answer == {"status": 200, "data": {"success": True}}
    assert await subscriber.receive() == '{"event":"new-order","data":{"item":"thé"},"meta":{"from":"shop"}}'


async def test_a_wrong_secret_gets_401_and_publishes_nothing(publish: Publish, connect: Connect, channel: str) -> None:
    subscriber = await connect(channel)
    assert publish("wrong", channel, "new-order", 1)["status"] == 401
    await subscriber.settle()
