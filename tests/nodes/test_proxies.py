"""Two nodes, as clients see them through each proxy with its shipped configuration."""

import asyncio
import signal
import time

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError

from realtime.protocols import closes
from tests.clients import Client, channel_path, open_client
from tests.conftest import Connect
from tests.nodes.conftest import Http
from tests.nodes.spread import Pair, one_on_each
from tests.proxies import Balanced
from tests.sockets.test_refusals import error

# Longer than every timeout of the proxies except the one for open WebSockets, which exceeds the ping interval.
IDLE_SECONDS = 25


async def test_messages_cross_between_nodes_both_ways_in_order(pair: Pair) -> None:
    messages: list[str | bytes] = [*(str(number) for number in range(500)), b"\x00\xff", "", b"", "😀", "x" * 1_000_000]
    for sender, receiver in (pair, pair[::-1]):
        for message in messages:
            await sender.send(message)
        assert [await receiver.receive() for _ in messages] == messages
        await sender.settle()


async def test_connections_are_counted_on_both_nodes(pair: Pair) -> None:
    assert await pair[0].count() == await pair[1].count() >= 2


async def test_the_first_label_of_the_host_names_the_cluster(connect: Connect, channel: str) -> None:
    for client in (await connect(channel, host="demo.ws.test"), await connect(channel, key="other", host="ws.test")):
        await client.settle()
    stranger = await connect(channel, host="other.ws.test")
    assert await stranger.ending() == ([error(closes.BAD_KEY)], 4001)


async def test_a_message_published_through_the_proxy_reaches_the_clients_of_both_nodes(
    pair: Pair, http: Http, keys: dict[str, str], secrets: dict[str, str], channel: str
) -> None:
    headers = {"key": keys["demo"], "secret": secrets["demo"]}
    client = await http()
    for message in ("a", "b" * 1_000_000):
        answer = await client.post("/api/publish", headers=headers, json={"channelId": channel, "message": message})
        assert (answer.status_code, answer.text) == (200, '{"success":true}')
        assert [await client.receive() for client in pair] == [message, message]


async def test_idle_connections_stay_open(
    balanced: Balanced, nginx: Balanced, keys: dict[str, str], channel: str
) -> None:
    path = channel_path(channel, keys["demo"])
    async with open_client(balanced, path) as first, open_client(nginx, path) as second:
        await asyncio.sleep(IDLE_SECONDS)
        await first.send("still here")
        assert await second.receive() == "still here"
        await second.send("so am I")
        assert await first.receive() == "so am I"


async def test_a_client_that_never_completes_its_request_is_disconnected(balanced: Balanced, nginx: Balanced) -> None:
    async def seconds_to_the_end(server: Balanced) -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=server.tls_context())
        started = time.monotonic()
        writer.write(b"GET /v3/1 HTTP/1.1\r\nHost: ")
        await reader.read()
        writer.close()
        return time.monotonic() - started

    assert max(await asyncio.gather(*map(seconds_to_the_end, (balanced, nginx)))) < 15


async def test_plain_http_is_redirected_to_https(server: Balanced) -> None:
    async with httpx.AsyncClient(trust_env=False, headers={"host": "demo.ws.test"}) as client:
        answer = await client.post(f"http://127.0.0.1:{server.http_port}/api/publish?a=b")
    assert (answer.status_code, answer.headers["location"]) == (308, "https://demo.ws.test/api/publish?a=b")


async def test_pages_know_that_they_are_served_over_https(http: Http, server: Balanced) -> None:
    page = await (await http()).get("/", headers={"X-Forwarded-Proto": "http"})
    assert f"wss://CLUSTER_ID.localhost:{server.port}/v3/" in page.text
    assert page.headers["strict-transport-security"] == "max-age=31536000"


async def test_users_can_log_in_to_the_admin(http: Http, server: Balanced) -> None:
    server.shell(MAKE_OPERATOR)
    client = await http()
    form = await client.get("/console/you/login/")
    cookie = form.cookies["csrftoken"]
    origin = f"https://ws.test:{server.port}"
    answer = await client.post(
        "/console/you/login/?next=/admin/",
        data={"login": "operator@example.com", "password": "operator-password", "csrfmiddlewaretoken": cookie},
        headers={"origin": origin, "referer": f"{origin}/console/you/login/", "cookie": f"csrftoken={cookie}"},
    )
    assert (answer.status_code, answer.headers["location"]) == (302, "/admin/")
    assert "Secure" in answer.headers["set-cookie"]


MAKE_OPERATOR = """
from django.contrib.auth import get_user_model
users, email = get_user_model().objects, "operator@example.com"
users.filter(email=email).exists() or users.create_superuser(email, password="operator-password")
"""


@pytest.mark.parametrize("path", ["/readyz", "/healthz", "/metrics", "/%72eadyz", "/metrics/"])
async def test_health_checks_and_metrics_are_not_public(http: Http, path: str) -> None:
    answer = await (await http()).get(path)
    # The page comes from the proxy and not from Django.
    assert (answer.status_code, "x-content-type-options" in answer.headers) == (404, False)


async def test_a_long_jwt_is_accepted_and_oversized_headers_are_rejected(http: Http) -> None:
    client = await http()
    assert (await client.get("/v3/1", headers={"jwt": "x" * 7_000})).status_code == 426
    assert (await client.get("/v3/1", headers={"jwt": "x" * 20_000})).status_code == 400


async def test_no_log_contains_the_credentials_of_a_url(
    connect: Connect, http: Http, server: Balanced, keys: dict[str, str], channel: str
) -> None:
    client = await connect(channel, "jwt=the.jwt.itself")
    await client.ending()
    await (await http()).get(channel_path(channel, keys["demo"], "jwt=the.jwt.itself"))
    deadline = time.monotonic() + 5
    while server.log.count(f"/v3/{channel}") < 2:
        assert time.monotonic() < deadline, server.log
        await asyncio.sleep(0.05)
    for log in (server.log, *(node.log for node in server.nodes)):
        assert keys["demo"] not in log
        assert "the.jwt.itself" not in log


async def test_clients_of_a_killed_node_reconnect_to_the_other_one(
    pair: Pair, connect: Connect, server: Balanced, channel: str
) -> None:
    doomed = server.nodes[0]
    doomed.stop(signal.SIGKILL)
    try:
        assert (await pair[0].ending())[1] == 1006
        returned = [await connect(channel, host="demo.ws.test") for _ in range(6)]
        for client in returned:
            await client.settle()
        await pair[1].send("to all of you")
        assert [await client.receive() for client in returned] == ["to all of you"] * 6
    finally:
        doomed.start()
    await one_on_each(server.nodes, lambda: connect(channel, host="demo.ws.test"))


async def test_clients_of_a_stopped_node_are_closed_with_1012_and_reconnect(
    pair: Pair, connect: Connect, server: Balanced, channel: str
) -> None:
    doomed = server.nodes[1]
    doomed.process.send_signal(signal.SIGTERM)
    try:
        assert await pair[1].ending() == ([], 1012)
        again = await connect_until_accepted(connect, channel)
        await again.send("back")
        assert await pair[0].receive() == "back"
        assert doomed.process.wait(20) == 0
    finally:
        doomed.start()
    await one_on_each(server.nodes, lambda: connect_until_accepted(connect, channel))


async def connect_until_accepted(connect: Connect, channel: str) -> Client:
    """Connect as a client that reconnects after every 1012."""
    while True:
        client = await connect(channel, host="demo.ws.test")
        try:
            await client.settle()
            return client
        except ConnectionClosedError as closed:
            if closed.rcvd is None or closed.rcvd.code != 1012:
                raise
            await asyncio.sleep(0.1)
