"""Pusher's HTTP API: who may use it, what it answers, and that it counts as the Cluster API does."""

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.servers import LiveServer
from tests.sockets.pusher import channel_name, open_pusher
from tests.sockets.pusher_api import PusherServer

EVENT = {"name": "new", "channels": ["orders"], "data": '{"a":1}'}


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.fixture
def pusher(http: httpx.AsyncClient, app_id: str, keys: dict[str, str], secrets: dict[str, str]) -> PusherServer:
    return PusherServer(http, app_id, keys["demo"], secrets["demo"])


async def test_publishing_answers_with_an_empty_object(pusher: PusherServer) -> None:
    batch = [{"name": "a", "channel": "orders", "data": "x"}, {"name": "b", "channel": "orders", "data": "y"}]
    assert await pusher.ask("POST", "/events", encode(EVENT)) == (200, {})
    assert await pusher.ask("POST", "/events", encode({**EVENT, "socket_id": "1.2"})) == (200, {})
    assert await pusher.ask("POST", "/batch_events", encode({"batch": batch})) == (200, {})


async def test_publishing_tells_the_attributes_that_it_is_asked_for(pusher: PusherServer) -> None:
    asked = encode({**EVENT, "channels": ["orders", "presence-a"], "info": "user_count,subscription_count"})
    assert await pusher.ask("POST", "/events", asked) == (
        200,
        {
            "channels": {
                "orders": {"subscription_count": 0},
                "presence-a": {"user_count": 0, "subscription_count": 0},
            }
        },
    )
    batch = [
        {"name": "a", "channel": "orders", "data": "x"},
        {"name": "b", "channel": "presence-a", "data": "y", "info": "user_count"},
    ]
    assert await pusher.ask("POST", "/batch_events", encode({"batch": batch})) == (
        200,
        {"batch": [{}, {"user_count": 0}]},
    )


async def test_a_repeated_request_is_not_performed_again(
    pusher: PusherServer, server: LiveServer, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    channel, once = channel_name(), encode({**EVENT, "channels": ["a"], "idempotency_key": 7})
    async with open_pusher(server, keys["demo"], secrets["demo"]) as client:
        await client.join(channel)
        for data in ("first", "repeated"):
            body = encode({"name": "new", "channel": channel, "data": data, "idempotency_key": channel})
            assert await pusher.ask("POST", "/events", body) == (200, {})
        batch = [{"name": "new", "channel": channel, "data": "other"}]
        assert await pusher.ask(
            "POST", "/batch_events", encode({"batch": batch, "idempotency_key": f"batch of {channel}"})
        ) == (200, {})
        assert [(await client.receive())["data"] for _ in range(2)] == ["first", "other"]
    assert (await pusher.ask("POST", "/events", once))[0] == 400


async def test_channels_without_subscribers_are_not_occupied(pusher: PusherServer) -> None:
    assert await pusher.ask("GET", "/channels") == (200, {"channels": {}})
    assert await pusher.ask("GET", "/channels", info="user_count", filter_by_prefix="presence-") == (
        200,
        {"channels": {}},
    )
    assert await pusher.ask("GET", "/channels/a,b=@;") == (200, {"occupied": False})
    assert await pusher.ask("GET", "/channels/presence-a", info="user_count,subscription_count") == (
        200,
        {"occupied": False, "user_count": 0, "subscription_count": 0},
    )
    assert await pusher.ask("GET", "/channels/presence-a/users") == (200, {"users": []})
    assert await pusher.ask("GET", "/connections") == (200, {"connections": 0})


async def test_channels_of_other_protocols_are_not_listed(
    pusher: PusherServer, connect: Callable[..., Any], channel: str
) -> None:
    client = await connect(channel)
    assert await client.count() == 1
    assert await pusher.ask("GET", "/channels") == (200, {"channels": {}})
    assert await pusher.ask("POST", "/events", encode({**EVENT, "channels": [channel]})) == (200, {})
    await client.settle()


async def test_connections_of_a_user_are_closed_on_either_path(pusher: PusherServer) -> None:
    path = "/users/12 é/terminate_connections"
    assert await pusher.ask("POST", path, b"{}") == (200, {})
    assert await pusher.ask("POST", path, b"{}", prefix="") == (200, {})
    assert (await pusher.ask("POST", f"/users/{'1' * 129}/terminate_connections", b"{}"))[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "parameters", "sentence"),
    [
        ("GET", "/channels", {"info": "user_count"}, "filter_by_prefix"),
        ("GET", "/channels/orders", {"info": "user_count"}, "presence channels"),
        ("GET", "/channels/orders/users", {}, "presence channels"),
        ("GET", "/channels/a b", {}, "name of a channel"),
        ("POST", "/events", {}, "must be a JSON object"),
    ],
)
async def test_what_does_not_exist_is_rejected_with_a_sentence(
    pusher: PusherServer, method: str, path: str, parameters: dict[str, str], sentence: str
) -> None:
    status, answer = await pusher.ask(method, path, **parameters)
    assert status == 400
    assert sentence in answer["error"]


async def test_a_request_must_be_signed_now_and_for_this_body_and_app(
    pusher: PusherServer, http: httpx.AsyncClient, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    body, app_id = encode(EVENT), pusher.app_id
    other = PusherServer(http, app_id, keys["other"], secrets["other"])
    assert (await PusherServer(http, app_id, keys["demo"], "wrong").ask("POST", "/events", body))[0] == 401
    assert (await PusherServer(http, app_id, "unknown", "wrong").ask("POST", "/events", body))[0] == 401
    assert (await PusherServer(http, app_id, keys["demo"], secrets["second"]).ask("POST", "/events", body))[0] == 401
    status, answer = await other.ask("POST", "/events", body)
    assert status == 404
    assert "belongs to the app" in answer["error"]
    for changed in (
        {"auth_timestamp": str(int(time.time()) - 700)},
        {"auth_timestamp": "now"},
        {"auth_timestamp": None},
        {"auth_key": None},
        {"auth_version": "2.0"},
        {"body_md5": None},
        {"body_md5": "0" * 32},
    ):
        assert (await pusher.ask("POST", "/events", body, **changed))[0] == 401
    second = PusherServer(http, app_id, keys["second"], secrets["second"])
    assert await second.ask("POST", "/events", body) == (200, {})


async def test_a_request_without_any_signature_is_told_what_to_send(http: httpx.AsyncClient, app_id: str) -> None:
    for method, path in (("POST", "events"), ("POST", "batch_events"), ("GET", "channels")):
        answer = await http.request(method, f"/apps/{app_id}/{path}")
        assert answer.status_code == 401
        assert "auth_signature" in answer.json()["error"]
    assert (await http.get(f"/apps/{app_id}/events")).status_code == 405
    assert (await http.get(f"/apps/{app_id}/nothing")).status_code == 404


async def test_an_event_over_the_quota_of_bytes_gets_413(pusher: PusherServer) -> None:
    status, answer = await pusher.ask("POST", "/events", encode({**EVENT, "data": "x" * (1024 * 1024 + 1)}))
    assert status == 413
    assert "exceeds the allowed maximum" in answer["error"]
    assert await pusher.ask("POST", "/events", encode({**EVENT, "data": '"' * (1024 * 1024)})) == (200, {})


async def test_each_channel_counts_as_a_message_of_the_day(
    start: Callable[..., LiveServer], app_id: str, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    server = start("serve", QUOTA_MESSAGES_PER_DAY="3")
    url = server.url("", scheme="http")
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        pusher = PusherServer(http, app_id, keys["demo"], secrets["demo"])
        assert (await pusher.ask("POST", "/events", encode({**EVENT, "channels": ["a", "b", "c", "d"]})))[0] == 429
        assert await pusher.ask("POST", "/events", encode({**EVENT, "channels": ["a", "b", "c"]})) == (200, {})
        assert (await pusher.ask("POST", "/events", encode(EVENT)))[0] == 429
