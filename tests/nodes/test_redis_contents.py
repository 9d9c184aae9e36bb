"""What the nodes keep in Redis: it may be lost at any time, in whole or in part, and nothing in it is run as code."""

import asyncio
import json
import pickle
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from realtime.cluster.redis_connection_counts import LEASE_SECONDS
from tests.clients import until
from tests.nodes.agreement import Crowd
from tests.servers import LiveServer, Redis

Start = Callable[..., LiveServer]
Contents = dict[str, Any]
# How long it may take until everything is exact again, in seconds.
RECOVERY_SECONDS = 30
PREFIX = "piesocket:0:"
LOGIN = {"email": "owner@example.com", "password": "owner-password"}


def contents(client: "redis.Redis[str]") -> Contents:
    """Return the names of all keys of the nodes, and the values of the hashes and sets."""
    read = {"hash": client.hgetall, "set": client.smembers, "string": lambda name: None}
    return {name: read[client.type(name)](name) for name in client.keys(f"{PREFIX}[a-z]*")}


@pytest.fixture
async def crowd(start: Start, keys: dict[str, str], secrets: dict[str, str], server: Redis) -> AsyncIterator[Crowd]:
    """Clients on two nodes."""
    nodes = [start("serve", REDIS_URL=server.url) for _ in range(2)]
    async with AsyncExitStack() as stack:
        crowd = Crowd(nodes, keys["demo"], secrets["demo"], stack)
        await crowd.gather()
        yield crowd
    for node in nodes:
        node.stop()


@pytest.fixture
def policy(request: pytest.FixtureRequest) -> str:
    """The maxmemory-policy of the Redis."""
    return getattr(request, "param", "noeviction")


@pytest.fixture
def server(tmp_path: Path, policy: str) -> Iterator[Redis]:
    with Redis(tmp_path, "--maxmemory-policy", policy) as server:
        yield server


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"], indirect=True)
async def test_everything_is_exact_again_when_an_empty_redis_replaces_the_old_one(
    crowd: Crowd, server: Redis, policy: str
) -> None:
    server.stop(signal.SIGKILL)
    server.start()
    print(f"exact again after {await crowd.until_exact(RECOVERY_SECONDS):.1f} s")
    await asyncio.sleep(LEASE_SECONDS)  # in which rosters are compared, and the members of dead nodes leave
    await crowd.until_exact()
    for member in crowd.members:
        assert [event for event in member.events if event["event"] == "system:member_left"] == []
    warnings = 0 if policy == "noeviction" else 1
    for node in crowd.nodes:
        await until(lambda node=node: node.log.count("maxmemory-policy") == warnings)  # type: ignore[misc]


async def test_everything_is_exact_again_after_redis_has_evicted_it(crowd: Crowd, server: Redis) -> None:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        await until(lambda: len(client.keys(f"{PREFIX}seats:*")) == len(client.keys(f"{PREFIX}lease:*")) == 2)
        before = contents(client)
        kinds = {name.removeprefix(PREFIX).partition(":")[0] for name in before}
        assert kinds == {"nodes", "lease", "channels", "clusters", "users", "seats", "groups"}
        for evicted in (lambda name: "lease:" not in name, lambda name: "lease:" in name, lambda name: True):
            for name in filter(evicted, before):
                assert client.delete(name), name
            await crowd.until_exact(RECOVERY_SECONDS)
            await until(lambda: contents(client) == before, RECOVERY_SECONDS)


class Attack:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


async def test_the_cache_holds_json_and_nothing_that_is_planted_there_runs(
    start: Start, server: Redis, tmp_path: Path
) -> None:
    planted = tmp_path / "planted"
    node = start("serve", REDIS_URL=server.url)
    with redis.Redis.from_url(server.url) as client:
        async with node.http_client("/api/v1/") as http:

            async def use_throttles() -> list[int]:
                """Log in, with a wrong password too, and read with and without a login; return the statuses."""
                http.headers.pop("Authorization", None)
                wrong = await http.post("token/", json={**LOGIN, "password": "wrong"})
                anonymous = await http.get("schema/")
                right = await http.post("token/", json=LOGIN)
                http.headers["Authorization"] = f"Token {right.json().get('token')}"
                return [answer.status_code for answer in (wrong, anonymous, right, await http.get("clusters/"))]

            assert await use_throttles() == [400, 200, 200, 200]
            names = client.keys(f"{PREFIX}:1:*")  # those of Django
            kinds = {"login_from_", "login_as_", "used_token_", "throttle_anon_", "throttle_user_"}
            assert all(any(kind.encode() in name for name in names) for kind in kinds), names
            for name in names:
                json.loads(client.get(name))
            for name in names:
                client.set(name, pickle.dumps(Attack(planted), 5), ex=60)
            assert await use_throttles() == [400, 200, 200, 200]
            throttles = [name for name in names if b"throttle_" in name]
            assert all(json.loads(client.get(name)) for name in throttles)  # read, and written anew
            assert not planted.exists()
    node.stop()
