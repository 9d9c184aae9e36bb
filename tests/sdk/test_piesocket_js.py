"""PieSocket's JavaScript SDK, unchanged: version 5.1.0 in Node and in Chromium, and version 3.0.7 in Chromium."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from realtime.protocols import closes
from tests.servers import LiveServer, need
from tests.sockets.test_refusals import error

Play = Callable[..., dict[str, Any]]
Player = Callable[[str, dict[str, Any]], dict[str, Any]]


def in_node(server: LiveServer, site: str, node_modules: Path) -> Player:
    """Play scenarios with the SDK in Node, which has no cookies and needs to be told the names of server and site."""

    def run(user: str, given: dict[str, Any]) -> dict[str, Any]:
        options = {
            "clusterDomain": f"demo.localhost:{server.port}",
            "authEndpoint": f"{site}/broadcasting/auth",
            "authHeaders": {"Cookie": f"user={user}"},
            **given["options"],
        }
        done = subprocess.run(
            ["node", "node.mjs", json.dumps({**given, "options": options})],
            cwd=node_modules,
            env={**os.environ, "NODE_EXTRA_CA_CERTS": str(server.directory / "certificate.pem")},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads(done.stdout.splitlines()[-1]))

    return run


@pytest.fixture(scope="module")
def browser(server: LiveServer, site: str, node_modules: Path) -> Iterator[Callable[[str], Player]]:
    """Play scenarios in Chromium with the SDK in a folder of node_modules; the SDK goes to demo.piesocket.com."""
    need("chromium")
    settings = {"executablePath": shutil.which("chromium"), "site": site, "port": server.port}
    command = ["node", "browser.mjs", json.dumps(settings)]
    with subprocess.Popen(
        command, cwd=node_modules, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def play_in_page(sdk: str) -> Player:
            def run(user: str, given: dict[str, Any]) -> dict[str, Any]:
                assert process.stdin is not None
                assert process.stdout is not None
                print(json.dumps({"sdk": sdk, "user": user, **given}), file=process.stdin, flush=True)
                return dict(json.loads(process.stdout.readline()))

            return run

        yield play_in_page


@pytest.fixture(params=["5.1.0 in Node", "5.1.0 in Chromium", "3.0.7 in Chromium"])
def play(request: pytest.FixtureRequest, channel: str) -> Play:
    """Play a scenario of scenarios.mjs with the SDK's options; return what it saw."""
    match request.param:
        case "5.1.0 in Node":
            player = in_node(*map(request.getfixturevalue, ("server", "site", "node_modules")))
        case "5.1.0 in Chromium":
            player = request.getfixturevalue("browser")("piesocket-js")
        case "3.0.7 in Chromium":
            player = request.getfixturevalue("browser")("piesocket-js-3")

    def play_one(scenario: str, channel: str = channel, user: str = "nobody", **options: Any) -> dict[str, Any]:
        saw = player(user, {"scenario": scenario, "channel": channel, "options": options})
        assert "failed" not in saw, saw["failed"]
        return saw

    return play_one


def test_with_its_default_key_it_subscribes_publishes_and_listens(play: Play) -> None:
    saw = play("talk")
    assert saw["answer"] == {"data": {"text": "hé 😀"}, "meta": {"from": "one"}}
    assert saw["status"] == '{"system":{"connection_count":2}}'
    assert saw["opened"] == 2


def test_it_gets_its_own_messages_with_notify_self(play: Play) -> None:
    assert play("notifySelf")["answer"]["data"] == 1


def test_an_unknown_command_does_not_keep_it_from_reconnecting(play: Play) -> None:
    saw = play("unknownCommand")
    assert saw["answer"] == '{"system":{"error":"Unknown command: cmd_x"}}'
    assert saw["shouldReconnect"] is True
    assert saw["opened"] == 2


def test_it_knows_the_members_and_sees_them_join_and_leave(play: Play) -> None:
    saw = play("presence")
    ada, other = ({"uuid": uuid, "user": user} for uuid, user in zip(saw["uuids"], ["ada", "anonymous"], strict=True))
    assert saw["alone"] == [ada]
    assert saw["joined"] == {"member": other, "members": [ada, other]}
    assert saw["members"] == [ada, other]
    assert saw["current"] == other
    assert saw["found"] == ada
    assert saw["left"] == {"member": other, "members": [ada]}
    assert saw["remaining"] == [ada]


def test_it_enters_a_private_channel_with_a_jwt(play: Play, channel: str, secret: str) -> None:
    claims = {"sub": f"private-{channel}", "exp": int(time.time()) + 60, "user": "grace"}
    saw = play("join", f"private-{channel}", jwt=jwt.encode(claims, secret, algorithm="HS256"))
    assert saw == {"user": "grace", "pong": '{"system":"pong"}', "opened": 1}


def test_it_enters_a_private_channel_with_a_jwt_of_the_auth_endpoint(play: Play, channel: str) -> None:
    saw = play("join", f"private-user-{channel}", user=channel)
    assert saw == {"user": "Ada", "pong": '{"system":"pong"}', "opened": 1}


@pytest.mark.parametrize("key", ["unknown", "protected"])
def test_it_does_not_reconnect_after_a_refusal(play: Play, keys: dict[str, str], key: str) -> None:
    close = {"unknown": closes.BAD_KEY, "protected": closes.BAD_JWT}[key]
    saw = play("refused", apiKey=keys.get(key, key))
    assert saw == {"frames": [error(close)], "codes": [close.code], "opened": 1}


@pytest.mark.parametrize("token", [None, "not.a.token"])
def test_it_stays_out_of_a_private_channel_without_a_valid_jwt(play: Play, channel: str, token: str | None) -> None:
    saw = play("refused", f"private-user-{channel}", jwt=token)
    assert saw == {"frames": [error(closes.BAD_JWT)], "codes": [4009], "opened": 1}
