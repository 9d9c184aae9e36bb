"""PieSocket's JavaScript SDK, unchanged, in Node. It speaks TLS only, so the server does too."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from realtime import closes
from tests.servers import LiveServer
from tests.sockets.test_refusals import error

FOLDER = Path(__file__).parent
Session = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def server(start: Callable[..., LiveServer]) -> LiveServer:
    return start("tls")


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the SDK and the program that uses it."""
    if not (shutil.which("node") and shutil.which("npm")):
        if os.environ.get("CI"):
            pytest.fail("Node and npm must be there in CI.")
        pytest.skip("PieSocket's JavaScript SDK needs Node and npm, which are not on PATH.")
    folder = tmp_path_factory.mktemp("sdk")
    for name in ("package.json", "session.mjs"):
        shutil.copy(FOLDER / name, folder)
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=100)
    return folder


@pytest.fixture
def session(server: LiveServer, node_modules: Path, channel: str) -> Session:
    """Run a scenario of session.mjs with the SDK's options; return what it saw."""

    def run(scenario: str, **options: Any) -> dict[str, Any]:
        given = {"scenario": scenario, "channel": channel, "clusterDomain": f"demo.localhost:{server.port}", **options}
        env = {**os.environ, "NODE_EXTRA_CA_CERTS": str(server.directory / "certificate.pem")}
        done = subprocess.run(
            ["node", "session.mjs", json.dumps(given)],
            cwd=node_modules,
            env=env,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads(done.stdout.splitlines()[-1]))

    return run


def test_with_its_default_key_it_subscribes_publishes_and_listens(session: Session) -> None:
    saw = session("talk")
    assert saw["answer"] == {"data": {"text": "hé 😀"}, "meta": {"from": "one"}}
    assert saw["status"] == '{"system":{"connection_count":2}}'
    assert saw["opened"] == 2


def test_it_gets_its_own_messages_with_notify_self(session: Session) -> None:
    assert session("notifySelf")["answer"]["data"] == 1


@pytest.mark.parametrize("key", ["unknown", "protected"])
def test_it_does_not_reconnect_after_a_refusal(session: Session, keys: dict[str, str], key: str) -> None:
    close = {"unknown": closes.BAD_KEY, "protected": closes.BAD_JWT}[key]
    saw = session("refused", apiKey=keys.get(key, key))
    assert saw == {"frames": [error(close)], "codes": [close.code], "opened": 1}


def test_an_unknown_command_does_not_keep_it_from_reconnecting(session: Session) -> None:
    saw = session("unknownCommand")
    assert saw["answer"] == '{"system":{"error":"Unknown command: cmd_x"}}'
    assert saw["shouldReconnect"] is True
    assert saw["opened"] == 2
