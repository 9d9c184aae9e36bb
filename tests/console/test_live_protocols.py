"""Live shows connections with many subscriptions like all others: those of PieSocket v4 and of Pusher's protocol."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from realtime.protocols import tokens
from tests.clients import until
from tests.console.live_nodes import EACH_NODE, MAX_CHANNELS, SOON, Shop
from tests.console.test_live_refusals import wait_for_row
from tests.sockets.pusher import PusherClient, channel_name, open_pusher
from tests.sockets.v4 import Refused, V4Client, open_v4


async def join_v4(shop: Shop, stack: AsyncExitStack, number: int, channel: str, **options: Any) -> V4Client:
    """Connect to a channel of the shop, with the secret of the key for JWTs."""
    opened = open_v4(shop.nodes.on(number), channel, shop.nodes.shop.public_key, **options)
    return await stack.enter_async_context(opened)


async def join_pusher(shop: Shop, stack: AsyncExitStack, number: int) -> PusherClient:
    tenant = shop.nodes.shop
    return await stack.enter_async_context(open_pusher(shop.nodes.on(number), tenant.public_key, tenant.secret))


async def count(client: V4Client) -> int:
    """Return the number of connections to the client's first channel."""
    await client.client.send("cmd_status")
    return int((await client.receive())["system"]["connection_count"])


@EACH_NODE
async def test_a_visit_of_v4_is_shown_from_the_connect_to_the_close(
    shop: Shop, stack: AsyncExitStack, channel: str, number: int
) -> None:
    watcher, first, second = shop.watcher, f"v4:{channel}", f"v4:{channel}-2"
    client = await join_v4(
        shop, stack, number, channel, member="a1", presence=1, user="ann", origin="https://shop.example"
    )
    connect = await watcher.wait_for("connect", SOON, channel=first)
    assert (connect["user"], connect["origin"], connect["key"]) == ("ann", "https://shop.example", "Web shop")
    assert (await watcher.wait_for("subscription", SOON, channel=first))["member"] == "a1"
    await client.subscribe(f"{channel}-2")
    subscription = await watcher.wait_for("subscription", SOON, channel=second)
    assert (subscription["member"], subscription["user"], subscription["left"]) == ("", "ann", False)
    await client.publish("news", "to the second", channel=f"{channel}-2")
    message = await watcher.wait_for("message", SOON, channel=second)
    assert json.loads(message["content"])["data"] == "to the second"
    await until(
        lambda: all(any([path, 1] in frame.get("channels", ()) for frame in watcher.frames) for path in (first, second))
    )
    await client.unsubscribe(f"{channel}-2")
    await watcher.wait_for("subscription", SOON, channel=second, left=True)
    await client.client.socket.close(1001)
    assert (await watcher.wait_for("close", SOON, channel=first))["code"] == 1001


async def test_binary_messages_of_v4_are_shown_as_such(shop: Shop, stack: AsyncExitStack, channel: str) -> None:
    client = await join_v4(shop, stack, 1, channel)
    await client.send_bytes(b"\x00" * 96, channel)
    message = await shop.watcher.wait_for("message", SOON, channel=f"v4:{channel}")
    assert (message["bytes"], message.get("binary"), message.get("content")) == (96, True, None)


async def test_a_message_without_a_subscription_is_shown_as_dropped(
    shop: Shop, stack: AsyncExitStack, channel: str
) -> None:
    client = await join_v4(shop, stack, 1, channel)
    await client.publish("news", 1, channel=f"{channel}-2")
    await shop.watcher.wait_for("message", SOON, channel=f"v4:{channel}-2", dropped="not_subscribed")


@EACH_NODE
async def test_a_server_publishes_to_v4_and_asks_for_its_members(
    shop: Shop, stack: AsyncExitStack, channel: str, number: int
) -> None:
    first, _ = [await join_v4(shop, stack, each, channel) for each in (0, 1)]
    async with asyncio.timeout(SOON):
        while (await count(first)) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    body = {"key": shop.nodes.shop.public_key, "secret": shop.nodes.shop.secret, "channelId": channel}
    async with shop.nodes.on(number).http_client() as http:
        assert (await http.post("/api/v4/publish", json={**body, "message": "news"})).status_code == 200
        assert (await http.post("/api/v4/members", json=body)).status_code == 200
        wrong = {**body, "secret": "wrong", "message": "news"}
        assert (await http.post("/api/v4/publish", json=wrong)).status_code == 401
    publish = await shop.watcher.wait_for("publish", SOON, channel=f"v4:{channel}")
    assert (publish["bytes"], publish["content"], publish["receivers"]) == (4, "news", 2)
    assert (await shop.watcher.wait_for("call", SOON, request="POST /api/v4/members"))["status"] == 200
    await shop.watcher.wait_for("call", SOON, request="POST /api/v4/publish", status=401)
    assert (await shop.watcher.wait_for("refusal", SOON, code=401))["sentence"] == "Secret not valid"


REFUSED_V4: dict[str, tuple[int, str, str, tuple[Any, ...]]] = {
    "no_jwt": (4009, "JWT not valid: missing", "private-x", ()),
    "expired": (4009, "JWT not valid: expired", "private-x", ("private-x", -100)),
    "other_channel": (4009, "JWT not valid: for another channel: private-y", "private-x", ("private-y", 60)),
    "other_secret": (4009, "JWT not valid: signed with another secret", "private-x", ("private-x", 60, "other" * 8)),
    "bad_channel": (4000, "Channel ID not valid", "bay 7", ()),
}


@EACH_NODE
@pytest.mark.parametrize("name", REFUSED_V4)
async def test_a_refused_subscription_of_v4_is_shown_and_kept_with_its_reason(
    shop: Shop, stack: AsyncExitStack, channel: str, name: str, number: int
) -> None:
    code, sentence, wanted, jwt = REFUSED_V4[name]
    options = {}
    if jwt:
        subject, seconds, *other = jwt
        options["jwt"] = tokens.sign(other[0] if other else shop.nodes.shop.secret, subject, seconds)
    user = f"eve-{number}"
    client = await join_v4(shop, stack, number, channel, user=user)
    with pytest.raises(Refused):
        await client.subscribe(wanted, **options)
    shown = await shop.watcher.wait_for("refusal", SOON, channel=f"v4:{wanted}", user=user, sentence=sentence)
    assert (shown["code"], shown["key"], shown["address"]) == (code, "Web shop", "127.0.0.1")
    row = f"code={code}, user='{user}', channel='v4:{wanted}', address='127.0.0.1'"
    await asyncio.to_thread(wait_for_row, shop, row)


async def test_a_refused_option_of_a_subscription_of_v4_is_named(
    shop: Shop, stack: AsyncExitStack, channel: str
) -> None:
    client = await join_v4(shop, stack, 1, channel)
    with pytest.raises(Refused):
        await client.control("subscribe", channel := f"{channel}-2", {"channel": channel, "presence": "maybe"})
    shown = await shop.watcher.wait_for("refusal", SOON, channel=f"v4:{channel}")
    assert shown["sentence"] == "Option not valid: The option presence must be 1 or 0."


@EACH_NODE
async def test_a_visit_of_pusher_is_shown_with_all_that_becomes_of_its_subscriptions(
    shop: Shop, stack: AsyncExitStack, number: int
) -> None:
    watcher, client = shop.watcher, await join_pusher(shop, stack, number)
    public, presence, private = channel_name(), channel_name("presence-"), channel_name("private-")
    await client.join(public)
    subscription = await watcher.wait_for("subscription", SOON, channel=f"pusher:{public}")
    assert (subscription["member"], subscription["left"]) == ("", False)
    await client.join(presence, {"user_id": "a1"})
    assert (await watcher.wait_for("subscription", SOON, channel=f"pusher:{presence}"))["member"] == "a1"
    await client.send("client-typed", {}, presence)
    await watcher.wait_for("message", SOON, channel=f"pusher:{presence}")
    await client.send("pusher:unsubscribe", {"channel": public})
    await watcher.wait_for("subscription", SOON, channel=f"pusher:{public}", left=True)
    await client.refusal(private, auth="")
    shown = await watcher.wait_for("refusal", SOON, channel=f"pusher:{private}")
    sentence = f"Subscription not allowed: Auth info required to subscribe to {private}"
    assert (shown["code"], shown["sentence"], shown["key"]) == (401, sentence, "Web shop")
    await asyncio.to_thread(wait_for_row, shop, f"code=401, channel='pusher:{private}', reason='bad_subscription'")
    await client.refusal(f"presence-{private}", auth=client.auth("another"), channel_data='{"user_id":"Ann"}')
    shown = await watcher.wait_for("refusal", SOON, channel=f"pusher:presence-{private}")
    assert shown["sentence"].endswith(": The signature is not that of this connection, channel and secret.")
    assert not watcher.found("subscription", channel=f"pusher:{private}")


async def test_the_close_of_a_client_of_pusher_has_the_code_that_it_gets(shop: Shop, stack: AsyncExitStack) -> None:
    issue = "issued = services.issue_key(key.cluster, 'rotated'); print(issued.key.public_key, issued.secret)"
    key, secret = (await asyncio.to_thread(shop.run, issue)).split()
    client = await stack.enter_async_context(open_pusher(shop.nodes.on(1), key, secret))
    await client.join(channel_name("private-"))
    await asyncio.to_thread(shop.run, f"services.rotate_secret(ApiKey.objects.get(public_key='{key}'))")
    assert (await client.client.ending())[1] == 4200
    close = await shop.watcher.wait_for("close", SOON, code=4200)
    assert (close["reason"], close["by"]) == ("bad_jwt", "server")


async def test_a_subscription_above_the_limit_of_channels_is_shown(
    shop: Shop, stack: AsyncExitStack, channel: str
) -> None:
    client = await join_v4(shop, stack, 1, channel)
    for number in range(MAX_CHANNELS - 1):
        await client.subscribe(f"{channel}-{number}")
    with pytest.raises(Refused):
        await client.subscribe(f"{channel}-more")
    shown = await shop.watcher.wait_for("refusal", SOON, channel=f"v4:{channel}-more")
    assert shown["sentence"] == "Too many channels on one connection"
