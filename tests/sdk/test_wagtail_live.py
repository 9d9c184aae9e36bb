"""Wagtail Live's publisher for PieSocket, unchanged: an update of a page reaches the readers of the page."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Connect
from tests.sdk.conftest import FOLDER
from tests.servers import LiveServer

UPDATE = {"renders": {"1": {"show": True, "content": "<p>thé</p>"}}, "removals": ["2"]}
Publish = Callable[..., str]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the publisher and only those packages that it imports."""
    folder = tmp_path_factory.mktemp("wagtail")
    for arguments in (["--no-deps", "wagtail-live==1.0", "wagtail==8.0.1"], ["requests==2.34.2"]):
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        subprocess.run([*install, "--target", str(folder), *arguments], check=True, timeout=100)
    return folder


@pytest.fixture
def publish(server: LiveServer, packages: Path, keys: dict[str, str], channel: str) -> Publish:
    """Publish an update with a secret; return the log output."""

    def publish_update(secret: str) -> str:
        update = {"channel_id": channel, **UPDATE}
        given: dict[str, Any] = {"port": server.port, "key": keys["demo"], "secret": secret, "update": update}
        done = subprocess.run(
            [sys.executable, FOLDER / "wagtail_publish.py", json.dumps(given)],
            env={"PYTHONPATH": str(packages), "REQUESTS_CA_BUNDLE": str(server.directory / "certificate.pem")},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    return publish_update


async def test_it_publishes_the_update(publish: Publish, connect: Connect, channel: str, secret: str) -> None:
    subscriber = await connect(channel)
    assert publish(secret) == ""
    assert await subscriber.receive() == json.dumps(UPDATE), "the JSON that it sends, character for character"


async def test_with_a_wrong_secret_it_logs_a_failure_and_publishes_nothing(
    publish: Publish, connect: Connect, channel: str
) -> None:
    subscriber = await connect(channel)
    assert publish("wrong") == "Failed publishing new update to PieSocket API.\n"
    await subscriber.settle()
