"""What requests to the Cluster API may contain: every body gets an answer with the right code and a sentence."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from realtime.http import cluster_api
from realtime.protocols import publishing
from tests.conftest import Connect
from tests.servers import LiveServer
from tests.sockets.cluster_api import SUCCESS, Publish, sentence


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
