"""Lists of accounts and keys ask Redis once for the connections of all their rows."""

from collections.abc import Iterator

import pytest
import redis
from django.test import Client
from pytest_django import Settings

from accounts import services
from accounts.models import Account, ApiKey, Cluster
from accounts.users import User
from tests.control.conftest import As
from tests.servers import Redis

pytestmark = pytest.mark.django_db
PREFIX = "piesocket:0:"
ROWS = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def store(server: Redis, settings: Settings) -> Iterator[redis.Redis]:
    """The Redis that the project asks, in which two nodes hold a lease."""
    settings.REDIS_URLS, settings.REDIS_PREFIX = [server.url], PREFIX
    with redis.Redis.from_url(server.url) as store:
        store.flushall()
        store.sadd(f"{PREFIX}nodes", "one", "two", "dead")
        for node in ("one", "two"):
            store.set(f"{PREFIX}lease:{node}", "complete")
        store.config_resetstat()
        yield store


def connect(store: redis.Redis, node: str, user: str, count: int) -> None:
    store.hset(f"{PREFIX}users:{node}", user, str(count))


def questions(store: redis.Redis) -> int:
    """Return how many scripts have run."""
    return int(store.info("commandstats").get("cmdstat_eval", {"calls": 0})["calls"])


@pytest.fixture
def keys(cluster: Cluster) -> list[ApiKey]:
    return [services.issue_key(cluster, f"key {number:02}").key for number in range(ROWS)]


@pytest.fixture
def accounts(owner: User) -> list[Account]:
    return [services.create_account(f"Account {number:02}", owner) for number in range(ROWS)]


def test_a_list_of_keys_asks_redis_once(as_: As, owner: User, keys: list[ApiKey], store: redis.Redis) -> None:
    connect(store, "one", f"key:{keys[0].public_key}", 3)
    connect(store, "two", f"key:{keys[0].public_key}", 4)
    connect(store, "two", f"key:{keys[1].public_key}", 5)
    connect(store, "dead", f"key:{keys[1].public_key}", 6)
    rows = as_(owner).get("/api/v1/keys/").json()["results"]
    counts = {row["public_key"]: row["usage"]["connections"] for row in rows}
    assert counts == {**{key.public_key: 0 for key in keys}, keys[0].public_key: 7, keys[1].public_key: 5}
    assert questions(store) == 1


def test_a_list_of_accounts_asks_redis_once(as_: As, owner: User, accounts: list[Account], store: redis.Redis) -> None:
    connect(store, "one", f"account:{accounts[2].pk}", 8)
    rows = as_(owner).get("/api/v1/accounts/").json()["results"]
    counts = {row["id"]: row["usage"]["connections"] for row in rows}
    assert counts == {account.pk: 8 if account == accounts[2] else 0 for account in accounts}
    assert questions(store) == 1


@pytest.mark.parametrize("model", ["account", "apikey"])
def test_the_lists_of_the_admin_ask_redis_once(
    admin_client: Client, accounts: list[Account], keys: list[ApiKey], store: redis.Redis, model: str
) -> None:
    connect(store, "one", f"account:{accounts[2].pk}", 987)
    connect(store, "one", f"key:{keys[2].public_key}", 987)
    page = admin_client.get(f"/admin/accounts/{model}/").content.decode()
    assert page.count('<td class="field-connections">987</td>') == 1
    assert page.count('<td class="field-connections">0</td>') >= ROWS - 1
    assert questions(store) == 1


def test_empty_lists_do_not_ask_redis(as_: As, stranger: User, store: redis.Redis) -> None:
    assert as_(stranger).get("/api/v1/keys/").json()["results"] == []
    assert questions(store) == 0
