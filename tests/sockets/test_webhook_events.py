"""What a tenant's server learns through webhooks about channels and messages."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from realtime.protocols.tokens import sign
from tests.clients import Client, channel_path, open_client
from tests.receivers import Receiver
from tests.servers import LiveServer
from tests.sockets.pusher import channel_name, open_pusher
from tests.sockets.pusher_api import PusherServer
from tests.sockets.v4 import open_v4
from tests.webhooks import PROBE, SETTINGS, Tenant, until_known


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module", params=["serve", "daphne"])
def server(request: pytest.FixtureRequest, start: Callable[..., LiveServer]) -> LiveServer:
    return start(request.param, **SETTINGS)


def shown(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event without what differs each time."""
    return {name: value for name, value in event.items() if name not in ("time_ms", "sequence", "socket_id")}


def messages(tenant: Tenant) -> list[dict[str, Any]]:
    """Return the messages that have arrived, without those of `until_known`."""
    return [event for event in tenant.events("client_event") if event.get("data") != PROBE]


async def test_a_channel_is_occupied_once_and_vacated_once(
    server: LiveServer, receiver: Receiver, keys: dict[str, str], channel: str
) -> None:
    tenant = Tenant(server, receiver, kinds=["channel_occupied", "channel_vacated"], channel_prefix=channel)
    path = channel_path(channel, keys["demo"])
    async with open_client(server, path), open_client(server, path):
        await tenant.until(lambda: len(tenant.events()) == 1)
    left_at = time.time()
    await tenant.until(lambda: len(tenant.events()) == 2)
    occupied, vacated = tenant.events()
    assert [shown(occupied), shown(vacated)] == [
        {"name": "channel_occupied", "channel": channel, "protocol": "v3"},
        {"name": "channel_vacated", "channel": channel, "protocol": "v3"},
    ]
    assert occupied["sequence"] < vacated["sequence"]
    assert vacated["time_ms"] / 1000 - left_at > 2.5


async def test_a_client_that_returns_in_time_causes_no_events(
    server: LiveServer, receiver: Receiver, keys: dict[str, str], channel: str
) -> None:
    tenant = Tenant(server, receiver, kinds=["channel_occupied", "channel_vacated"], channel_prefix=channel)
    path = channel_path(channel, keys["demo"])
    for _ in range(3):
        async with open_client(server, path):
            await tenant.until(lambda: bool(tenant.events()))
    async with open_client(server, channel_path(f"{channel}-2", keys["demo"])):
        await tenant.until(lambda: len(tenant.events()) == 3)
    names = sorted((event["name"], event["channel"]) for event in tenant.events())
    assert names == [
        ("channel_occupied", channel),
        ("channel_occupied", f"{channel}-2"),
        ("channel_vacated", channel),
    ]


async def test_a_member_is_added_and_removed_once_however_often_its_connections_come_and_go(
    server: LiveServer, receiver: Receiver, keys: dict[str, str], channel: str
) -> None:
    tenant = Tenant(server, receiver, kinds=["member_added", "member_removed"], channel_prefix=channel)

    def connect(uuid: str = "anna") -> AbstractAsyncContextManager[Client]:
        return open_client(server, channel_path(channel, keys["demo"], presence="1", uuid=uuid))

    async with open_client(server, channel_path(channel, keys["demo"])):  # it takes no part in presence
        async with connect(), connect():
            await tenant.until(lambda: bool(tenant.events()))
        async with connect():
            async with connect():
                pass
            left_at = time.time()
            async with connect("bob"):
                await tenant.until(lambda: len(tenant.events()) == 2)
            await tenant.until(lambda: len(tenant.events()) == 3)
    await tenant.until(lambda: len(tenant.events()) == 4)
    common = {"channel": channel, "protocol": "v3"}
    assert [shown(event) for event in tenant.events()] == [
        {"name": "member_added", "user_id": "anna", **common},
        {"name": "member_added", "user_id": "bob", **common},
        {"name": "member_removed", "user_id": "bob", **common},
        {"name": "member_removed", "user_id": "anna", **common},
    ]
    assert tenant.events()[2]["time_ms"] / 1000 - left_at > 2.5


@pytest.mark.parametrize("uuid", ["ä %f%", "zero\0byte", "\U0001f600" * 64, "0", " "])
async def test_any_member_is_reported(
    server: LiveServer, receiver: Receiver, keys: dict[str, str], channel: str, uuid: str
) -> None:
    tenant = Tenant(server, receiver, kinds=["member_added", "client_event"], channel_prefix=channel)
    path = channel_path(channel, keys["demo"], presence="1", uuid=uuid)
    async with open_client(server, path) as client:
        await until_known(tenant, client)
        await tenant.until(lambda: bool(tenant.events("member_added")))
    expected = uuid.replace("\0", "�")
    assert {event["user_id"] for event in tenant.events()} == {expected}


async def test_messages_of_clients_arrive_as_events_in_batches(
    server: LiveServer, receiver: Receiver, keys: dict[str, str], channel: str
) -> None:
    tenant = Tenant(server, receiver, kinds=["client_event"], channel_prefix=channel, batches=True)
    sent = ['{"event":"typing","data":1}', "plain", b"\x00\xff", "[1]", '{"event":2}', "", 'a "quoted" \\ ü\u2028']
    async with open_client(server, channel_path(channel, keys["demo"], presence="1", uuid="anna")) as client:
        await until_known(tenant, client)
        for message in sent:
            await client.send(message)
        await tenant.until(lambda: len(messages(tenant)) == len(sent))
    events = messages(tenant)
    common = {"name": "client_event", "channel": channel, "user_id": "anna", "protocol": "v3"}
    names = ["typing", *["message"] * (len(sent) - 1)]
    assert [shown(event) for event in events] == [
        {**common, "event": name, "data": message}
        if isinstance(message, str)
        else {**common, "event": name, "data_base64": base64.b64encode(message).decode()}
        for name, message in zip(names, sent, strict=True)
    ]
    assert len({event["socket_id"] for event in events}) == 1


async def test_a_new_webhook_is_told_about_channels_that_are_already_occupied(
    server: LiveServer, receiver: Receiver, keys: dict[str, str], channel: str
) -> None:
    async with open_client(server, channel_path(channel, keys["demo"])):
        tenant = Tenant(server, receiver, kinds=["channel_occupied"], channel_prefix=channel)
        await tenant.until(lambda: [shown(event)["channel"] for event in tenant.events()] == [channel])


async def test_messages_of_servers_and_other_channels_are_not_reported(
    server: LiveServer, receiver: Receiver, keys: dict[str, str], secrets: dict[str, str], channel: str
) -> None:
    tenant = Tenant(server, receiver, kinds=["client_event"], channel_prefix=channel)
    async with (
        open_client(server, channel_path("elsewhere", keys["demo"])) as other,
        open_client(server, channel_path(channel, keys["demo"])) as client,
        server.http_client() as http,
    ):
        await until_known(tenant, client)
        await other.send("other channel")
        content = {"key": keys["demo"], "secret": secrets["demo"], "channelId": channel, "message": "of a server"}
        assert (await http.post("/api/publish", json=content)).status_code == 200
        await client.send("of a client")
        await tenant.until(lambda: bool(messages(tenant)))
    assert [event["data"] for event in messages(tenant)] == ["of a client"]


async def test_channels_members_and_events_of_pusher_are_reported_by_the_names_that_its_clients_know(
    server: LiveServer, receiver: Receiver, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    channel = channel_name("presence-")
    kinds = ["channel_occupied", "channel_vacated", "member_added", "member_removed", "client_event"]
    tenant = Tenant(server, receiver, kinds=kinds, channel_prefix="presence-")
    common = {"channel": channel, "protocol": "pusher"}
    async with (
        open_pusher(server, keys["demo"], secrets["demo"]) as ann,
        open_pusher(server, keys["demo"], secrets["demo"]) as tab,
    ):
        await ann.join(channel, {"user_id": "ann"})
        await tab.join(channel, {"user_id": "ann"})
        await tenant.until(lambda: len(tenant.events()) == 2)
        await ann.send("client-x", {"a": 1}, channel)
        await tenant.until(lambda: len(tenant.events()) == 3)
        assert [shown(event) for event in tenant.events()] == [
            {"name": "channel_occupied", **common},
            {"name": "member_added", "user_id": "ann", **common},
            {"name": "client_event", "event": "client-x", "data": '{"a": 1}', "user_id": "ann", **common},
        ]
        assert tenant.events()[2]["socket_id"] == ann.socket_id
    await tenant.until(lambda: len(tenant.events()) == 5)
    assert [shown(event) for event in tenant.events()[3:]] == [
        {"name": "member_removed", "user_id": "ann", **common},
        {"name": "channel_vacated", **common},
    ]


async def test_channels_members_and_messages_of_piesocket_v4_are_reported(
    server: LiveServer, receiver: Receiver, keys: dict[str, str], secrets: dict[str, str], channel: str
) -> None:
    kinds = ["channel_occupied", "channel_vacated", "member_added", "member_removed", "client_event"]
    private = f"private-{channel}"
    tenant = Tenant(server, receiver, kinds=kinds, channel_prefix=private)
    common = {"channel": private, "protocol": "v4"}
    jwt = sign(secrets["demo"], private, 60, "Ann")
    async with open_v4(server, channel, keys["demo"]) as first, open_v4(server, channel, keys["demo"]) as tab:
        for client in (first, tab):
            await client.subscribe(private, presence=True, jwt=jwt)
        await tenant.until(lambda: len(tenant.events()) == 2)
        await first.publish("x", 1, channel=private)
        await tenant.until(lambda: len(tenant.events()) == 3)
        message = tenant.events()[2]
        assert json.loads(message.pop("data")) == {"event": "x", "data": 1, "meta": None, "system::channel": private}
        assert [shown(event) for event in [*tenant.events()[:2], message]] == [
            {"name": "channel_occupied", **common},
            {"name": "member_added", "user_id": "user:Ann", **common},
            {"name": "client_event", "event": "x", "user_id": "user:Ann", **common},
        ]
    await tenant.until(lambda: len(tenant.events()) == 5)
    assert [shown(event) for event in tenant.events()[3:]] == [
        {"name": "member_removed", "user_id": "user:Ann", **common},
        {"name": "channel_vacated", **common},
    ]


async def test_a_missing_last_event_and_each_number_of_subscribers_are_reported(
    server: LiveServer, receiver: Receiver, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    channel = channel_name("private-cache-")
    kinds = ["channel_occupied", "cache_miss", "subscription_count"]
    tenant = Tenant(server, receiver, kinds=kinds, channel_prefix="private-cache-")
    common = {"channel": channel, "protocol": "pusher"}

    def told() -> list[dict[str, Any]]:
        return [event for event in tenant.events() if event["channel"] == channel and "occupied" not in event["name"]]

    async with open_pusher(server, keys["demo"], secrets["demo"]) as first:
        await first.join(channel_name("private-cache-"))
        assert (await first.receive())["event"] == "pusher:cache_miss"
        await tenant.until(lambda: bool(tenant.events("channel_occupied")))  # so it is known
        await first.join(channel)
        await tenant.until(lambda: len(told()) == 2)
        async with open_pusher(server, keys["demo"], secrets["demo"]) as second:
            await second.join(channel)
            await tenant.until(lambda: len(told()) == 3)
        await tenant.until(lambda: len(told()) == 4)
        await first.send("pusher:unsubscribe", {"channel": channel})
        await tenant.until(lambda: len(told()) == 5)
    events = [shown(event) for event in told()]
    assert {"name": "cache_miss", **common} in events
    assert [event for event in events if event["name"] == "subscription_count"] == [
        {"name": "subscription_count", "subscription_count": number, **common} for number in (1, 2, 1, 0)
    ]


async def test_no_idempotency_key_suppresses_the_report_of_a_missing_last_event(
    server: LiveServer, receiver: Receiver, app_id: str, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    channel, other = channel_name("cache-"), channel_name("cache-")
    tenant = Tenant(server, receiver, kinds=["channel_occupied", "cache_miss"], channel_prefix="cache-")
    async with (
        open_pusher(server, keys["demo"], secrets["demo"]) as client,
        httpx.AsyncClient(base_url=server.url("", scheme="http"), trust_env=False) as http,
    ):
        await client.join(other)
        assert (await client.receive())["event"] == "pusher:cache_miss"
        await tenant.until(lambda: bool(tenant.events("channel_occupied")))  # so the webhook is known
        publisher = PusherServer(http, app_id, keys["demo"], secrets["demo"])
        for identifier in (f"pusher:{channel}", f"cache_miss pusher:{channel}"):
            event = {"name": "x", "channel": "elsewhere", "data": "", "idempotency_key": identifier}
            assert await publisher.ask("POST", "/events", json.dumps(event).encode()) == (200, {})
        await client.join(channel)
        await tenant.until(lambda: any(event["channel"] == channel for event in tenant.events("cache_miss")))
