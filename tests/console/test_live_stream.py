"""The stream of Live: what happens on any node, to those who may see it, and nothing while nobody looks."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from realtime.protocols import tokens
from tests.clients import Client, channel_path, open_client, until
from tests.console.browsing import Service
from tests.console.conftest import add_tenants
from tests.console.watching import Watcher, watch
from tests.servers import LiveServer, Redis

# An event must be shown within a second, unless the machine is busy with other things.
SOON = 5.0


START = """
from accounts import services
from accounts.models import *
key = ApiKey.objects.get(pk={key})
"""


class Nodes:
    """Two nodes with one database and one Redis."""

    def __init__(self, first: Service, second: LiveServer) -> None:
        self.first = first
        self.second = second
        self.shop = first.tenants.shop

    def on(self, number: int) -> LiveServer:
        return self.second if number else self.first.server


@pytest.fixture(scope="module")
def nodes(start: Callable[..., LiveServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with Redis(tmp_path_factory.mktemp("redis")) as redis:
        limits = {"CONNECTS_PER_MINUTE_PER_ADDRESS": "100000", "REQUESTS_PER_MINUTE_PER_ADDRESS": "100000"}
        first = start("serve", REDIS_URL=redis.url, **limits)
        database = f"sqlite:///{first.directory}/db.sqlite3"
        second = start("serve", REDIS_URL=redis.url, DATABASE_URL=database, **limits)
        yield Nodes(add_tenants(first), second)
        for node in (second, first):
            node.stop()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


class Shop:
    """The shop's cluster, watched by its developer on the first node."""

    def __init__(self, nodes: Nodes, stack: AsyncExitStack, watcher: Watcher) -> None:
        self.nodes = nodes
        self.watcher = watcher
        self._stack = stack

    async def connect(
        self, number: int, channel: str, *flags: str, key: str | None = None, host: str = "127.0.0.1", **options: Any
    ) -> Client:
        given = {name: str(options.pop(name)) for name in ("user", "uuid", "jwt") if name in options}
        path = channel_path(channel, self.nodes.shop.public_key if key is None else key, *flags, **given)
        return await self._stack.enter_async_context(open_client(self.nodes.on(number), path, host=host, **options))

    def run(self, code: str) -> str:
        """Run Python on the service with the shop's key as `key`."""
        return self.nodes.first.shell(START.format(key=self.nodes.shop.key) + code)

    async def issue(self, **settings: Any) -> str:
        """Issue another key of the cluster, and return it."""
        code = f"print(services.issue_key(key.cluster, 'special', **{settings!r}).key.public_key)"
        return (await asyncio.to_thread(self.run, code)).strip()


async def open_stream(
    nodes: Nodes, stack: AsyncExitStack, *, number: int = 0, session: str = "", content: bool = True
) -> Watcher:
    session = session or nodes.first.sessions["developer"]
    opened = watch(nodes.on(number), nodes.shop.account, nodes.shop.cluster, session, content=content)
    return await stack.enter_async_context(opened)


@pytest.fixture
async def shop(nodes: Nodes, stack: AsyncExitStack) -> Shop:
    watcher = await open_stream(nodes, stack)
    assert watcher.end is None
    shop = Shop(nodes, stack, watcher)
    async with asyncio.timeout(10):
        while not watcher.found("connect", channel="warm-up"):  # until the other node has heard of the page
            await (await shop.connect(1, "warm-up")).socket.close()
            await asyncio.sleep(0.1)
    return shop


EACH_NODE = pytest.mark.parametrize("number", [0, 1], ids=["on the same node", "on another node"])


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


REFUSALS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "unknown": (4001, "API key not valid", {"key": "x" * 60, "host": "shop.localhost"}),
    "no_key": (4001, "API key not valid: missing", {"key": "", "host": "shop.localhost"}),
    "foreign": (4001, "API key not valid", {"key": "OTHER", "host": "shop.localhost"}),
    "bad_channel": (4000, "Channel ID not valid", {"channel": "bay%207"}),
    "bad_option": (4000, "Option not valid: The option presence must be 1 or 0.", {"flags": ["presence=maybe"]}),
    "no_jwt": (4009, "JWT not valid: missing", {"channel": "private-x"}),
    "malformed": (4009, "JWT not valid: malformed", {"channel": "private-x", "jwt": "nonsense"}),
    "expired": (4009, "JWT not valid: expired", {"channel": "private-x", "jwt": ("private-x", -100)}),
    "other_channel": (
        4009,
        "JWT not valid: for another channel: private-y",
        {"channel": "private-x", "jwt": ("private-y", 60)},
    ),
    "other_secret": (
        4009,
        "JWT not valid: signed with another secret",
        {"channel": "private-x", "jwt": ("private-x", 60, "other" * 8)},
    ),
}


@EACH_NODE
@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refused_handshake_is_shown_with_its_reason(shop: Shop, name: str, number: int) -> None:
    code, sentence, options = REFUSALS[name]
    options = {"channel": f"refused-{name}-{number}", **options}
    if isinstance(options.get("jwt"), tuple):
        subject, seconds, *other = options["jwt"]
        options["jwt"] = tokens.sign(other[0] if other else shop.nodes.shop.secret, subject, seconds)
    if options.get("key") == "OTHER":
        options["key"] = shop.nodes.first.tenants.other.public_key
    shop.watcher.events.clear()
    client = await shop.connect(number, options.pop("channel"), *options.pop("flags", ()), user="eve", **options)
    began = time.monotonic()
    assert (await client.ending())[1] == code
    shown = await shop.watcher.wait_for("refusal", SOON, code=code)
    assert shown["sentence"] == sentence
    print(f"shown after {time.monotonic() - began:.2f} s")
    if name in ("unknown", "no_key", "foreign"):
        assert "key" not in shown
    else:
        assert shown["key"] == "Web shop"
    await asyncio.to_thread(wait_for_row, shop, f"code={code}, user='eve'")


def wait_for_row(shop: Shop, condition: str) -> None:
    """Wait until a refusal of the shop is in the database."""
    deadline = time.monotonic() + 10
    account = shop.nodes.shop.account
    while shop.run(f"print(Refusal.objects.filter(account_pk={account}, {condition}).exists())").strip() != "True":
        assert time.monotonic() < deadline, shop.run("print(list(Refusal.objects.values()))")


@EACH_NODE
async def test_a_key_of_another_cluster_of_the_account_is_named(shop: Shop, number: int) -> None:
    cluster = f"services.create_cluster(key.cluster.account, 'depot-{number}')"
    code = f"print(services.issue_key({cluster}, 'Depot').key.public_key)"
    other = (await asyncio.to_thread(shop.run, code)).strip()
    client = await shop.connect(number, "room", key=other, host="shop.localhost")
    assert (await client.ending())[1] == 4001
    shown = await shop.watcher.wait_for("refusal", SOON, sentence="API key not valid: of another cluster")
    assert shown["key"].startswith("Depot") or shown["key"] == f"{other[:8]}…"
    await asyncio.to_thread(wait_for_row, shop, f"detail='other_cluster', public_key='{other}'")


@EACH_NODE
async def test_refusals_that_depend_on_the_settings_of_a_key(shop: Shop, channel: str, number: int) -> None:
    watcher = shop.watcher
    key = await shop.issue(allowed_origins=["example.com"], max_connections=1)
    staging = await shop.connect(number, channel, key=key, origin="https://staging.example.org")
    assert (await staging.ending())[1] == 4003
    shown = await watcher.wait_for("refusal", SOON, code=4003)
    assert shown["sentence"] == "Origin not allowed: https://staging.example.org"
    await shop.connect(number, channel, key=key)
    second = await shop.connect(number, channel, key=key)
    assert (await second.ending())[1] == 4004
    shown = await watcher.wait_for("refusal", SOON, code=4004)
    assert shown["sentence"] == "Connection quota used up: 1 of 1"
    await asyncio.to_thread(wait_for_row, shop, f"public_key='{key}', code=4004, facts__limit=1")
    await asyncio.to_thread(shop.run, f"services.revoke_key(ApiKey.objects.get(public_key='{key}'))")
    revoked = await shop.connect(number, channel, key=key)
    assert (await revoked.ending())[1] == 4001
    await watcher.wait_for("refusal", SOON, code=4001, sentence="API key not valid: revoked")


@EACH_NODE
async def test_clients_that_send_too_much_are_shown(shop: Shop, channel: str, number: int) -> None:
    key = await shop.issue(max_message_bytes=100, max_messages_per_second=5)
    large = await shop.connect(number, channel, key=key)
    await large.send("x" * 200)
    assert (await large.ending())[1] == 1009
    shown = await shop.watcher.wait_for("refusal", SOON, code=1009)
    assert shown["sentence"] == "Message too large: 200 bytes, 100 are allowed"
    fast = await shop.connect(number, channel, key=key)
    for _ in range(200):
        await fast.send("x")
    assert (await fast.ending())[1] == 4301
    shown = await shop.watcher.wait_for("refusal", SOON, code=4301)
    assert shown["sentence"].endswith(" a second, 5 are allowed")
    await asyncio.to_thread(wait_for_row, shop, f"public_key='{key}', code=1009, facts__bytes=200")
    await asyncio.to_thread(wait_for_row, shop, f"public_key='{key}', code=4301")


async def test_a_refused_publish_is_shown_and_kept(shop: Shop, channel: str) -> None:
    key = shop.nodes.shop.public_key
    async with shop.nodes.on(1).http_client() as http:
        body = {"key": key, "secret": "wrong", "channelId": channel, "message": "x"}
        assert (await http.post("/api/publish", json=body)).status_code == 401
    assert (await shop.watcher.wait_for("refusal", SOON, code=401))["sentence"] == "Secret not valid"
    await asyncio.to_thread(wait_for_row, shop, f"public_key='{key}', code=401, reason='bad_secret'")


async def test_a_cluster_that_is_off_and_a_suspended_account(shop: Shop, channel: str) -> None:
    await asyncio.to_thread(shop.run, "services.update_cluster(key.cluster, enabled=False)")
    try:
        async with asyncio.timeout(10):
            while True:
                client = await shop.connect(1, channel)
                if (await client.ending())[1] == 4003:
                    break
    finally:
        await asyncio.to_thread(shop.run, "services.update_cluster(key.cluster, enabled=True)")
    assert (await shop.watcher.wait_for("refusal", SOON, code=4003))["sentence"] == "Cluster is off"


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
