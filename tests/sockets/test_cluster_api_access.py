"""Who may use the Cluster API: keys and their secrets, guesses, and pages of other origins."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from realtime.http import cluster_api, cluster_requests
from realtime.server import addresses
from tests.conftest import Connect
from tests.servers import LiveServer
from tests.sockets.cluster_api import SUCCESS, Publish, sentence


async def test_wrong_keys_and_wrong_secrets_get_the_same_error(
    publish: Publish, keys: dict[str, str], secrets: dict[str, str], channel: str, connect: Connect
) -> None:
    client = await connect(channel)
    wrong: list[dict[str, Any]] = [
        {"key": f"unknown-{channel}"},
        {"secret": secrets["second"]},
        {"secret": f"{secrets['demo']}x"},
        {"key": keys["second"]},
        {"secret": "é\u0000"},
        {"key": 7, "secret": []},
    ]
    for changed in wrong:
        status, message = sentence(await publish(channel, "a", **changed))
        assert status in (401, 429)
        assert message.startswith(cluster_requests.WRONG_KEY)
    await client.settle()


async def test_guessing_a_secret_is_rate_limited_and_the_right_secret_always_works(
    http: httpx.AsyncClient, keys: dict[str, str], secrets: dict[str, str], connect: Connect, channel: str
) -> None:
    client = await connect(channel)
    body = {"key": keys["protected"], "secret": "wrong", "channelId": channel, "message": "a"}
    answers = [await http.post("/api/publish", json=body) for _ in range(addresses.MAX_GUESSES_AT_KEY + 5)]
    statuses = [answer.status_code for answer in answers]
    assert sorted(set(statuses)) == [401, 429]
    assert statuses == sorted(statuses)
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    right = await http.post("/api/publish", json={**body, "secret": secrets["protected"]})
    assert (right.status_code, right.text) == SUCCESS
    assert await client.receive() == "a"


async def test_guessing_keys_is_rate_limited_by_address_and_the_right_secret_always_works(
    start: Callable[..., LiveServer], keys: dict[str, str], secrets: dict[str, str]
) -> None:
    server = start("serve")

    def from_address(address: str) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(local_address=address)
        return httpx.AsyncClient(base_url=server.url("", scheme="http"), trust_env=False, transport=transport)

    async with from_address("127.0.0.2") as guesser, from_address("127.0.0.3") as other:
        wrong = [{"key": f"{number:060}", "secret": "wrong"} for number in range(addresses.MAX_GUESSES_OF_ADDRESS + 1)]
        answers = [await guesser.get("/api/connections", headers=headers) for headers in wrong]
        assert [answer.status_code for answer in answers] == [401] * addresses.MAX_GUESSES_OF_ADDRESS + [429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert (await other.get("/api/connections", headers=wrong[0])).status_code == 401
        right = {"key": keys["demo"], "secret": secrets["demo"]}
        assert (await guesser.get("/api/connections", headers=right)).status_code == 200


async def test_a_secret_is_compared_in_constant_time_whether_or_not_the_key_exists(
    start: Callable[..., LiveServer], keys: dict[str, str], secrets: dict[str, str]
) -> None:
    server = start("daphne", application="tests.sockets.compared:application")
    right = secrets["demo"]
    tried = [(keys["demo"], right), (keys["demo"], "x" * 60), (keys["demo"], "x"), ("k" * 60, "x" * 60), ("", "x")]
    async with httpx.AsyncClient(base_url=server.url("", scheme="http"), trust_env=False) as http:
        statuses = [
            (await http.get("/api/connections", headers={"key": key, "secret": secret})).status_code
            for key, secret in tried
        ]
    assert statuses == [200, 401, 401, 401, 401]
    compared = [line for line in server.log.splitlines() if line.startswith("compared")]
    assert compared == [f"compared {len(secret)} characters" for _, secret in tried]


@pytest.mark.parametrize("path", ["/api/connections", "/api/connections/sum", "/api/domains"])
async def test_reading_connections_and_domains_requires_key_and_secret(
    http: httpx.AsyncClient, path: str, keys: dict[str, str]
) -> None:
    assert sentence(((await http.get(path)).status_code, (await http.get(path)).text)) == (401, cluster_api.NO_KEY)
    wrong = await http.get(path, headers={"key": keys["demo"], "secret": "wrong"})
    assert sentence((wrong.status_code, wrong.text))[0] in (401, 429)


async def test_browsers_can_read_answers_only_on_origins_that_the_key_allows(
    http: httpx.AsyncClient, keys: dict[str, str], secrets: dict[str, str], channel: str
) -> None:
    async def allowed(key: str, origin: str) -> str | None:
        body = {"key": keys[key], "secret": secrets[key], "channelId": channel, "message": "a"}
        answer = await http.post("/api/publish", json=body, headers={"Origin": origin})
        assert (answer.status_code, answer.text) == SUCCESS
        return answer.headers.get("access-control-allow-origin")

    assert await allowed("browser", "https://example.com") == "https://example.com"
    assert await allowed("browser", "https://evil.org") is None
    assert await allowed("demo", "https://example.com") is None


@pytest.mark.parametrize("path", ["/api/publish", "/api/connections"])
async def test_preflights_are_answered_alike_for_everyone(http: httpx.AsyncClient, path: str) -> None:
    answers = [
        await http.options(path, headers={"Origin": origin} if origin else {})
        for origin in ("https://example.com", "https://evil.org", "null", None)
    ]
    for answer in answers:
        headers = {name: value for name, value in answer.headers.items() if name != "date"}
        assert (answer.status_code, headers) == (204, {**headers, **PREFLIGHT})
        assert headers == {name: value for name, value in answers[0].headers.items() if name != "date"}


PREFLIGHT = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET, POST",
    "access-control-allow-headers": "content-type, key, secret, x-requested-with",
    "access-control-max-age": "600",
}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/publish", "x", 400),
        ("POST", "/api/publish", {"secret": "wrong"}, 401),
        ("POST", "/api/publish", {"key": "unknown"}, 401),
        ("POST", "/api/publish", {"channelId": "a b"}, 400),
        ("POST", "/api/publish", {"message": "x" * (1024 * 1024 + 1)}, 413),
        ("POST", "/api/publish", {"padding": "x" * (8 * 1024 * 1024)}, 413),
        ("POST", "/api/publish", {"padding": "x" * (17 * 1024 * 1024)}, 413),
        ("POST", "/api/publish/batch", {}, 400),
        ("GET", "/api/publish", None, 405),
        ("GET", "/api/connections", None, 401),
    ],
)
async def test_browsers_can_read_errors(
    http: httpx.AsyncClient,
    keys: dict[str, str],
    secrets: dict[str, str],
    channel: str,
    method: str,
    path: str,
    body: Any,
    status: int,
) -> None:
    if isinstance(body, dict):
        credentials = {"key": keys["browser"], "secret": secrets["browser"]}
        body = json.dumps({**credentials, "channelId": channel, "message": "a", **body})
    answer = await http.request(method, path, content=body, headers={"Origin": "https://example.com"})
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] in ("https://example.com", "*")


async def test_errors_of_a_key_that_is_known_can_be_read_only_on_origins_that_it_allows(
    http: httpx.AsyncClient, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    headers = {"key": keys["browser"], "secret": secrets["browser"], "Origin": "https://evil.org"}
    answer = await http.post("/api/publish", json={"channelId": "a b", "message": 1}, headers=headers)
    assert (answer.status_code, "access-control-allow-origin" in answer.headers) == (400, False)


async def test_no_secret_is_logged(server: LiveServer, secrets: dict[str, str]) -> None:
    assert not [name for name, secret in secrets.items() if secret in server.log]
