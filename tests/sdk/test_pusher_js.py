"""pusher-js 8, laravel-echo 2 and Pusher's library for servers in Node, unchanged, with TLS."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Tenants
from tests.servers import LiveServer, environment, manage

Play = Callable[[str], dict[str, Any]]


@pytest.fixture
def play(server: LiveServer, node_modules: Path, tenants: Tenants) -> Play:
    """Play a scenario of pusher.mjs; return what it observed."""
    app = json.loads(manage(environment(tenants.directory), "demo", "--json"))

    def play_scenario(scenario: str) -> dict[str, Any]:
        given = {"scenario": scenario, "host": "127.0.0.1", "port": server.port, "appId": str(app["app_id"])}
        done = subprocess.run(
            [
                "node",
                "pusher.mjs",
                json.dumps({**given, "key": tenants.keys["demo"], "secret": tenants.secrets["demo"]}),
            ],
            cwd=node_modules,
            env={**os.environ, "NODE_EXTRA_CA_CERTS": str(server.directory / "certificate.pem")},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads(done.stdout.splitlines()[-1]))

    return play_scenario


def test_events_of_a_server_reach_channels_of_all_kinds_but_not_the_excluded_client(play: Play) -> None:
    kinds = ("", "private-", "private-encrypted-", "presence-", "cache-")
    seen = {kind: {"of": kind} for kind in kinds}
    assert play("events of a server") == {"seen": seen, "last": "end", "excluded": []}


def test_a_new_subscriber_of_a_cache_channel_gets_its_last_event(play: Play) -> None:
    assert play("the last event of a cache channel") == {"last": 7}


def test_two_tabs_of_one_user_are_one_member(play: Play) -> None:
    bob = {"id": "bob", "info": {"name": "User bob"}}
    log = play("two tabs of one user")["log"]
    assert sorted(map(json.dumps, log[:3])) == sorted(map(json.dumps, [["members", 2], ["members", 2], ["added", bob]]))
    assert log[3:] == [["removed", bob], ["left", 1]]


def test_a_client_event_arrives_with_the_user_who_sent_it(play: Play) -> None:
    assert play("client events") == {"data": {"a": ["é"]}, "metadata": {"user_id": "1"}}


def test_a_signed_in_user_gets_events_until_a_server_closes_its_connections(play: Play) -> None:
    assert play("a user who signs in") == {"data": {"a": 1}, "state": "disconnected"}


def test_a_client_with_an_unknown_key_stops(play: Play) -> None:
    assert play("an unknown key") == {"code": 4001, "state": "disconnected"}


def test_a_wrong_signature_reaches_the_channel_and_the_connection_stays_open(play: Play) -> None:
    assert play("a wrong signature") == {"type": "AuthError", "status": 401, "state": "connected"}


@pytest.mark.parametrize("broadcaster", ["reverb", "pusher"])
def test_echo_joins_whispers_and_listens(play: Play, broadcaster: str) -> None:
    assert play(f"Echo with {broadcaster}") == {
        "members": [{"name": "User ann"}],
        "joined": {"name": "User bob"},
        "whispers": {"name": "Bob"},
        "heard": {"id": 1},
    }
