"""The values in `/metrics` after conversations that determine each of them."""

import platform
from collections.abc import Callable

import httpx
import pytest

from piesite import __version__
from tests.clients import channel_path, open_client
from tests.conftest import SERVERS, Connect
from tests.metrics import Scrape, scrape, until
from tests.servers import LiveServer

MIB = 1024 * 1024


@pytest.fixture(params=[kind for kind in SERVERS if kind in ("serve", "uvicorn")])
def server(request: pytest.FixtureRequest, start: Callable[..., LiveServer]) -> LiveServer:
    """A separate server for each test, so every value starts at 0."""
    return start(request.param)


async def publish(server: LiveServer, body: object, secret: str) -> int:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(server.url("/api/publish", scheme="http"), json=body, headers={"secret": secret})
    return answer.status_code


async def test_a_conversation_is_counted_exactly(
    server: LiveServer, connect: Connect, keys: dict[str, str], secrets: dict[str, str], channel: str
) -> None:
    sender, echo = await connect(channel), await connect(channel, "notify_self")
    receiver, elsewhere = await connect(channel), await connect(f"{channel}-b")
    await sender.send("hello")  # 7 bytes as a frame
    await sender.send(bytes(130))  # 134
    await echo.send("x")  # 3
    body = {"key": keys["demo"], "channelId": channel, "message": "from a server"}  # 15
    assert await publish(server, body, secrets["demo"]) == 200
    assert await publish(server, body, "wrong") == 401
    for client, count in ((sender, 2), (echo, 4), (receiver, 4), (elsewhere, 0)):
        for _ in range(count):
            await client.receive()
        await client.settle()
    numbers = scrape(server)
    assert (numbers["connections"], numbers["connections_opened_total"], numbers["channels"]) == (4, 4, 2)
    assert numbers["processes"] == 1
    assert numbers["build_info", platform.python_version(), __version__] == 1
    assert numbers.some("messages_received_total") == {"client": 3, "server": 1}
    assert numbers["deliveries_total"] == 2 + 2 + 3 + 3
    assert numbers["delivered_bytes_total"] == 2 * (7 + 134) + 3 * (3 + 15)
    assert numbers.some("api_answers_total") == {"200": 1, "401": 1}
    assert (numbers["publish_seconds_count"], numbers["publish_seconds_bucket", "+Inf"]) == (1, 1)
    assert 0 < numbers["publish_seconds_sum"] < 1
    assert 0 <= numbers["loop_lag_seconds"] < 1
    assert (
        numbers.some("refusals_total") == numbers.some("closes_total") == numbers.some("messages_refused_total") == {}
    )
    assert "redis_up" not in numbers

    await elsewhere.socket.close()
    numbers = await until(lambda numbers: numbers["connections"] == 3, server)
    assert (numbers["channels"], numbers["connections_opened_total"]) == (1, 4)
    assert numbers.some("closes_total") == {}, "the client closed it, not the server"


async def test_messages_that_share_a_write_are_counted_individually(
    server: LiveServer, connect: Connect, channel: str
) -> None:
    sender, *receivers = [await connect(channel) for _ in range(4)]
    for number in range(1000):
        await sender.send(f"{number:03}"[:3])
    for receiver in receivers:
        for _ in range(1000):
            await receiver.receive()
    numbers = scrape(server)
    assert numbers.some("messages_received_total") == {"client": 1000}
    assert (numbers["deliveries_total"], numbers["delivered_bytes_total"]) == (3000, 15000)


async def test_refusals_are_counted_by_reason_and_closes_by_code(
    server: LiveServer, connect: Connect, channel: str
) -> None:
    refused = [
        await connect(channel, key="unknown"),
        await connect(channel, key=""),
        await connect("a/b/c"),
        await connect(channel, "notify_self=maybe"),
        await connect(channel, key="browser", origin="https://evil.org"),
        await connect("private-x"),
    ]
    for client in refused:
        await client.ending()
    numbers = scrape(server)
    assert numbers.some("refusals_total") == {"bad_key": 2, "bad_request": 2, "bad_origin": 1, "bad_jwt": 1}
    assert numbers.some("closes_total") == {"4001": 2, "4000": 2, "4003": 1, "4009": 1}
    assert (numbers["connections"], numbers["connections_opened_total"]) == (0, 0)


async def test_rejected_messages_are_counted_by_reason(server: LiveServer, connect: Connect, channel: str) -> None:
    silent, forger = await connect(channel, key="silent"), await connect(channel)
    await silent.ask("a")
    await forger.ask('{"event":"system:member_left"}')
    await forger.ask("cmd_unknown")
    numbers = scrape(server)
    assert numbers.some("messages_refused_total") == {"not_allowed": 1, "forged": 1}
    assert numbers.some("messages_received_total") == {}


async def test_a_client_that_reads_too_slowly_is_counted(server: LiveServer, connect: Connect, channel: str) -> None:
    sender, slow = await connect(channel), await connect(channel)
    for _ in range(400):
        await sender.send("x" * 65536)
    await until(lambda numbers: numbers.some("closes_total") == {"4100": 1}, server)
    assert (await slow.ending())[1] == 4100
    await sender.settle()
    assert scrape(server).some("closes_total") == {"4100": 1}


async def test_closes_for_faults_that_the_server_layer_detects_are_counted_too(
    start: Callable[..., LiveServer], keys: dict[str, str], channel: str
) -> None:
    server = start("serve")
    path = channel_path(channel, keys["demo"])
    async with open_client(server, path) as big, open_client(server, path) as bad, open_client(server, path) as worse:
        await big.send(bytes(MIB + 1))
        bad.socket.protocol.send_text(b"\xff")
        bad.socket.send_data()
        worse.socket.transport.write(b"\xf1\x80\x00\x00\x00\x00")
        assert [(await client.ending())[1] for client in (big, bad, worse)] == [1009, 1007, 1002]
    assert scrape(server).some("closes_total") == {"1009": 1, "1007": 1, "1002": 1}


async def test_refusals_are_counted_when_the_database_is_unreachable(
    start: Callable[..., LiveServer], keys: dict[str, str]
) -> None:
    server = start("serve")
    (server.directory / "db.sqlite3").rename(server.directory / "away")
    async with open_client(server, channel_path("x", keys["demo"])) as client:
        assert await client.ending() == ([], 1013)
    assert scrape(server).some("refusals_total") == {"no_database": 1}


async def test_no_label_contains_a_tenant_or_a_channel(
    server: LiveServer, connect: Connect, keys: dict[str, str], channel: str
) -> None:
    def names(numbers: Scrape) -> set[str]:
        return {line.rpartition(" ")[0] for line in numbers.text.splitlines()}

    await (await connect(channel)).settle()
    before = names(scrape(server))
    clients = [await connect(f"{channel}-{number}", key=key) for number, key in enumerate(("second", "other") * 5)]
    for client in clients:
        await client.send("x")
        await client.settle()
    numbers = scrape(server)
    assert numbers.some("messages_received_total") == {"client": 10}
    assert names(numbers) == before
    assert not any(word in numbers.text for word in (channel, "demo", "127.0.0.1", *keys.values()))
