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
    """Return a player of scenarios in Node, which has no cookies and needs the host names in the SDK's options."""

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
    """Start Chromium; return players of scenarios for the SDK in a folder of node_modules."""
    need("chromium-headless-shell")
    settings = {"executablePath": shutil.which("chromium-headless-shell"), "site": site, "port": server.port}
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
    """Play a scenario of scenarios.mjs with options for the SDK; return what it observed."""
    match request.param:
        case "5.1.0 in Node":
            player = in_node(*map(request.getfixturevalue, ("server", "site", "node_modules")))
        case "5.1.0 in Chromium":
            player = request.getfixturevalue("browser")("piesocket-js")
        case "3.0.7 in Chromium":
            player = request.getfixturevalue("browser")("piesocket-js-3")

    def play_scenario(scenario: str, channel: str = channel, user: str = "nobody", **options: Any) -> dict[str, Any]:
        observed = player(user, {"scenario": scenario, "channel": channel, "options": options})
        assert "failed" not in observed, observed["failed"]
        return observed

    return play_scenario


def test_it_subscribes_publishes_and_listens_with_its_default_key(play: Play) -> None:
    observed = play("talk")
    assert observed["answer"] == {"data": {"text": "hé 😀"}, "meta": {"from": "one"}}
    assert observed["status"] == '{"system":{"connection_count":2}}'
    assert observed["opened"] == 2


def test_it_receives_its_own_messages_with_notify_self(play: Play) -> None:
    assert play("notifySelf")["answer"]["data"] == 1


def test_it_still_reconnects_after_an_unknown_command(play: Play) -> None:
    observed = play("unknownCommand")
    assert observed["answer"] == '{"system":{"error":"Unknown command: cmd_x"}}'
    assert observed["shouldReconnect"] is True
    assert observed["opened"] == 2


def test_it_lists_the_members_and_reports_when_they_join_and_leave(play: Play) -> None:
    observed = play("presence")
    ada, other = (
        {"uuid": uuid, "user": user} for uuid, user in zip(observed["uuids"], ["ada", "anonymous"], strict=True)
    )
    assert observed["alone"] == [ada]
    assert observed["joined"] == {"member": other, "members": [ada, other]}
    assert observed["members"] == [ada, other]
    assert observed["current"] == other
    assert observed["found"] == ada
    assert observed["left"] == {"member": other, "members": [ada]}
    assert observed["remaining"] == [ada]


def test_it_joins_a_private_channel_with_a_jwt(play: Play, channel: str, secret: str) -> None:
    claims = {"sub": f"private-{channel}", "exp": int(time.time()) + 60, "user": "grace"}
    observed = play("join", f"private-{channel}", jwt=jwt.encode(claims, secret, algorithm="HS256"))
    assert observed == {"user": "grace", "pong": '{"system":"pong"}', "opened": 1}


def test_it_joins_a_private_channel_with_a_jwt_of_the_auth_endpoint(play: Play, channel: str) -> None:
    observed = play("join", f"private-user-{channel}", user=channel)
    assert observed == {"user": "Ada", "pong": '{"system":"pong"}', "opened": 1}


@pytest.mark.parametrize("key", ["unknown", "protected"])
def test_it_does_not_reconnect_after_a_rejection(play: Play, keys: dict[str, str], key: str) -> None:
    close = {"unknown": closes.BAD_KEY, "protected": closes.BAD_JWT}[key]
    observed = play("rejected", apiKey=keys.get(key, key))
    assert observed == {"frames": [error(close)], "codes": [close.code], "opened": 1}


@pytest.mark.parametrize("token", [None, "not.a.token"])
def test_it_cannot_join_a_private_channel_without_a_valid_jwt(play: Play, channel: str, token: str | None) -> None:
    observed = play("rejected", f"private-user-{channel}", jwt=token)
    assert observed == {"frames": [error(closes.BAD_JWT)], "codes": [4009], "opened": 1}
