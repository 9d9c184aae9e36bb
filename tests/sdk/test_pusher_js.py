"""pusher-js 8 and laravel-echo 2, unchanged, in Node and in Chromium, with Pusher's library for servers.

The service runs without TLS, with TLS, and as two nodes behind a proxy with TLS.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.clients import channel_path
from tests.conftest import Tenants
from tests.servers import LiveServer, need
from tests.sockets.pusher import switch_on

Play = Callable[..., dict[str, Any]]


@pytest.fixture
def play_in_node_or_chromium(node_modules: Path, tenants: Tenants, app_id: str) -> Callable[..., dict[str, Any]]:
    """Play a scenario with a server; call `act` with each state that it reports. Return what it observed."""

    def play_scenario(
        server: LiveServer,
        scenario: str,
        act: Callable[[str], object] = lambda state: None,
        *,
        client: str = "Node",
        key: str = "demo",
    ) -> dict[str, Any]:
        certificate = server.directory / "certificate.pem"
        given = {
            "scenario": scenario,
            "host": "127.0.0.1",
            "port": server.port,
            "secure": certificate.exists(),
            "appId": app_id,
            "key": tenants.keys.get(key, key),
            "secret": tenants.secrets.get(key, "none"),
        }
        if client == "Chromium":
            need("chromium-headless-shell")
            given["executablePath"] = shutil.which("chromium-headless-shell")
        program = "pusher.mjs" if client == "Node" else "pusher_browser.mjs"
        with subprocess.Popen(
            ["node", program, json.dumps(given)],
            cwd=node_modules,
            env={**os.environ, "NODE_EXTRA_CA_CERTS": str(certificate)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                for line in process.stdout:
                    told = json.loads(line)
                    if set(told) != {"state"}:
                        return dict(told)
                    act(told["state"])
                    print(file=process.stdin, flush=True)
            finally:
                process.terminate()
            raise AssertionError(process.stderr.read())

    return play_scenario


@pytest.fixture(params=["serve", "tls", "balanced"])
def place(request: pytest.FixtureRequest) -> LiveServer:
    """The service: without TLS, with TLS, and two nodes behind a proxy."""
    names = {"serve": "serve", "tls": "server", "balanced": "balanced"}
    server: LiveServer = request.getfixturevalue(names[request.param])
    return server


@pytest.fixture(params=["Node", "Chromium"])
def play(
    request: pytest.FixtureRequest, place: LiveServer, play_in_node_or_chromium: Callable[..., dict[str, Any]]
) -> Play:
    """Play a scenario; return what it observed."""
    return lambda scenario: play_in_node_or_chromium(place, scenario, client=request.param)


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


def change(server: LiveServer, method: str, path: str, **values: object) -> None:
    """Change something of the demo account through the REST API, which open connections notice immediately."""
    headers = {"Authorization": f"Token {server.token('owner@example.com')}"}
    url = server.url(f"/api/v1/{path}/", scheme="http")
    answer = httpx.request(method, url, headers=headers, json=values, trust_env=False, timeout=30)
    assert answer.is_success, answer.text


class TestEnds:
    """What pusher-js does after each kind of error and close."""

    @pytest.fixture(params=["Node", "Chromium"])
    def client(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def test_a_client_with_an_unknown_key_stops(
        self, serve: LiveServer, play_in_node_or_chromium: Play, client: str
    ) -> None:
        ended = play_in_node_or_chromium(serve, "a refused client", client=client, key="unknown")
        assert ended == {"code": 4001, "state": "disconnected"}

    @pytest.mark.parametrize(
        ("method", "path", "values"),
        [
            ("DELETE", "keys/{key}", {}),  # 4001
            ("PATCH", "clusters/{app_id}", {"enabled": False}),  # 4003
            ("PATCH", "keys/{key}", {"allowed_origins": ["example.com"]}),  # 4009
        ],
    )
    def test_a_client_that_has_lost_its_access_stops(
        self,
        start: Callable[..., LiveServer],
        keys: dict[str, str],
        app_id: str,
        play_in_node_or_chromium: Play,
        client: str,
        method: str,
        path: str,
        values: dict[str, object],
    ) -> None:
        if "allowed_origins" in values and client == "Node":
            pytest.skip("Only browsers have an origin.")
        with start("serve") as server:
            place = path.format(key=keys["demo"], app_id=app_id)
            ended = play_in_node_or_chromium(
                server, "a connection that ends", lambda _: change(server, method, place, **values), client=client
            )
        assert ended == {"log": ["disconnected"]}

    def test_a_client_whose_channels_need_another_proof_now_reconnects_at_once(
        self, start: Callable[..., LiveServer], keys: dict[str, str], play_in_node_or_chromium: Play, client: str
    ) -> None:
        with start("serve") as server:

            def protect(state: str) -> None:
                if state == "ready":
                    change(server, "PATCH", f"keys/{keys['demo']}", protects_channels=True)

            ended = play_in_node_or_chromium(server, "a connection that ends", protect, client=client)
        assert ended == {"log": ["connecting", "connected"], "received": 1}

    def test_a_client_returns_after_a_restart_and_subscribes_again(
        self, start: Callable[..., LiveServer], play_in_node_or_chromium: Play, client: str
    ) -> None:
        server = start("serve", DRAIN_SECONDS="1")

        def restart(state: str) -> None:
            if state == "ready":
                server.stop()
                server.start()

        ended = play_in_node_or_chromium(server, "a connection that ends", restart, client=client)
        assert ended["received"] == 1
        assert ended["log"][0] == "connecting"
        assert ended["log"][-1] == "connected"
        assert "disconnected" not in ended["log"]

    def test_a_client_knocks_at_a_full_node_until_it_is_let_in(
        self, start: Callable[..., LiveServer], keys: dict[str, str], play_in_node_or_chromium: Play, client: str
    ) -> None:
        with (
            start("serve", MAX_CONNECTIONS="1") as server,
            connect(server.url(channel_path("room", keys["demo"]))) as occupant,
        ):
            ended = play_in_node_or_chromium(
                server, "a service that is full", lambda _: occupant.close(), client=client
            )
        assert ended == {"codes": [4100]}

    def test_a_client_over_the_quota_of_connections_stops(
        self, start: Callable[..., LiveServer], keys: dict[str, str], play_in_node_or_chromium: Play, client: str
    ) -> None:
        key = keys["demo"]
        with start("serve") as server:
            change(server, "PATCH", f"keys/{key}", max_connections=1)
            with connect(server.url(channel_path("room", key))):
                ended = play_in_node_or_chromium(server, "a refused client", client=client)
        assert ended == {"code": 4004, "state": "disconnected"}

    def test_events_beyond_the_rate_raise_an_error_and_the_connection_stays_open(
        self, serve: LiveServer, play_in_node_or_chromium: Play, client: str
    ) -> None:
        ended = play_in_node_or_chromium(serve, "an error that the connection survives", client=client)
        assert ended == {"code": 4301, "state": "connected"}


class TestOptions:
    """What a cluster switches on."""

    @pytest.fixture
    def server(self, start: Callable[..., LiveServer]) -> Iterator[LiveServer]:
        with start("serve") as server:
            switch_on(server, "sends_subscription_counts", "sends_watchlist_events")
            yield server

    def test_a_channel_learns_the_number_of_its_subscribers(
        self, server: LiveServer, play_in_node_or_chromium: Play
    ) -> None:
        counted = play_in_node_or_chromium(server, "a subscription that is counted")
        assert counted == {"data": {"subscription_count": 1}, "count": 1}

    def test_a_user_learns_who_of_its_watchlist_is_online(
        self, server: LiveServer, play_in_node_or_chromium: Play
    ) -> None:
        assert play_in_node_or_chromium(server, "a watchlist") == {"seen": [["offline", ["bob"]], ["online", ["bob"]]]}
