"""Every way to name a Redis works, and services that share one do not notice each other."""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from tests.nodes.agreement import Crowd, check_served
from tests.servers import LiveServer, Redis, need

Start = Callable[..., LiveServer]
PASSWORD, WRONG = "a secret: @/%#?", "not the: @/%#? password"
# How many lines a node may log about a Redis that rejects it.
MAX_LINES = 12


def over_a_unix_socket(directory: Path) -> tuple[Redis, str]:
    path = directory / "redis.sock"
    return Redis(directory, "--unixsocket", str(path)), f"unix://{path}"


def over_tls(directory: Path) -> tuple[Redis, str]:
    server = Redis(directory, tls=True)
    return server, server.url


def with_user_and_password(directory: Path) -> tuple[Redis, str]:
    users = directory / "users.acl"
    users.write_text(f"user default off\nuser node on #{digest(PASSWORD)} ~* &* +@all\n")
    server = Redis(directory, "--aclfile", str(users))
    return server, server.url.replace("//", f"//node:{quote(PASSWORD, safe='')}@")


def digest(password: str) -> str:
    """Return the hash of a password as Redis keeps it."""
    return sha256(password.encode()).hexdigest()


@pytest.mark.parametrize("way", [over_a_unix_socket, over_tls, with_user_and_password])
async def test_two_nodes_act_as_one(
    way: Callable[[Path], tuple[Redis, str]],
    start: Start,
    keys: dict[str, str],
    secrets: dict[str, str],
    tmp_path: Path,
) -> None:
    need("redis-server")
    server, url = way(tmp_path)
    with server:
        nodes = [start(kind, REDIS_URL=url) for kind in ("serve", "daphne")]
        async with AsyncExitStack() as stack:
            await Crowd(nodes, keys["demo"], secrets["demo"], stack).gather()
        for node in nodes:
            assert node.stop() == 0
            assert PASSWORD not in node.log
            assert quote(PASSWORD, safe="") not in node.log


async def test_a_wrong_password_is_logged_rarely_and_without_it(
    start: Start, keys: dict[str, str], secrets: dict[str, str], tmp_path: Path
) -> None:
    need("redis-server")
    server, url = with_user_and_password(tmp_path)
    with server:
        begun = time.monotonic()
        node = start("serve", REDIS_URL=url.replace(quote(PASSWORD, safe=""), quote(WRONG, safe="")))
        async with AsyncExitStack() as stack:
            crowd = Crowd([node], keys["demo"], secrets["demo"], stack)
            await asyncio.sleep(begun + 10 - time.monotonic())
            await check_served(crowd, node, "alone", 5)
        assert node.stop() == 0
    lines = [line for line in node.log.splitlines() if re.match(r"\d{4}-", line)]
    print(node.log)
    assert 1 <= len(lines) <= MAX_LINES
    for secret in (WRONG, quote(WRONG), quote(WRONG, safe="")):
        assert secret not in node.log


def two_databases(url: str) -> list[dict[str, str]]:
    return [{"REDIS_URL": url.replace("/0", f"/{number}")} for number in (5, 6)]


def two_prefixes(url: str) -> list[dict[str, str]]:
    return [{"REDIS_URL": url, "REDIS_PREFIX": prefix} for prefix in ("first", "second")]


@pytest.mark.parametrize("separate", [two_databases, two_prefixes])
async def test_services_on_one_redis_do_not_notice_each_other(
    separate: Callable[[str], list[dict[str, str]]],
    start: Start,
    keys: dict[str, str],
    secrets: dict[str, str],
    tmp_path: Path,
) -> None:
    with Redis(tmp_path) as server:
        settings = separate(server.url)
        nodes = [start("serve", **env) for env in (*settings, settings[0])]
        first, second, again = nodes
        async with AsyncExitStack() as stack:
            # Both have the same tenants, so the same cluster, channels and key.
            crowds = [Crowd(some, keys["demo"], secrets["demo"], stack) for some in ([first, again], [second])]
            for crowd in crowds:
                await crowd.gather()
            for number in range(20):
                await crowds[1].clients[0].send("from the second")
                await crowds[0].clients[0].send(f"from the first {number}")
                assert await crowds[0].clients[1].receive() == f"from the first {number}"
            for crowd in crowds:
                for client in crowd.clients:
                    await client.settle()
            for crowd in crowds:  # once more, when each has had the time to notice the other
                await crowd.until_exact()
            for node in (first, second):
                node.token("owner@example.com")
        found = [keys_in(env["REDIS_URL"]) for env in settings]
        prefixes = [f"{env.get('REDIS_PREFIX', 'piesocket')}:{env['REDIS_URL'][-1]}:" for env in settings]
        for names, prefix in zip(found, prefixes, strict=True):
            assert any(name.startswith(prefix) and "login_from_" in name for name in names)
            assert any(name.startswith(f"{prefix}lease:") for name in names)
            assert all(name.startswith(tuple(prefixes)) for name in names)
        for node in nodes:
            node.stop()


def keys_in(url: str) -> list[str]:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return list(client.keys("*"))
