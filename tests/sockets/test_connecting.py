"""Connecting: which URLs lead to which channel, on every kind of server."""

import json

import pytest

from realtime.protocols import closes
from tests.clients import channel_path, open_client
from tests.conftest import Connect
from tests.servers import LiveServer
from tests.sockets.test_refusals import error


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "demo.localhost", "DEMO.LocalHost", "ws.test"])
@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("{}", "api_key={}"),
        ("{}/", "apiKey={}"),
        ("{}", "source=jssdk&v=3&%ff=%zz&x=%&=&&;&api_key={}&y"),
        ("{}", "api_key={}&api_key=second&notify_self=0&presence=0&uuid=a%20b&user=%ff"),
    ],
)
async def test_equivalent_urls_lead_to_the_same_channel(
    server: LiveServer, connect: Connect, channel: str, keys: dict[str, str], host: str, path: str, query: str
) -> None:
    receiver = await connect(channel)
    url = f"/v3/{path.format(channel)}?{query.format(keys['demo'])}"
    async with open_client(server, url, host=host) as client:
        await client.send("a")
        assert await receiver.receive() == "a"


async def test_a_key_is_refused_on_the_host_of_another_cluster(connect: Connect, channel: str) -> None:
    client = await connect(channel, "presence", key="other", host="demo.localhost")
    assert await client.ending() == ([error(closes.BAD_KEY)], 4001)


@pytest.mark.parametrize(
    ("offered", "selected"),
    [
        (["json"], "json"),
        (["graphql-ws", "json"], "graphql-ws"),
        (["a%2Cb", "c"], "a%2Cb"),
        (["v1.json!#$&'*+-.^_`|~"], "v1.json!#$&'*+-.^_`|~"),
    ],
)
@pytest.mark.parametrize("key", ["demo", "unknown"])
async def test_the_first_subprotocol_is_selected_also_when_the_connection_is_refused(
    connect: Connect, channel: str, offered: list[str], selected: str, key: str
) -> None:
    client = await connect(channel, key=key, subprotocols=offered)
    assert client.socket.subprotocol == selected
    if key == "unknown":
        assert await client.ending() == ([error(closes.BAD_KEY)], 4001)
    else:
        await client.settle()


async def test_channels_with_similar_names_or_namespaces_are_separate(connect: Connect, channel: str) -> None:
    long = channel.ljust(128, "x")
    names = [channel, f"1/{channel}", f"2/{channel}", f"{channel}/1", f"{long}/{long}", f"{long}/{long[:-1]}-", long]
    senders = [await connect(name) for name in names]
    receivers = [await connect(name) for name in names]
    for sender, name in zip(senders, names, strict=True):
        await sender.send(name)
    assert [await receiver.receive() for receiver in receivers] == names
    for client in senders + receivers:
        await client.settle()


@pytest.mark.parametrize("flag", ["notify_self", *(f"notify_self={on}" for on in ("", "1", "TRUE", "Yes", "on"))])
async def test_these_spellings_turn_a_flag_on(connect: Connect, channel: str, flag: str) -> None:
    assert await (await connect(channel, flag)).ask("a") == "a"


@pytest.mark.parametrize("flag", ["x", *(f"notify_self={off}" for off in ("0", "FALSE", "No", "off"))])
async def test_these_spellings_leave_a_flag_off(connect: Connect, channel: str, flag: str) -> None:
    client = await connect(channel, flag)
    await client.send("a")
    await client.settle()


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("notify_self=maybe", "The option notify_self must be 1 or 0."),
        ("presence=2", "The option presence must be 1 or 0."),
        ("uuid=", "The option uuid must have 1 to 64 characters."),
        (f"uuid={'u' * 65}", "The option uuid must have 1 to 64 characters."),
        (f"user={'u' * 257}", "The option user must have 0 to 256 characters."),
    ],
)
async def test_an_invalid_option_is_refused_with_4000_and_a_sentence_that_names_it(
    connect: Connect, channel: str, option: str, sentence: str
) -> None:
    assert await (await connect(channel, option)).ending() == ([f'{{"error":"{sentence}"}}'], 4000)


async def test_the_longest_uuid_and_user_are_accepted_and_a_missing_uuid_is_generated(
    connect: Connect, channel: str
) -> None:
    uuid, user = "u" * 64, "é" * 256
    first = json.loads(await (await connect(channel, "presence", f"uuid={uuid}", f"user={user}")).receive())
    assert first["data"]["members"] == [{"uuid": uuid, "user": user}]
    second, third = [json.loads(await (await connect(channel, "presence")).receive()) for _ in "ab"]
    uuids = [member["uuid"] for member in third["data"]["members"]]
    assert uuids[:2] == [member["uuid"] for member in second["data"]["members"]]
    assert (len(set(uuids)), all(uuids)) == (3, True)


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1001, "away"), (3000, "x" * 123), (4321, "finished, thanks")]
)
async def test_a_client_s_close_frame_is_answered_with_the_same_code_and_reason(
    connect: Connect, channel: str, code: int, reason: str
) -> None:
    client = await connect(channel)
    await client.socket.close(code, reason)
    answer = client.socket.protocol.close_rcvd
    assert answer is not None
    assert (answer.code, answer.reason) == (code, reason)


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=99",
        "permessage-deflate; unknown=1; unknown",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate, permessage-deflate; client_max_window_bits=8",
        "permessage-bzip2; max_compress_level=x, x-webkit-deflate-frame",
        "permessage-snappy",
        "bbf-usp-protocol",
    ],
)
async def test_offers_of_extensions_never_fail_the_handshake(
    serve: LiveServer, keys: dict[str, str], channel: str, offer: str
) -> None:
    path = channel_path(channel, keys["demo"])
    async with open_client(serve, path, additional_headers={"Sec-WebSocket-Extensions": offer}) as client:
        await client.settle()
