"""Pusher's protocol, options of a cluster: counts of subscribers, watchlists, closing connections without proof."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.servers import LiveServer, Redis
from tests.sockets.pusher import PusherClient, channel_name, open_pusher, switch_on

OpenOn = Callable[..., Awaitable[PusherClient]]


@pytest.fixture(scope="module", params=["one node", "two nodes"])
def places(request: pytest.FixtureRequest, start: Callable[..., LiveServer], redis: Redis) -> list[LiveServer]:
    """Where clients connect: twice to the same node, or to two nodes."""
    servers = [start("serve")] if request.param == "one node" else [start("serve", REDIS_URL=redis.url) for _ in "ab"]
    for server in servers:
        switch_on(server, "sends_subscription_counts", "sends_watchlist_events")
    return servers * 2 if len(servers) == 1 else servers


@pytest.fixture
async def at(places: list[LiveServer], keys: dict[str, str], secrets: dict[str, str]) -> AsyncIterator[OpenOn]:
    async with AsyncExitStack() as stack:

        async def connect(place: int) -> PusherClient:
            return await stack.enter_async_context(open_pusher(places[place], keys["demo"], secrets["demo"]))

        yield connect


class TestSubscriptionCounts:
    """The number of subscribers of a channel."""

    @pytest.mark.parametrize("kind", ["", "private-", "private-encrypted-", "cache-"])
    async def test_the_subscribers_learn_how_many_they_are(self, at: OpenOn, kind: str) -> None:
        (first, second), channel = [await at(place) for place in (0, 1)], channel_name(kind)
        await first.join(channel)
        await until_counted(first, channel, 1)
        await second.join(channel)
        for client in (first, second):
            await until_counted(client, channel, 2)
        await first.send("pusher:unsubscribe", {"channel": channel})
        await until_counted(second, channel, 1)

    async def test_a_client_that_is_gone_is_not_counted(self, at: OpenOn) -> None:
        (first, second), channel = [await at(place) for place in (0, 1)], channel_name()
        await first.join(channel)
        await until_counted(first, channel, 1)
        await second.join(channel)
        await until_counted(first, channel, 2)
        await second.client.socket.close()
        await until_counted(first, channel, 1)

    async def test_presence_channels_have_members_instead(self, at: OpenOn) -> None:
        client, channel, other = await at(0), channel_name("presence-"), channel_name()
        await client.join(channel, {"user_id": "1"})
        await client.join(other)
        await until_counted(client, other, 1)


async def until_counted(client: PusherClient, channel: str, subscribers: int) -> None:
    """Wait until a client learns a number of subscribers. A number from another node may arrive late, before it."""
    number = -1
    while number != subscribers:
        event = await client.receive()
        if event["event"] == "pusher:cache_miss":
            continue
        assert (event["event"], event["channel"]) == ("pusher_internal:subscription_count", channel)
        number = json.loads(event["data"])["subscription_count"]


class TestWatchlists:
    """Who of a user's watchlist is online."""

    async def test_a_user_learns_who_is_online_at_first_and_whenever_that_changes(self, at: OpenOn) -> None:
        names = {name: channel_name(name) for name in ("ann", "bob", "cyd")}
        ann, bob, second_tab = [await at(place) for place in (0, 1, 0)]
        await sign_in(bob, names["bob"])
        await sign_in(ann, names["ann"], [names["bob"], names["cyd"]])
        assert await watched(ann) == {"online": [names["bob"]], "offline": [names["cyd"]]}
        await sign_in(second_tab, names["bob"])
        cyd = await at(1)
        await sign_in(cyd, names["cyd"])
        assert await watched(ann) == {"online": [names["cyd"]]}
        await bob.client.socket.close()
        await cyd.client.socket.close()
        assert await watched(ann) == {"offline": [names["cyd"]]}
        await second_tab.client.socket.close()
        assert await watched(ann) == {"offline": [names["bob"]]}

    async def test_a_user_who_has_left_and_come_back_is_watched_again(self, at: OpenOn) -> None:
        name = channel_name("user")
        for place in (0, 1):
            watcher, user = await at(place), await at(1 - place)
            await sign_in(watcher, f"{name}-watcher", [name])
            assert await watched(watcher) == {"offline": [name]}
            await sign_in(user, name)
            assert await watched(watcher) == {"online": [name]}
            await watcher.client.socket.close()
            await user.client.socket.close()

    async def test_the_first_hundred_users_of_a_longer_watchlist_count(self, at: OpenOn) -> None:
        client, names = await at(0), [f"user-{number}" for number in range(101)]
        await sign_in(client, channel_name("user"), names)
        events = [await client.receive() for _ in "ab"]
        (error,) = [event for event in events if event["event"] == "pusher:error"]
        (watchlist,) = [event for event in events if event is not error]
        assert error["data"]["code"] == 4302
        assert json.loads(watchlist["data"])["events"] == [{"name": "offline", "user_ids": names[:100]}]

    @pytest.mark.parametrize("watchlist", [None, "x", {}, [], [1, None, "", "x" * 129]])
    async def test_a_watchlist_that_names_nobody_gets_nothing(self, at: OpenOn, watchlist: Any) -> None:
        client = await at(0)
        await sign_in(client, channel_name("user"), watchlist)
        await client.settle()

    async def test_users_are_no_channels(self, at: OpenOn, places: list[LiveServer], keys: dict[str, str]) -> None:
        client = await at(0)
        await sign_in(client, channel_name("user"))
        headers = {"key": keys["demo"], "secret": client.secret}
        async with places[0].http_client() as http:
            assert (await http.get("/api/connections", headers=headers)).json() == {"channels": []}
            counted = await http.get("/api/connections/sum", headers=headers)
            assert counted.json()["connections"] >= 1


async def sign_in(client: PusherClient, user_id: str, watchlist: Any = ()) -> None:
    await client.sign_in({"id": user_id, "watchlist": watchlist})
    assert (await client.receive())["event"] == "pusher:signin_success"


async def watched(client: PusherClient) -> dict[str, list[str]]:
    """Return the users in the next events of a watchlist, by whether they are online."""
    event = await client.receive()
    assert event["event"] == "pusher_internal:watchlist_events", event
    return {each["name"]: each["user_ids"] for each in json.loads(event["data"])["events"]}


class TestUnauthorizedConnections:
    """Closing connections that neither sign in nor subscribe to a private channel."""

    @pytest.fixture
    def strict(self, start: Callable[..., LiveServer]) -> LiveServer:
        server = start("serve", AUTHORIZATION_SECONDS="1")
        switch_on(server, "closes_unauthorized_connections")
        return server

    async def test_a_connection_without_proof_is_closed_in_time_and_others_stay(
        self, strict: LiveServer, keys: dict[str, str], secrets: dict[str, str]
    ) -> None:
        async with AsyncExitStack() as stack:
            opened = [open_pusher(strict, keys["demo"], secrets["demo"]) for _ in range(4)]
            silent, public, private, user = [await stack.enter_async_context(client) for client in opened]
            await public.join(channel_name())
            await private.join(channel_name("private-"))
            await sign_in(user, "1")
            for client in (silent, public):
                frames, code = await client.client.ending()
                error = json.loads(frames[-1])
                assert (error["event"], error["data"]["code"], code) == ("pusher:error", 4009, 4009)
                assert error["data"]["message"].startswith("Connection not authorized within timeout")
            for client in (private, user):
                await client.settle()
