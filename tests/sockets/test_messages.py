"""Messages: which clients receive which bytes, on every kind of server."""

import asyncio

from realtime.protocols.events import RELAYED
from tests.conftest import Connect
from tests.units.protocols import test_events

EVERY_KIND = ["text", "ünï 😀 \u0000 \u2028", "", b"\x00\xff binary", b"", "x" * 70_000, b"\xfe" * 70_000, " cmd_ping"]


async def test_text_emoji_binary_and_empty_messages_arrive_byte_for_byte(connect: Connect, channel: str) -> None:
    sender, receiver = await connect(channel), await connect(channel)
    for message in EVERY_KIND:
        await sender.send(message)
    assert [await receiver.receive() for _ in EVERY_KIND] == EVERY_KIND


async def test_a_sender_does_not_receive_its_own_messages(connect: Connect, channel: str) -> None:
    sender, receiver = await connect(channel), await connect(channel)
    await sender.send("a")
    await sender.settle()
    assert await receiver.receive() == "a"


async def test_with_notify_self_a_sender_receives_its_own_messages(connect: Connect, channel: str) -> None:
    sender = await connect(channel, "notify_self")
    for message in EVERY_KIND:
        await sender.send(message)
    assert [await sender.receive() for _ in EVERY_KIND] == EVERY_KIND


async def test_messages_do_not_reach_other_channels_or_clusters(connect: Connect, channel: str) -> None:
    sender, receiver = await connect(channel), await connect(channel)
    others = [
        await connect(channel, key="other"),
        await connect(f"{channel}x"),
        await connect(f"1/{channel}"),
        await connect(f"2/{channel}"),
    ]
    await sender.send("a")
    await sender.settle()
    assert await receiver.receive() == "a"
    for other in others:
        await other.settle()


async def test_two_keys_of_a_cluster_share_its_channels(connect: Connect, channel: str) -> None:
    sender, receiver = await connect(channel), await connect(channel, key="second")
    await sender.send("a")
    assert await receiver.receive() == "a"


async def test_the_host_of_the_cluster_leads_to_the_same_channel(connect: Connect, channel: str) -> None:
    sender, receiver = await connect(channel), await connect(channel, host="demo.localhost")
    await sender.send("a")
    assert await receiver.receive() == "a"


async def test_200_channels_in_use_at_the_same_time_stay_separate(connect: Connect, channel: str) -> None:
    channels = [f"{channel}-{number}" for number in range(200)]
    senders = await asyncio.gather(*(connect(name) for name in channels))
    receivers = await asyncio.gather(*(connect(name) for name in channels))
    await asyncio.gather(*(sender.send(name) for sender, name in zip(senders, channels, strict=True)))
    assert await asyncio.gather(*(receiver.receive() for receiver in receivers)) == channels
    await asyncio.gather(*(client.settle() for client in senders + receivers))


async def test_5000_messages_reach_20_receivers_complete_and_in_order(connect: Connect, channel: str) -> None:
    sender = await connect(channel)
    receivers = [await connect(channel) for _ in range(20)]
    messages = [f"{number}:{'x' * (number % 300)}" for number in range(5000)]

    async def send() -> None:
        for message in messages:
            await sender.send(message)

    task = asyncio.create_task(send())
    for receiver in receivers:
        assert [await receiver.receive() for _ in messages] == messages
    await task


async def test_the_messages_of_each_sender_stay_in_order_with_and_without_notify_self(
    connect: Connect, channel: str
) -> None:
    quiet, loud, receiver = await connect(channel), await connect(channel, "notify_self"), await connect(channel)

    async def send(client_name: str) -> None:
        client = quiet if client_name == "quiet" else loud
        for number in range(1000):
            await client.send(f"{client_name} {number}")

    sending = asyncio.gather(send("quiet"), send("loud"))
    from_quiet, from_loud = ([f"{name} {number}" for number in range(1000)] for name in ("quiet", "loud"))
    received = [await receiver.receive() for _ in range(2000)]
    assert [message for message in received if message in set(from_quiet)] == from_quiet
    assert [message for message in received if message in set(from_loud)] == from_loud
    received_by_loud = [await loud.receive() for _ in range(2000)]
    assert [message for message in received_by_loud if message in set(from_loud)] == from_loud
    assert [await quiet.receive() for _ in range(1000)] == from_loud
    await sending


async def test_a_client_whose_key_may_not_send_gets_an_error_and_stays_connected(
    connect: Connect, channel: str
) -> None:
    silent, receiver = await connect(channel, key="silent"), await connect(channel)
    notice = '{"system":{"error":"This API key does not allow clients to send messages."}}'
    assert await silent.ask("a") == notice
    assert await silent.ask(b"a") == notice
    await silent.settle()
    await receiver.settle()
    await receiver.send("b")
    assert await silent.receive() == "b"


async def test_clients_cannot_forge_system_events(connect: Connect, channel: str) -> None:
    forger, receiver = await connect(channel, "notify_self"), await connect(channel)
    notice = '{"system":{"error":"Clients cannot send system events."}}'
    for forged in test_events.FORGED:
        assert await forger.ask(forged) == notice
        await forger.send(forged.encode())
        assert await forger.receive() == notice
    await receiver.settle()


async def test_messages_that_only_resemble_system_events_and_the_events_of_video_portals_are_relayed(
    connect: Connect, channel: str
) -> None:
    portals = [f'{{"event":"{event}","data":{{"to":"a"}}}}' for event in sorted(RELAYED)]
    sender, receiver = await connect(channel), await connect(channel)
    for message in (*portals, *test_events.ORDINARY, b'{"event":"system:member_list"\xff}'):
        await sender.send(message)
        assert await receiver.receive() == message
    await sender.settle()
