"""The command table, on real sockets."""

import asyncio
import json
import time

import pytest

from tests.clients import channel_path, open_client
from tests.conftest import Connect
from tests.servers import LiveServer


async def test_a_single_client_counts_one_connection(connect: Connect, channel: str) -> None:
    assert await (await connect(channel)).ask("cmd_status") == '{"system":{"connection_count":1}}'


async def test_answers_to_commands_go_only_to_the_sender(connect: Connect, channel: str) -> None:
    sender, receiver = await connect(channel, "notify_self"), await connect(channel)
    assert await sender.ask("cmd_ping") == '{"system":"pong"}'
    assert await sender.ask("cmd_x") == '{"system":{"error":"Unknown command: cmd_x"}}'
    await sender.settle()
    await receiver.settle()


@pytest.mark.parametrize("command", ["cmd_", "cmd_PING", "cmd_ping ", "cmd_status\n", "cmd_" + "x" * 100])
async def test_commands_match_exactly_and_text_that_begins_with_cmd_is_never_distributed(
    connect: Connect, channel: str, command: str
) -> None:
    sender, receiver = await connect(channel, "notify_self"), await connect(channel)
    answer = json.loads(await sender.ask(command))
    assert answer == {"system": {"error": f"Unknown command: {command[:64]}"}}
    await sender.settle()
    await receiver.settle()


@pytest.mark.parametrize("message", ["CMD_ping", " cmd_ping", "cmd-ping", "cmd", '"cmd_ping"', '{"event":"cmd_ping"}'])
async def test_text_that_begins_differently_is_a_message(connect: Connect, channel: str, message: str) -> None:
    sender, receiver = await connect(channel), await connect(channel)
    await sender.send(message)
    assert await receiver.receive() == message
    await sender.settle()


async def test_a_client_whose_key_may_not_send_messages_can_send_commands(connect: Connect, channel: str) -> None:
    silent = await connect(channel, key="silent")
    assert await silent.ask("cmd_status") == '{"system":{"connection_count":1}}'
    assert await silent.ask("cmd_x") == '{"system":{"error":"Unknown command: cmd_x"}}'


async def test_a_binary_message_is_never_a_command(connect: Connect, channel: str) -> None:
    sender, receiver = await connect(channel), await connect(channel)
    await sender.send(b"cmd_ping")
    assert await receiver.receive() == b"cmd_ping"
    await sender.settle()


async def test_an_answer_arrives_after_the_messages_sent_before_its_command(connect: Connect, channel: str) -> None:
    sender = await connect(channel, "notify_self")
    for message in ("a", "cmd_ping", "b", "cmd_ping"):
        await sender.send(message)
    pong = '{"system":"pong"}'
    assert [await sender.receive() for _ in range(4)] == ["a", pong, "b", pong]


async def test_the_count_includes_new_connections_but_not_refused_ones(
    connect: Connect, channel: str, server: LiveServer
) -> None:
    first = await connect(channel)
    refused = await connect(channel, key="unknown")
    assert await first.count() == 1
    await refused.ending()
    await connect(channel)
    assert await first.count() == 2


async def test_after_300_abrupt_disconnects_the_count_is_right_within_5_seconds(
    channel: str, server: LiveServer, keys: dict[str, str], connect: Connect
) -> None:
    watcher = await connect(channel)

    async def connect_and_abort() -> None:
        async with open_client(server, channel_path(channel, keys["demo"])) as client:
            await client.settle()
            client.socket.transport.abort()

    for _ in range(6):
        await asyncio.gather(*(connect_and_abort() for _ in range(50)))
    gone = time.monotonic()
    while await watcher.count() != 1:
        assert time.monotonic() - gone < 5
        await asyncio.sleep(0.05)
