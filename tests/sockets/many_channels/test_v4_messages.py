"""PieSocket v4: what reaches the others of a channel, in which form, and what does not."""

from collections.abc import Awaitable, Callable

import pytest

from tests.sockets.v4 import TAG, V4Client

OpenV4 = Callable[..., Awaitable[V4Client]]
Pair = tuple[V4Client, V4Client, str]


@pytest.fixture
async def pair(v4: OpenV4, channel: str) -> Pair:
    """A sender and a receiver in the same primary channel, and a further channel to which both are subscribed."""
    (sender, receiver), other = [await v4(channel) for _ in "ab"], f"{channel}-b"
    for client in (sender, receiver):
        await client.subscribe(other)
    return sender, receiver, other


async def test_an_event_reaches_the_others_of_its_channel(pair: Pair, v4: OpenV4, channel: str) -> None:
    (sender, receiver, other), elsewhere = pair, await v4(f"{channel}-c")
    for name in (channel, other):
        await sender.publish("x", {"a": "é"}, {"m": 1}, name)
        assert await receiver.receive(name) == {"event": "x", "data": {"a": "é"}, "meta": {"m": 1}}
    for client in (sender, receiver, elsewhere):
        await client.settle()


async def test_every_frame_names_its_channel(pair: Pair, channel: str) -> None:
    sender, receiver, other = pair
    receiver.frames.clear()
    for sending, named in (
        (sender.publish("x", {"channel": other}), channel),
        (sender.publish("x", 1, channel=other), other),
        (sender.send_bytes(b"x", channel), channel),
        (sender.send_text('{"error":"x"}', channel), channel),
        (receiver.ask_members(other), other),
        (receiver.ask_members("elsewhere"), "elsewhere"),
        (receiver.client.send("cmd_status"), channel),
        (receiver.client.send("cmd_x"), channel),
        (receiver.send({"event": "system::x"}), channel),
        (receiver.client.send("null"), channel),
    ):
        await receiver.answered(sending)
        assert receiver.frames[-1][TAG] == named


async def test_an_object_keeps_the_json_of_its_members(pair: Pair, channel: str) -> None:
    sender, receiver, _ = pair
    await sender.client.send('{ "n": 12345678901234567890.10, "e":"\\u00e9", "system::to" : "a", "n2":1E400 }')
    await receiver.receive()
    raw = [frame for frame in receiver.raw if "system::to" in frame]
    assert raw == [f'{{"n":12345678901234567890.10,"e":"\\u00e9","system::to":"a","n2":1E400,"{TAG}":"{channel}"}}']


@pytest.mark.parametrize("text", ["x", "", "[1]", "7", '"x"', "{not json}", "nulls", " \t"])
async def test_text_that_is_not_an_object_arrives_as_it_came_in_the_primary_channel(pair: Pair, text: str) -> None:
    sender, receiver, other = pair
    await sender.send_text(text, other)
    await receiver.receive()
    assert receiver.raw[-1] == text


@pytest.mark.parametrize(
    "text",
    [
        *("null", " null ", "\ufeffnull"),
        *('{"event":"system::member_left","x":"\\ud800"}', '{"x":' * 3_000 + "1" + "}" * 3_000),
        *('{"a":NaN}', '{"system::channel":{}}', '{"system::channel":"a b"}', '{"system::channel":""}'),
        *('{"event":"system::member_left"}', '{"event":"system:member_left"}', '{"event":"\\u0073ystem::x"}'),
        *('{"event":"x","event":"system::x"}', '{"event":"system:portal_broadcaster"}', '{"event":"system::binary"}'),
        '{"event":"pie::binary","data":"?"}',
        '{"event":"pie::binary","data":1}',
        '{"event":"x","system::channel":"elsewhere"}',
    ],
)
async def test_what_others_must_not_get_is_dropped_with_a_notice(pair: Pair, text: str) -> None:
    sender, receiver, _ = pair
    await sender.client.send(text)
    assert list((await sender.receive())["system"]) == ["error"]
    await sender.settle()
    await receiver.settle()


async def test_a_name_that_occurs_twice_counts_once(pair: Pair, channel: str) -> None:
    sender, receiver, other = pair
    await sender.client.send(f'{{"{TAG}":"elsewhere","event":"system::x","{TAG}":"{other}","event":"x"}}')
    assert await receiver.receive(other) == {"event": "x"}
    assert receiver.raw[-1] == f'{{"event":"x","{TAG}":"{other}"}}'


@pytest.mark.parametrize("event", ["rtc::offer", "rtc::answer", "rtc::candidate", "rtc::broadcaster", "rtc::request"])
async def test_signals_of_pie_rtc_are_relayed(v4: OpenV4, channel: str, event: str) -> None:
    sender, receiver = await v4(channel, notify_self=1), await v4(channel)
    frame = {"event": event, "from": "a", "to": "b", "data": {"sdp": "x"}}
    await sender.send(frame)
    assert await receiver.receive() == frame
    assert await sender.receive() == frame


@pytest.mark.parametrize("data", [b"", b"\0\xff", b'{"event":"system::x"}', b"x" * 70_000])
async def test_binary_data_arrives_as_an_event(pair: Pair, channel: str, data: bytes) -> None:
    sender, receiver, other = pair
    for name in (channel, other):
        await sender.send_bytes(data, name)
        assert await receiver.receive(name) == data
        assert receiver.frames[-1]["event"] == "system::binary"
    await receiver.settle()


async def test_binary_data_keeps_its_meta(pair: Pair, channel: str) -> None:
    sender, receiver, other = pair
    await sender.send({"event": "pie::binary", TAG: other, "data": "eA==", "meta": {"a": 1}})
    assert await receiver.receive(other) == b"x"
    assert receiver.frames[-1]["meta"] == {"a": 1}


async def test_with_notify_self_a_connection_gets_its_own_messages_in_all_channels(v4: OpenV4, channel: str) -> None:
    client, other = await v4(channel, notify_self=1), f"{channel}-b"
    await client.subscribe(other)
    for name in (channel, other):
        await client.publish("x", name, channel=name)
        assert (await client.receive(name))["data"] == name


async def test_commands_are_answered_to_the_sender_alone(pair: Pair) -> None:
    sender, receiver, _ = pair
    await sender.client.send("cmd_status")
    assert await sender.receive() == {"system": {"connection_count": 2}}
    await receiver.settle()


async def test_a_key_that_allows_no_messages_of_clients_lets_them_subscribe(v4: OpenV4, channel: str) -> None:
    client, other = await v4(channel, key="silent"), f"{channel}-b"
    await client.subscribe(other)
    for name in (channel, other):
        await client.publish("x", 1, channel=name)
        assert "does not allow" in (await client.receive())["system"]["error"]


async def test_messages_of_one_connection_arrive_in_order_in_each_channel(pair: Pair, channel: str) -> None:
    sender, receiver, other = pair
    for number in range(60):
        await sender.publish("x", number, channel=(channel, other)[number % 2])
    for name, first in ((channel, 0), (other, 1)):
        assert [(await receiver.receive(name))["data"] for _ in range(30)] == list(range(first, 60, 2))
