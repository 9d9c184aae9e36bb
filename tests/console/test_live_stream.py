"""The stream of Live: what happens on any node, to those who may see it, and nothing while nobody looks."""

import asyncio
import json
import re
import time
from contextlib import AsyncExitStack

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.clients import until
from tests.console.live_nodes import EACH_NODE, SOON, Nodes, Shop, open_stream
from tests.console.test_sending import browser_of
from tests.console.watching import watch
from tests.sockets.pusher import channel_name, open_pusher
from tests.sockets.v4 import open_v4


@EACH_NODE
async def test_a_visit_is_shown_from_the_connect_to_the_close(shop: Shop, channel: str, number: int) -> None:
    client = await shop.connect(number, channel, "presence", user="ann", uuid="a1", origin="https://shop.example")
    connect = await shop.watcher.wait_for("connect", SOON, channel=channel)
    assert (connect["user"], connect["origin"], connect["key"]) == ("ann", "https://shop.example", "Web shop")
    assert connect["address"] == "127.0.0.1"
    assert (await shop.watcher.wait_for("subscription", SOON, channel=channel))["member"] == "a1"
    await client.send("hello")
    message = await shop.watcher.wait_for("message", SOON, channel=channel)
    assert (message["user"], message["bytes"], message["content"]) == ("ann", 5, "hello")
    await client.socket.close(1001)
    close = await shop.watcher.wait_for("close", SOON, channel=channel)
    assert (close["code"], close["by"], close["user"]) == (1001, "client", "ann")
    assert 0 <= close["seconds"] < 60


@EACH_NODE
async def test_a_server_publishes_and_asks(shop: Shop, channel: str, number: int) -> None:
    receivers = [await shop.connect(each, channel) for each in (0, 1)]
    body = {"key": shop.nodes.shop.public_key, "secret": shop.nodes.shop.secret}
    async with shop.nodes.on(number).http_client() as http:
        answer = await http.post("/api/publish", json={**body, "channelId": channel, "message": "news"})
        assert answer.status_code == 200
        assert (await http.get("/api/connections/sum", headers=body)).status_code == 200
    publish = await shop.watcher.wait_for("publish", SOON, channel=channel)
    assert (publish["bytes"], publish["content"], publish["receivers"]) == (4, "news", len(receivers))
    call = await shop.watcher.wait_for("call", SOON, request="GET /api/connections/sum")
    assert call["status"] == 200


@pytest.mark.parametrize("prefix", ["", "v4:", "pusher:"])
async def test_a_message_from_the_console_names_its_channel_and_its_receivers(
    shop: Shop, stack: AsyncExitStack, channel: str, prefix: str
) -> None:
    tenant, node = shop.nodes.shop, shop.nodes.on(0)
    if prefix == "pusher:":
        await (await stack.enter_async_context(open_pusher(node, tenant.public_key, tenant.secret))).join(channel)
    elif prefix == "v4:":
        await stack.enter_async_context(open_v4(node, channel, tenant.public_key))
    else:
        await shop.connect(0, channel)
    async with browser_of(shop.nodes.first, "developer", node) as console:
        assert "Sent to 1 connection." in await send_to(console, prefix + channel, "Hello!")
    publish = await shop.watcher.wait_for("publish", SOON, channel=prefix + channel)
    assert publish["receivers"] == 1


async def send_to(console: httpx.AsyncClient, channel: str, message: str) -> str:
    """Send a message on the page that watches the shop's cluster, and return the page that follows."""
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', (await console.get("live/shop/")).text)
    assert token
    form = {"channel": channel, "message": message, "csrfmiddlewaretoken": token[1]}
    return (await console.post("live/shop/send/", data=form)).text


async def test_a_close_is_shown_with_the_code_that_the_client_got(shop: Shop, stack: AsyncExitStack) -> None:
    issue = "issued = services.issue_key(key.cluster, 'rotated'); print(issued.key.public_key, issued.secret)"
    public_key, secret = (await asyncio.to_thread(shop.run, issue)).split()
    client = await stack.enter_async_context(open_pusher(shop.nodes.on(1), public_key, secret))
    await client.join(channel_name("private-"))
    rotate = f"services.rotate_secret(ApiKey.objects.get(public_key={public_key!r}))"
    await asyncio.to_thread(shop.run, rotate)
    assert (await client.client.ending())[1] == 4200
    assert (await shop.watcher.wait_for("close", SOON, by="server"))["code"] == 4200


async def test_content_is_shown_only_on_request_and_cut(shop: Shop, stack: AsyncExitStack, channel: str) -> None:
    without = await open_stream(shop.nodes, stack, content=False)
    client = await shop.connect(0, channel)
    await client.send("ü" * 2000)
    await client.send(b"\x00" * 96)
    for watcher in (shop.watcher, without):
        await until(lambda watcher=watcher: len(watcher.found("message", channel=channel)) == 2)  # type: ignore[misc]
    text, binary = shop.watcher.found("message", channel=channel)
    assert (text["bytes"], text["content"]) == (4000, "ü" * 512)
    assert binary["binary"]
    assert binary["bytes"] == 96
    assert "content" not in binary
    assert all("content" not in event for event in without.events)


async def test_the_filter_finds_channels_users_and_labels_of_keys_before_sampling(shop: Shop, channel: str) -> None:
    loud, quiet = await shop.connect(1, channel), await shop.connect(1, f"{channel}-quiet", user="Ben")
    for text, finds in ((f"{channel}-QUIET", True), ("ben", True), ("web sh", True), ("nothing like it", False)):
        shop.watcher.events.clear()
        await shop.watcher.ask(text)
        await asyncio.sleep(1)  # what was sent until now was filtered as before
        shop.watcher.events.clear()
        for _ in range(100):
            await loud.send("loud")
        await quiet.send("quiet")
        await quiet.settle()
        if finds and text != "web sh":
            await shop.watcher.wait_for("message", SOON, channel=f"{channel}-quiet")
            assert not shop.watcher.found("message", channel=channel)
        elif finds:
            await shop.watcher.wait_for("message", SOON, channel=channel)
        else:
            await asyncio.sleep(0.6)
            assert not shop.watcher.events


async def test_thousands_of_events_are_sampled_and_counted_exactly(shop: Shop, channel: str) -> None:
    clients = [await shop.connect(number, channel) for number in (0, 1)]
    await asyncio.sleep(1)
    before = shop.watcher.sum("matched")
    shop.watcher.events.clear()
    began = time.monotonic()
    for _ in range(1_000):
        for client in clients:
            await client.send("x")
        await asyncio.sleep(0.001)
    for client in clients:
        await client.send("cmd_ping")
    await until(lambda: shop.watcher.sum("matched") - before >= 2_000)
    seconds = time.monotonic() - began
    assert shop.watcher.sum("matched") - before == 2_000
    # As many as are allowed in this time, and those that were saved up before.
    assert 0 < len(shop.watcher.found("message")) <= 50 * (seconds + 2)


async def test_refusals_are_shown_while_there_are_thousands_of_messages_and_counted_beyond(
    shop: Shop, channel: str
) -> None:
    client = await shop.connect(1, channel)
    for _ in range(500):
        await client.send("x")
    refused = [await shop.connect(1, channel, "presence=maybe") for _ in range(40)]
    for each in refused:
        await each.ending()
    watcher = shop.watcher
    await until(lambda: len(watcher.found("refusal", code=4000)) + watcher.sum("unshown_refusals") >= 40)
    assert len(watcher.found("refusal", code=4000)) >= 10


@pytest.mark.parametrize(
    ("role", "sentence"),
    [
        ("viewer", "You cannot watch this account live. Your role is viewer."),
        ("stranger", "This cluster was deleted, or it belongs to an account that you are not a member of."),
        ("nobody", "You are logged out."),
    ],
)
async def test_others_see_nothing(nodes: Nodes, stack: AsyncExitStack, role: str, sentence: str) -> None:
    session = nodes.first.sessions.get(role, "nonsense")
    watcher = await open_stream(nodes, stack, session=session)
    await until(lambda: watcher.code is not None)
    assert (watcher.end, watcher.code, watcher.events) == (sentence, 1000, [])


async def test_a_stranger_cannot_watch_the_cluster_through_an_own_account(nodes: Nodes, stack: AsyncExitStack) -> None:
    own, session = nodes.first.tenants.other.account, nodes.first.sessions["stranger"]
    watcher = await stack.enter_async_context(watch(nodes.on(0), own, nodes.shop.cluster, session))
    await until(lambda: watcher.code is not None)
    assert watcher.end is not None
    assert "belongs to an account" in watcher.end


async def test_events_of_another_tenant_are_never_shown(shop: Shop, channel: str) -> None:
    other = shop.nodes.first.tenants.other.public_key
    stranger = await shop.connect(0, channel, key=other)
    await stranger.send("theirs")
    client = await shop.connect(0, channel)
    await client.send("ours")
    await shop.watcher.wait_for("message", SOON, channel=channel)
    assert len(shop.watcher.found("connect", channel=channel)) == 1
    assert len(shop.watcher.found("message", channel=channel)) == 1


@pytest.mark.parametrize("origin", ["http://evil.example", "http://demo.localhost", "null"])
async def test_pages_of_other_origins_cannot_open_the_stream(nodes: Nodes, stack: AsyncExitStack, origin: str) -> None:
    opened = watch(nodes.on(0), nodes.shop.account, nodes.shop.cluster, nodes.first.sessions["owner"], origin=origin)
    with pytest.raises(InvalidStatus, match="403"):
        await stack.enter_async_context(opened)


NEW_SESSION = """
from django.test import Client
from accounts.models import *
from accounts.users import User
user = User.objects.create_user("{name}@shop.example", password="x")
services.add_member(key.cluster.account, user, "developer")
client = Client()
client.force_login(user)
print(client.cookies["sessionid"].value)
"""


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            "from django.contrib.sessions.models import Session; Session.objects.filter(pk='{session}').delete()",
            "You are logged out.",
        ),
        (
            "services.set_role(Membership.objects.get(user__email='{name}@shop.example'), 'viewer')",
            "You cannot watch this account live. Your role is viewer.",
        ),
        (
            "services.remove_member(Membership.objects.get(user__email='{name}@shop.example'))",
            "This cluster was deleted, or it belongs to an account that you are not a member of.",
        ),
    ],
    ids=["log-out", "role", "membership"],
)
async def test_the_stream_ends_soon_when_the_right_ends(
    shop: Shop, stack: AsyncExitStack, change: str, sentence: str, channel: str
) -> None:
    session = (await asyncio.to_thread(shop.run, NEW_SESSION.format(name=channel))).strip()
    watcher = await open_stream(shop.nodes, stack, number=1, session=session)
    assert watcher.end is None
    await asyncio.to_thread(shop.run, change.format(session=session, name=channel))
    await until(lambda: watcher.code is not None, 10)
    assert (watcher.end, watcher.code) == (sentence, 1000)


async def test_the_stream_ends_soon_when_the_account_is_suspended(nodes: Nodes, stack: AsyncExitStack) -> None:
    other, session = nodes.first.tenants.other, nodes.first.sessions["stranger"]
    watcher = await stack.enter_async_context(watch(nodes.on(1), other.account, other.cluster, session))
    account = f"Account.objects.get(pk={other.account})"
    code = "from accounts import services; from accounts.models import Account; "
    await asyncio.to_thread(nodes.first.shell, f"{code}services.suspend_account({account})")
    try:
        await until(lambda: watcher.code is not None, 10)
    finally:
        await asyncio.to_thread(nodes.first.shell, f"{code}services.resume_account({account})")
    assert watcher.end == "Live needs an active account."


async def test_five_people_can_watch_a_cluster(shop: Shop, stack: AsyncExitStack) -> None:
    for number in (1, 0, 1, 0):
        assert (await open_stream(shop.nodes, stack, number=number)).end is None
    await asyncio.sleep(0.5)  # until the nodes have heard of each other's pages
    sixth = await open_stream(shop.nodes, stack, number=1)
    await until(lambda: sixth.code is not None)
    assert sixth.end == "Five people are watching this cluster already."


async def test_hostile_terms_are_ignored(shop: Shop, channel: str) -> None:
    for text in (
        "",
        "[]",
        "{}",
        '{"kinds":1,"filter":2}',
        "[" * 4000,
        json.dumps({"kinds": [[]], "filter": "x" * 201}),
    ):
        await shop.watcher._socket.send(text)
    await shop.connect(1, channel)
    await shop.watcher.wait_for("connect", SOON, channel=channel)
