"""Refusals of every kind are shown live and kept, whichever node has refused."""

import asyncio
import time
from typing import Any

import pytest

from realtime.protocols import tokens
from tests.console.live_nodes import EACH_NODE, SOON, Shop

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
    assert (await client.ending())[1] == code
    shown = await shop.watcher.wait_for("refusal", SOON, code=code)
    assert shown["sentence"] == sentence
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
