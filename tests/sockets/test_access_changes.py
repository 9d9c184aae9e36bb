"""Revoked access takes effect immediately, on open connections and on new ones."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

import httpx
import pytest

from realtime.protocols import closes, tokens
from realtime.protocols.closes import Close
from tests.clients import Client, until
from tests.conftest import SERVERS, Connect
from tests.proxies import Balanced
from tests.servers import LiveServer
from tests.sockets.test_refusals import error


@pytest.fixture(scope="module", params=[kind for kind in SERVERS if kind in ("serve", "balanced")])
def server(request: pytest.FixtureRequest, start: Callable[..., LiveServer]) -> LiveServer:
    return request.getfixturevalue("balanced") if request.param == "balanced" else start("serve")


@pytest.fixture(scope="module")
def token(server: LiveServer) -> str:
    return server.token("owner@example.com")


@pytest.fixture
async def owner(server: LiveServer, token: str) -> AsyncIterator[httpx.AsyncClient]:
    """The owner of the demo account, as a client of the server's REST API."""

    async def reach_other_nodes(response: httpx.Response) -> None:
        if isinstance(server, Balanced) and response.request.method != "GET":
            await asyncio.sleep(1)  # time for a change to reach every open connection and cache

    headers, hooks = {"Authorization": f"Token {token}"}, {"response": [reach_other_nodes]}
    async with server.http_client("/api/v1/", headers=headers, event_hooks=hooks) as client:
        yield client


async def test_revoking_a_key_closes_its_connections_and_no_others(
    owner: httpx.AsyncClient, connect: Connect, channel: str
) -> None:
    issued = (await owner.post("keys/", json={"cluster": "demo", "label": "short-lived"})).json()
    key = issued["public_key"]
    concerned = [await connect(channel, key=key) for _ in range(3)]
    other = await connect(channel)
    assert await other.count() == 4
    assert (await owner.delete(f"keys/{key}/")).status_code == 204
    for client in concerned:
        assert await client.ending() == ([error(closes.KEY_REVOKED)], 4001)
    assert await other.count() == 1
    assert await (await connect(channel, key=key)).ending() == ([error(closes.BAD_KEY)], 4001)


async def test_a_new_key_works_immediately(owner: httpx.AsyncClient, connect: Connect, channel: str) -> None:
    issued = (await owner.post("keys/", json={"cluster": "demo", "label": "new"})).json()
    await (await connect(channel, key=issued["public_key"])).settle()


async def test_connecting_with_a_key_updates_when_it_was_last_used(
    owner: httpx.AsyncClient, connect: Connect, channel: str
) -> None:
    key = (await owner.post("keys/", json={"cluster": "demo", "label": "used"})).json()["public_key"]
    assert (await owner.get(f"keys/{key}/")).json()["last_used_at"] is None
    await connect(channel, key=key)
    async with asyncio.timeout(20):
        while (await owner.get(f"keys/{key}/")).json()["last_used_at"] is None:  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def test_wrong_secrets_do_not_count_as_the_use_of_a_key(
    owner: httpx.AsyncClient, server: LiveServer, connect: Connect, channel: str
) -> None:
    async def issue(label: str) -> dict[str, str]:
        return dict((await owner.post("keys/", json={"cluster": "demo", "label": label})).json())

    guessed, used = await issue("guessed"), await issue("used later")
    url, key = server.url("/api/publish", scheme="http"), guessed["public_key"]
    body = {"key": key, "secret": used["secret"], "channelId": "1", "message": "a"}
    assert (await owner.post(url, json=body)).status_code == 401
    jwt = tokens.sign(used["secret"], f"private-{channel}", 60)
    assert (await (await connect(f"private-{channel}", f"jwt={jwt}", key=key)).ending())[1] == 4009
    assert (await owner.post(url, json={**body, "key": used["public_key"]})).status_code == 200
    async with asyncio.timeout(20):  # uses are recorded in order, so the other key's would be there first
        while (await owner.get(f"keys/{used['public_key']}/")).json()["last_used_at"] is None:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    assert (await owner.get(f"keys/{key}/")).json()["last_used_at"] is None


async def test_a_cluster_that_is_off_has_no_connections_until_it_is_on_again(
    owner: httpx.AsyncClient, connect: Connect, channel: str
) -> None:
    await owner.post("clusters/", json={"account": (await account_of(owner)), "cluster_id": "switch"})
    key = (await owner.post("keys/", json={"cluster": "switch", "label": "x"})).json()["public_key"]
    cluster = (await owner.get("clusters/?search=switch")).json()["results"]
    pk = next(found["id"] for found in cluster if found["cluster_id"] == "switch")
    client = await connect(channel, key=key)
    await client.settle()
    await owner.patch(f"clusters/{pk}/", json={"enabled": False})
    assert await client.ending() == ([error(closes.CLUSTER_OFF)], 4003)
    assert await (await connect(channel, key=key)).ending() == ([error(closes.CLUSTER_OFF)], 4003)
    await owner.patch(f"clusters/{pk}/", json={"enabled": True})
    await (await connect(channel, key=key)).settle()


async def test_publishing_fails_when_the_cluster_is_off_the_secret_rotated_or_the_key_revoked(
    owner: httpx.AsyncClient, server: LiveServer
) -> None:
    account = await account_of(owner)
    made = (await owner.post("clusters/", json={"account": account, "cluster_id": "publishing"})).json()
    issued = (await owner.post("keys/", json={"cluster": "publishing", "label": "x"})).json()
    key, url = issued["public_key"], server.url("/api/publish", scheme="http")

    async def publish(secret: str) -> tuple[int, str]:
        body = {"key": key, "secret": secret, "channelId": "1", "message": "a"}
        answer = await owner.post(url, json=body)
        return answer.status_code, answer.json().get("error", "")

    assert await publish(issued["secret"]) == (200, "")
    await owner.patch(f"clusters/{made['id']}/", json={"enabled": False})
    assert await publish(issued["secret"]) == (403, "The cluster is switched off; its owner can switch it on.")
    await owner.patch(f"clusters/{made['id']}/", json={"enabled": True})
    assert await publish(issued["secret"]) == (200, "")
    rotated = (await owner.post(f"keys/{key}/rotate-secret/")).json()["secret"]
    assert (await publish(issued["secret"]))[0] == 401
    assert await publish(rotated) == (200, "")
    await owner.delete(f"keys/{key}/")
    assert (await publish(rotated))[0] == 401


async def test_a_key_that_starts_to_protect_its_channels_keeps_only_connections_with_a_jwt(
    owner: httpx.AsyncClient, connect: Connect, channel: str
) -> None:
    issued = (await owner.post("keys/", json={"cluster": "demo", "label": "x"})).json()
    key, jwt = issued["public_key"], tokens.sign(issued["secret"], channel, 60)
    known, unknown = await connect(channel, f"jwt={jwt}", key=key), await connect(channel, key=key)
    await unknown.settle()
    await owner.patch(f"keys/{key}/", json={"protects_channels": True})
    assert await unknown.ending() == ([error(closes.BAD_JWT)], 4009)
    await known.settle()


async def test_rotating_a_secret_closes_the_connections_that_its_jwts_have_opened(
    owner: httpx.AsyncClient, connect: Connect, channel: str
) -> None:
    issued = (await owner.post("keys/", json={"cluster": "demo", "label": "x"})).json()
    key, jwt = issued["public_key"], tokens.sign(issued["secret"], channel, 60)
    with_jwt, without = await connect(channel, f"jwt={jwt}", key=key), await connect(channel, key=key)
    assert await without.count() == 2
    rotated = (await owner.post(f"keys/{key}/rotate-secret/")).json()
    assert await with_jwt.ending() == ([error(closes.BAD_JWT)], 4009)
    assert (await (await connect(channel, f"jwt={jwt}", key=key)).ending())[1] == 4009
    again = await connect(channel, f"jwt={tokens.sign(rotated['secret'], channel, 60)}", key=key)
    assert await again.count() == await without.count() == 2


async def test_during_an_overlap_both_secrets_work_and_at_its_end_the_connections_of_the_old_one_are_closed(
    owner: httpx.AsyncClient, server: LiveServer, connect: Connect, channel: str
) -> None:
    issued = (await owner.post("keys/", json={"cluster": "demo", "label": "x"})).json()
    key, url = issued["public_key"], server.url("/api/publish", scheme="http")
    before = await connect(channel, f"jwt={tokens.sign(issued['secret'], channel, 60)}", key=key)
    await before.settle()
    answer = await owner.post(f"keys/{key}/rotate-secret/", json={"overlap_seconds": 8})
    rotated = answer.json()
    during, new = [
        await connect(channel, f"jwt={tokens.sign(secret, channel, 60)}", key=key)
        for secret in (issued["secret"], rotated["secret"])
    ]
    assert await new.count() == 3
    body = {"key": key, "channelId": channel, "message": "a"}
    for secret in (issued["secret"], rotated["secret"]):
        assert (await owner.post(url, json={**body, "secret": secret})).status_code == 200
    for client in (before, during):
        frames, code = await client.ending()
        assert (frames[-1], code) == (error(closes.BAD_JWT), 4009)
    assert time.time() >= datetime.fromisoformat(rotated["old_secret_ends_at"]).timestamp()
    assert (await owner.post(url, json={**body, "secret": issued["secret"]})).status_code == 401
    assert await new.receive() == await new.receive() == "a"
    assert await new.count() == 1


async def test_ending_an_overlap_early_closes_the_connections_of_the_old_secret(
    owner: httpx.AsyncClient, connect: Connect, channel: str
) -> None:
    issued = (await owner.post("keys/", json={"cluster": "demo", "label": "x"})).json()
    key, old = issued["public_key"], f"jwt={tokens.sign(issued['secret'], channel, 60)}"
    rotated = (await owner.post(f"keys/{key}/rotate-secret/", json={"overlap_seconds": 3600})).json()
    of_old = await connect(channel, old, key=key)
    of_new = await connect(channel, f"jwt={tokens.sign(rotated['secret'], channel, 60)}", key=key)
    assert await of_old.count() == 2
    assert (await owner.post(f"keys/{key}/end-old-secret/")).json()["old_secret_ends_at"] is None
    assert await of_old.ending() == ([error(closes.BAD_JWT)], 4009)
    assert (await (await connect(channel, old, key=key)).ending())[1] == 4009
    assert await of_new.count() == 1


async def test_a_key_can_close_connections_when_their_jwt_expires(
    owner: httpx.AsyncClient, connect: Connect, channel: str
) -> None:
    body = {"cluster": "demo", "label": "x", "closes_expired_connections": True}
    issued = (await owner.post("keys/", json=body)).json()
    key = issued["public_key"]

    async def connect_for(seconds: int) -> Client:
        return await connect(channel, f"jwt={tokens.sign(issued['secret'], channel, seconds)}", key=key)

    expires_at = int(time.time()) + 6
    short, long, without = await connect_for(6), await connect_for(3600), await connect(channel, key=key)
    assert await without.count() == 3
    assert await short.ending() == ([error(closes.BAD_JWT)], 4009)
    assert time.time() >= expires_at
    assert await long.count() == 2
    await without.settle()


async def test_open_connections_follow_when_a_key_starts_or_stops_to_close_expired_ones(
    owner: httpx.AsyncClient, connect: Connect, channel: str
) -> None:
    issued = (await owner.post("keys/", json={"cluster": "demo", "label": "x"})).json()
    key = issued["public_key"]
    client = await connect(channel, f"jwt={tokens.sign(issued['secret'], channel, 2)}", key=key)
    await client.settle()
    expires_at = time.time() + 2
    await owner.patch(f"keys/{key}/", json={"closes_expired_connections": True})
    await owner.patch(f"keys/{key}/", json={"closes_expired_connections": False})
    await until(lambda: time.time() > expires_at)
    await client.settle()
    await owner.patch(f"keys/{key}/", json={"closes_expired_connections": True})
    assert await client.ending() == ([error(closes.BAD_JWT)], 4009)


async def account_of(owner: httpx.AsyncClient) -> int:
    return int((await owner.get("accounts/")).json()["results"][0]["id"])


async def test_disallowing_client_messages_or_an_origin_affects_open_connections(
    owner: httpx.AsyncClient, connect: Connect, channel: str
) -> None:
    key = (await owner.post("keys/", json={"cluster": "demo", "label": "x"})).json()["public_key"]
    server_like, browser = await connect(channel, key=key), await connect(channel, key=key, origin="https://a.org")
    await browser.settle()
    await owner.patch(f"keys/{key}/", json={"allowed_origins": ["b.org"], "allows_client_messages": False})
    assert await browser.ending() == ([error(closes.BAD_ORIGIN)], 4003)
    assert "does not allow clients" in str(await server_like.ask("a"))
    await owner.patch(f"keys/{key}/", json={"protects_channels": True})
    assert await server_like.ending() == ([error(closes.BAD_JWT)], 4009)


async def test_deleting_a_cluster_closes_its_connections(
    owner: httpx.AsyncClient, connect: Connect, channel: str
) -> None:
    made = (await owner.post("clusters/", json={"account": (await account_of(owner)), "cluster_id": "gone"})).json()
    key = (await owner.post("keys/", json={"cluster": "gone", "label": "x"})).json()["public_key"]
    client = await connect(channel, key=key)
    await client.settle()
    await owner.delete(f"clusters/{made['id']}/")
    assert await client.ending() == ([error(closes.KEY_REVOKED)], 4001)


DOOMED_ACCOUNT = """
from accounts import services
from accounts.models import Role
from accounts.users import User
owner = User.objects.get(email="owner@example.com")
account = services.create_account("Doomed", owner)
clusters = [services.create_cluster(account, name) for name in ("doomed-a", "doomed-b")]
print(account.pk, *(services.issue_key(cluster, "x").key.public_key for cluster in clusters for _ in range(2)))
"""


async def test_deleting_an_account_closes_the_connections_of_all_its_keys(
    owner: httpx.AsyncClient, server: LiveServer, connect: Connect, channel: str
) -> None:
    account, *keys = server.shell(DOOMED_ACCOUNT).split()
    clients = [await connect(channel, key=key) for key in keys for _ in range(2)]
    other = await connect(channel)
    for client in [*clients, other]:
        await client.settle()
    assert (await owner.delete(f"accounts/{account}/")).status_code == 204
    for client in clients:
        assert await client.ending() == ([error(closes.KEY_REVOKED)], 4001)
    await other.settle()
    assert await (await connect(channel, key=keys[0])).ending() == ([error(closes.BAD_KEY)], 4001)


async def test_suspending_an_account_in_the_admin_closes_its_connections(
    server: LiveServer, connect: Connect, channel: str, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    """The suspended account is the stranger's, which no other test of this module uses."""
    if isinstance(server, Balanced):
        pytest.skip("tests/nodes/test_proxies.py logs into the admin behind a proxy.")
    server.shell(MAKE_ADMIN)
    client, unconcerned = await connect(channel, key="other"), await connect(channel)
    await client.settle()
    async with httpx.AsyncClient(base_url=server.url("", scheme="http"), trust_env=False) as admin:
        await sign_in(admin)
        account = server.shell(OTHER_ACCOUNT).strip()
        await apply_action(admin, "suspend", account)
        assert await client.ending() == ([error(closes.ACCOUNT_SUSPENDED)], 4003)
        assert await (await connect(channel, key="other")).ending() == ([error(closes.ACCOUNT_SUSPENDED)], 4003)
        body = {"key": keys["other"], "secret": secrets["other"], "channelId": channel, "message": "a"}
        refused = await admin.post("/api/publish", json=body)
        assert (refused.status_code, "suspended" in refused.json()["error"]) == (403, True)
        await apply_action(admin, "resume", account)
    await (await connect(channel, key="other")).settle()
    await unconcerned.settle()


MAKE_ADMIN = """
from django.contrib.auth import get_user_model
get_user_model().objects.create_superuser("admin@example.com", password="admin-password")
"""
OTHER_ACCOUNT = "from accounts.models import Account; print(Account.objects.get(name='Other').pk)"


async def sign_in(admin: httpx.AsyncClient) -> None:
    await admin.get("/console/you/login/")
    form = {
        "login": "admin@example.com",
        "password": "admin-password",
        "csrfmiddlewaretoken": admin.cookies["csrftoken"],
    }
    assert (await admin.post("/console/you/login/?next=/admin/", data=form)).status_code == 302


async def apply_action(admin: httpx.AsyncClient, verb: str, account: str) -> None:
    """Apply an action in the admin's list of accounts."""
    page = (await admin.get("/admin/accounts/account/")).text
    action = next(part.split('"')[0] for part in page.split('<option value="') if part.startswith(verb))
    form = {
        "action": action,
        "_selected_action": account,
        "confirmed": "yes",
        "csrfmiddlewaretoken": admin.cookies["csrftoken"],
    }
    assert (await admin.post("/admin/accounts/account/", data=form)).status_code == 302


async def test_revoking_a_key_while_many_clients_connect_leaves_none_connected(
    owner: httpx.AsyncClient, connect: Connect, channel: str
) -> None:
    key = (await owner.post("keys/", json={"cluster": "demo", "label": "storm"})).json()["public_key"]
    storm: Any = asyncio.gather(*(connect(channel, key=key) for _ in range(150)))
    await asyncio.sleep(0.05)
    await owner.delete(f"keys/{key}/")
    endings: list[tuple[list[str | bytes], int]] = [await client.ending() for client in await storm]
    refusals: list[Close] = [closes.KEY_REVOKED, closes.BAD_KEY]
    assert all(code == 4001 and frames in [[error(close)] for close in refusals] for frames, code in endings)
    assert await (await connect(channel)).count() == 1
