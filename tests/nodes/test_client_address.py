"""The address of a client is the one that the proxy saw, whatever the client claims; without a proxy, the peer's."""

from collections.abc import Callable

import httpx
import pytest

from realtime.server.addresses import MAX_GUESSES_AT_KEY
from tests.nodes.conftest import Http
from tests.proxies import Balanced
from tests.servers import LiveServer

# Every node counts separately.
GUESSES_AT_ALL_NODES = 2 * MAX_GUESSES_AT_KEY
LOGINS_A_MINUTE = 10


def spoofed(number: int) -> dict[str, str]:
    """Return headers that claim a different client address for each number."""
    address = f"198.51.100.{number}"
    return {"X-Forwarded-For": address, "X_Forwarded_For": address, "X-Real-IP": address, "Forwarded": f"for={address}"}


async def guess(client: httpx.AsyncClient, key: str, headers: dict[str, str] | list[tuple[str, str]]) -> int:
    body = {"key": key, "secret": "wrong", "channelId": "1", "message": ""}
    return (await client.post("/api/publish", json=body, headers=headers)).status_code


async def test_guesses_at_secrets_are_throttled_whatever_address_the_client_claims(
    server: Balanced, http: Http, keys: dict[str, str]
) -> None:
    key = keys["second" if server.kind == "haproxy" else "silent"]
    client = await http()
    answers = [await guess(client, key, spoofed(number)) for number in range(GUESSES_AT_ALL_NODES + 1)]
    assert answers[:MAX_GUESSES_AT_KEY] == [401] * MAX_GUESSES_AT_KEY
    assert answers[-1] == 429
    assert await guess(await http("127.0.0.2"), key, {}) == 401


async def test_guesses_at_passwords_are_throttled_whatever_address_the_client_claims(
    server: Balanced, http: Http
) -> None:
    async def log_in(client: httpx.AsyncClient, number: int) -> int:
        credentials = {"email": f"{server.kind}-{number}@example.com", "password": "wrong"}
        return (await client.post("/api/v1/token/", json=credentials, headers=spoofed(number))).status_code

    # Each proxy gets its own client address, since the nodes count together.
    client = await http("127.0.0.3" if server.kind == "haproxy" else "127.0.0.4")
    answers = [await log_in(client, number) for number in range(LOGINS_A_MINUTE + 1)]
    assert answers == [400] * LOGINS_A_MINUTE + [429]
    assert await log_in(await http("127.0.0.5"), 99) == 400


@pytest.fixture(scope="module", params=[0, 1, 2])
def service(request: pytest.FixtureRequest, start: Callable[..., LiveServer]) -> tuple[int, LiveServer]:
    """A number of proxies, and a server that expects so many; the tests send the headers that these would add."""
    return request.param, start("serve", NUM_PROXIES=str(request.param))


ONE_LINE = [["198.51.100.1, 203.0.113.1, 192.0.2.1"], ["198.51.100.2, 203.0.113.1, 192.0.2.1"]]
ONE_LINE_PER_PROXY = [["198.51.100.1", "203.0.113.2", "192.0.2.2"], ["198.51.100.2", "203.0.113.2", "192.0.2.2"]]
OTHER_CLIENTS = [["203.0.113.3, 192.0.2.3"], ["203.0.113.4, 192.0.2.3"]]
OTHER_CLIENTS_ONE_LINE_PER_PROXY = [["203.0.113.6", "192.0.2.6"], ["203.0.113.7", "192.0.2.6"]]
OTHER_PROXIES = [["203.0.113.5, 192.0.2.4"], ["203.0.113.5, 192.0.2.5"]]


@pytest.mark.parametrize(
    ("forwarded", "is_same_for"),
    [
        pytest.param(ONE_LINE, {0, 1, 2}, id="addresses that a client claims"),
        pytest.param(ONE_LINE_PER_PROXY, {0, 1, 2}, id="addresses that a client claims in separate lines"),
        pytest.param(OTHER_CLIENTS, {0, 1}, id="different clients of one proxy"),
        pytest.param(OTHER_CLIENTS_ONE_LINE_PER_PROXY, {0, 1}, id="different clients, and one line per proxy"),
        pytest.param(OTHER_PROXIES, {0, 2}, id="one client through different proxies"),
    ],
)
async def test_the_number_of_proxies_determines_which_address_counts(
    service: tuple[int, LiveServer], forwarded: list[list[str]], is_same_for: set[int], channel: str
) -> None:
    proxies, server = service
    key = channel.ljust(60, "k")
    first, second = ([("X-Forwarded-For", line) for line in lines] for lines in forwarded)
    async with httpx.AsyncClient(base_url=server.url("", scheme="http"), trust_env=False) as client:
        for _ in range(MAX_GUESSES_AT_KEY):
            assert await guess(client, key, first) == 401
        assert await guess(client, key, second) == (429 if proxies in is_same_for else 401)
