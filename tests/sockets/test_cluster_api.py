"""The Cluster API, over HTTP, with WebSocket clients that receive what it publishes."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from realtime.http import cluster_api, cluster_requests
from realtime.protocols import publishing
from realtime.server import addresses
from tests.conftest import Connect
from tests.servers import LiveServer

SUCCESS = (200, '{"success":true}')
Publish = Callable[..., Any]


@pytest.fixture
async def http(server: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    verify = server.tls_context() or True
    async with httpx.AsyncClient(base_url=server.url("", scheme="http"), trust_env=False, verify=verify) as client:
        yield client


@pytest.fixture
def publish(http: httpx.AsyncClient, keys: dict[str, str], secrets: dict[str, str]) -> Publish:
    """A function that publishes, by default with the demo key, and returns the status and body of the answer."""

    async def post(channel: Any, message: Any, path: str = "/api/publish", **changed: Any) -> tuple[int, str]:
        members = {"key": keys["demo"], "secret": secrets["demo"], "channelId": channel, "message": message, **changed}
        answer = await http.post(path, json={name: value for name, value in members.items() if value is not ...})
        return answer.status_code, answer.text

    return post


def sentence(answer: tuple[int, str]) -> tuple[int, str]:
    """Return the status and the sentence of an error, which must be the only member of its body."""
    status, body = answer
    content = json.loads(body)
    assert list(content) == ["error"]
    return status, content["error"]


@pytest.mark.parametrize(
    ("message", "delivered"),
    [
        ("text", "text"),
        ("", ""),
        ("cmd_ping", "cmd_ping"),
        (' {"a": 1} ', ' {"a": 1} '),
        ({"event": "new-message", "data": {"text": "hé 😀"}}, '{"event":"new-message","data":{"text":"hé 😀"}}'),
        ({"event": "system:portal", "data": None}, '{"event":"system:portal","data":null}'),
        ([1, 2.5, True], "[1,2.5,true]"),
        (0, "0"),
        (None, "null"),
        ("x" * 300_000, "x" * 300_000),
    ],
)
async def test_a_message_reaches_every_connection_of_the_channel(
    publish: Publish, connect: Connect, channel: str, message: Any, delivered: str
) -> None:
    clients = [await connect(channel), await connect(channel, key="second"), await connect(channel, "presence=0")]
    elsewhere = [await connect(channel, key="other"), await connect(f"{channel}x"), await connect(f"1/{channel}")]
    assert await publish(channel, message) == SUCCESS
    assert [await client.receive() for client in clients] == [delivered] * 3
    for client in elsewhere:
        await client.settle()


async def test_room_id_is_an_alias_and_a_channel_may_be_a_number(publish: Publish, connect: Connect) -> None:
    client = await connect("1998")
    assert await publish(1998, "a") == SUCCESS
    assert await publish(..., "b", roomId="1998") == SUCCESS
    assert await publish("1998", "c", roomId="ignored", anything={"else": []}) == SUCCESS
    assert await publish("1998", "d", path="/api/publish?src=piesocket-nodejs&v=3&key=x") == SUCCESS
    assert await publish("1998", "e", path="/api/publish/") == SUCCESS
    assert [await client.receive() for _ in "abcde"] == list("abcde")


async def test_a_channel_in_a_namespace_is_addressed_by_its_path(
    publish: Publish, connect: Connect, channel: str
) -> None:
    client = await connect(f"1/{channel}")
    assert await publish(f"1/{channel}", "a") == SUCCESS
    assert await client.receive() == "a"


async def test_key_and_secret_may_be_headers(
    http: httpx.AsyncClient, connect: Connect, channel: str, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    client = await connect(channel)
    headers = {"key": keys["demo"], "secret": secrets["demo"]}
    answer = await http.post("/api/publish", json={"channelId": channel, "message": "a"}, headers=headers)
    assert (answer.status_code, answer.text) == SUCCESS
    assert await client.receive() == "a"


async def test_servers_can_publish_to_private_channels_and_with_keys_whose_clients_may_not_send(
    publish: Publish, connect: Connect, channel: str, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    silent = await connect(channel, key="silent")
    assert await publish(channel, "a", key=keys["silent"], secret=secrets["silent"]) == SUCCESS
    assert await silent.receive() == "a"
    assert await publish(f"private-{channel}", "a") == SUCCESS


async def test_publishing_to_an_empty_channel_succeeds(publish: Publish, channel: str) -> None:
    assert await publish(channel, "a") == SUCCESS


async def test_messages_from_one_publisher_arrive_complete_and_in_order(
    publish: Publish, connect: Connect, channel: str
) -> None:
    clients = [await connect(channel) for _ in range(3)]
    for number in range(200):
        assert await publish(channel, number) == SUCCESS
    for client in clients:
        assert [await client.receive() for _ in range(200)] == [str(number) for number in range(200)]


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"[]", b'"x"', b"{", b"\xff", b'{"a":NaN}', b"[" * 60_000, b"9" * 5000, b"null"],
)
async def test_a_body_that_is_not_a_json_object_gets_400(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.post("/api/publish", content=body)
    assert sentence((answer.status_code, answer.text)) == (400, publishing.NOT_JSON)
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(("channel_id", "message"), [(..., "a"), (None, "a"), ("1", ...), (..., ...)])
async def test_a_missing_member_gets_400(publish: Publish, channel_id: Any, message: Any) -> None:
    assert sentence(await publish(channel_id, message)) == (400, "Send channelId and message.")


@pytest.mark.parametrize("missing", ["key", "secret"])
async def test_a_missing_key_or_secret_gets_400_when_publishing(publish: Publish, missing: str) -> None:
    assert sentence(await publish("1", "a", **{missing: ...})) == (400, cluster_api.NO_KEY)


@pytest.mark.parametrize("bad", ["", "a b", "a" * 129, "a/b/c", "/a", "é", "a\n", True, 1.5, [], {}, -1.0, "\u0661"])
async def test_a_bad_channel_gets_400(publish: Publish, bad: Any) -> None:
    assert sentence(await publish(bad, "a"))[0] == 400


AS_SENT = [
    "3.14159265358979323846264338327950288",
    "123456789012345678901234567890",
    "-0",
    "1e400",
    "1E+2",
    "9" * 5000,
    '{"a":1,"a":2}',
    '{ "a" : [ 1.0 , -0.0 ] }',
    r'{"a":"\u00e9\/\ud83d\ude00"}',
    '{"é":"😀"}',
    "[" * 500 + "]" * 500,
]


@pytest.mark.parametrize("message", AS_SENT)
async def test_a_message_that_is_not_a_string_is_delivered_as_the_json_that_was_sent(
    http: httpx.AsyncClient, connect: Connect, channel: str, keys: dict[str, str], secrets: dict[str, str], message: str
) -> None:
    client = await connect(channel)
    headers = {"key": keys["demo"], "secret": secrets["demo"]}
    one = f'{{"channelId":"{channel}","message":  {message}\n}}'
    for path, body in (("/api/publish", one), ("/api/publish/batch", f'{{"messages":[{one},{one}]}}')):
        answer = await http.post(path, content=body.encode(), headers=headers)
        assert (answer.status_code, answer.text) == SUCCESS
    assert [await client.receive() for _ in range(3)] == [message] * 3


UNREADABLE = [
    rb'"\ud800"',
    rb'"\udc00"',
    rb'{"\ud83d":1}',
    rb'["\ud800\u0041"]',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'{"a":"\xc3"}',
    b"NaN",
    b"-Infinity",
    b"01",
    b"1.",
    b'"\t"',
    b"[" * 100_000 + b"]" * 100_000,
]


@pytest.mark.parametrize("message", UNREADABLE, ids=lambda message: repr(message[:20]))
@pytest.mark.parametrize("member", [b"message", b"key", b"other"])
async def test_what_no_parser_reads_gets_400(http: httpx.AsyncClient, message: bytes, member: bytes) -> None:
    body = b'{"%s":%s,"channelId":"1","message":1}' % (member, message)
    answer = await http.post("/api/publish", content=body)
    assert sentence((answer.status_code, answer.text)) == (400, publishing.NOT_JSON)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-32"])
async def test_a_body_that_is_not_utf8_gets_400(
    http: httpx.AsyncClient, keys: dict[str, str], secrets: dict[str, str], encoding: str
) -> None:
    body = '{"channelId":"1","message":"é"}'.encode(encoding)
    answer = await http.post("/api/publish", content=body, headers={"key": keys["demo"], "secret": secrets["demo"]})
    assert sentence((answer.status_code, answer.text)) == (400, publishing.NOT_JSON)


async def test_a_deeply_nested_message_never_causes_a_server_error(publish: Publish) -> None:
    statuses = set()
    for depth in range(900, 1010):
        message: Any = 1
        for _ in range(depth):
            message = [message]
        with contextlib.suppress(RecursionError):  # raised by the client
            statuses.add((await publish("1", message))[0])
    assert statuses <= {200, 400}


async def test_json_of_strangers_is_parsed_at_a_limited_rate_and_right_headers_are_always_accepted(
    start: Callable[..., LiveServer], keys: dict[str, str], secrets: dict[str, str]
) -> None:
    server = start("serve")
    wrong = {"key": keys["demo"], "secret": "s" * 60, "channelId": "1"}
    right = {**wrong, "secret": secrets["demo"], "message": "x" * 2**19}
    stranger = json.dumps({**wrong, "message": "x" * 15 * 2**20})
    headers = {"key": keys["demo"], "secret": secrets["demo"]}
    url = server.url("", scheme="http")
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
        assert (await http.post("/api/publish", json=right)).status_code == 200
        answers: list[httpx.Response] = []
        async with asyncio.timeout(60):
            while not any("HTTP headers" in answer.text for answer in answers):
                answers = await asyncio.gather(*(http.post("/api/publish/batch", content=stranger) for _ in range(8)))
                assert {answer.status_code for answer in answers} <= {401, 429}
        assert all(answer.headers["retry-after"].isdigit() for answer in answers if answer.status_code == 429)
        assert (await http.post("/api/publish", json=right, headers=headers)).status_code == 200
        assert (await http.post("/api/publish", json={**right, "message": "small"})).status_code == 200
        for _ in range(100):
            if (await http.post("/api/publish", json=right)).status_code == 200:
                break
            await asyncio.sleep(0.2)
        else:
            pytest.fail("The address is still limited after 20 seconds.")


@pytest.mark.parametrize("size", [100, 20_000, 70_000, 2**20 - 1_000])
@pytest.mark.parametrize("by_header", [False, True])
async def test_credentials_are_read_as_json_whatever_the_message_contains(
    http: httpx.AsyncClient,
    connect: Connect,
    channel: str,
    keys: dict[str, str],
    secrets: dict[str, str],
    size: int,
    by_header: bool,
) -> None:
    client = await connect(channel)
    message = f'{{"key":"{"k" * 60}","secret":"{"s" * 60}","padding":"{"x" * size}"}}'
    credentials = {"key": keys["demo"], "secret": secrets["demo"]}
    escaped = f'"\\u006bey":"{credentials["key"]}","secret" :\n"{credentials["secret"]}"'
    body = f'{{"message":{message},{"" if by_header else escaped + ","}"channelId":"{channel}"}}'
    answer = await http.post("/api/publish", content=body, headers=credentials if by_header else {})
    assert (answer.status_code, answer.text) == SUCCESS
    assert await client.receive() == message


@pytest.mark.parametrize("absent", ["null", '""'])
async def test_null_and_empty_members_count_as_absent(
    http: httpx.AsyncClient, connect: Connect, channel: str, keys: dict[str, str], secrets: dict[str, str], absent: str
) -> None:
    client = await connect(channel)
    headers = {"key": keys["demo"], "secret": secrets["demo"]}
    credentials = f'"key":{absent},"secret":{absent}'
    body = f'{{{credentials},"channelId":{absent},"roomId":"{channel}","message":{absent}}}'
    answer = await http.post("/api/publish", content=body, headers=headers)
    assert (answer.status_code, answer.text) == SUCCESS
    assert await client.receive() == absent.strip('"')
    answer = await http.post("/api/publish", content=f'{{{credentials},"channelId":"1","message":1}}')
    assert sentence((answer.status_code, answer.text)) == (400, cluster_api.NO_KEY)
    nowhere = f'{{"channelId":{absent},"roomId":{absent},"message":1}}'
    answer = await http.post("/api/publish", content=nowhere, headers=headers)
    assert sentence((answer.status_code, answer.text)) == (400, "Send channelId and message.")


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


async def test_a_message_over_the_limit_gets_413_and_is_not_distributed(
    publish: Publish, connect: Connect, channel: str
) -> None:
    client = await connect(channel)
    most = 1024 * 1024
    assert await publish(channel, "x" * (most + 1)) == (
        413,
        f'{{"error":"The message is larger than {most} bytes; send less at a time."}}',
    )
    assert sentence(await publish(channel, "x" * (7 * most)))[0] == 413
    await client.settle()
    assert await publish(channel, "\u0000" * most) == SUCCESS
    assert await client.receive() == "\u0000" * most


async def test_other_methods_get_405(http: httpx.AsyncClient) -> None:
    for method, path, allowed in (("GET", "/api/publish", "POST"), ("POST", "/api/connections", "GET")):
        answer = await http.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert answer.json() == {"error": f"Use {allowed} here."}


async def test_a_batch_is_delivered_in_order_to_its_channels(publish: Publish, connect: Connect, channel: str) -> None:
    one, two = await connect(channel), await connect(f"{channel}-2")
    messages = [{"channelId": (channel, f"{channel}-2")[number % 2], "message": number} for number in range(1000)]
    assert await publish(..., ..., "/api/publish/batch", messages=messages) == SUCCESS
    assert [await one.receive() for _ in range(500)] == [str(number) for number in range(0, 1000, 2)]
    assert [await two.receive() for _ in range(500)] == [str(number) for number in range(1, 1000, 2)]


@pytest.mark.parametrize(
    ("bad", "status", "beginning"),
    [
        ({"channelId": "a b", "message": "a"}, 400, "messages[1]: The channelId"),
        ({"message": "a"}, 400, "messages[1]: Send channelId"),
        ({"channelId": "a", "message": "x" * 2**20 + "x"}, 413, "messages[1]: The message is larger"),
        ("text", 400, "messages[1]: "),
    ],
)
async def test_a_batch_with_one_bad_message_is_rejected_as_a_whole(
    publish: Publish, connect: Connect, channel: str, bad: Any, status: int, beginning: str
) -> None:
    client = await connect(channel)
    messages = [{"channelId": channel, "message": "good"}, bad]
    found = sentence(await publish(..., ..., "/api/publish/batch", messages=messages))
    assert found[0] == status
    assert found[1].startswith(beginning)
    await client.settle()


@pytest.mark.parametrize("messages", [..., None, [], {}, "x", [{"channelId": "1", "message": 1}] * 1001])
async def test_a_batch_must_have_1_to_1000_messages(publish: Publish, messages: Any) -> None:
    found = sentence(await publish(..., ..., "/api/publish/batch", messages=messages))
    assert found == (400, "Send 1 to 1000 messages, as a list.")


async def test_the_connections_in_the_cluster_of_the_key_are_listed_and_summed(
    http: httpx.AsyncClient, connect: Connect, channel: str, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    headers = {"key": keys["second"], "secret": secrets["second"]}
    clients = [await connect(name) for name in (channel, channel, f"1/{channel}", f"presence-{channel}")]
    await connect(channel, key="other")
    listed = (await http.get("/api/connections", headers=headers)).json()["channels"]
    of_this_test = {entry["channel"]: entry["connections"] for entry in listed if channel in entry["channel"]}
    assert of_this_test == {channel: 2, f"1/{channel}": 1, f"presence-{channel}": 1}
    total = (await http.get("/api/connections/sum", headers=headers)).json()
    assert total == {"connections": sum(entry["connections"] for entry in listed)}
    await asyncio.gather(*(client.socket.close() for client in clients))
    deadline = time.monotonic() + 5
    while channel in (body := (await http.get("/api/connections", headers=headers)).text):
        assert time.monotonic() < deadline, body


async def test_the_domains_are_the_allowed_origins_of_the_key(
    http: httpx.AsyncClient, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    answer = await http.get("/api/domains", headers={"key": keys["browser"], "secret": secrets["browser"]})
    assert (answer.status_code, answer.text) == (200, '{"domains":["example.com"]}')


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
