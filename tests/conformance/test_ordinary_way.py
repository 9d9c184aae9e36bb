"""With library versions that it does not know, the service logs one warning and uses plain ASGI."""

import asyncio
import json
from collections.abc import Callable

import pytest

from realtime.protocols import closes
from tests.clients import channel_path, open_client
from tests.servers import LiveServer
from tests.sockets.test_refusals import error


@pytest.fixture(scope="module")
def server(start: Callable[..., LiveServer]) -> LiveServer:
    return start("daphne", application="tests.conformance.unknown_libraries:application", MAX_CONNECTIONS="25")


async def test_what_the_libraries_lack_is_logged_once(server: LiveServer) -> None:
    assert server.log.count("Unknown versions of the server's libraries") == 1
    assert "daphne: onMessage(payload, isBinary)" in server.log


async def test_messages_commands_and_refusals_work_over_plain_asgi(server: LiveServer, keys: dict[str, str]) -> None:
    path = channel_path("ordinary", keys["demo"])
    async with open_client(server, path) as sender, open_client(server, path) as receiver:
        for message in ("text", b"\x00\xff", "x" * 70_000):
            await sender.send(message)
            assert await receiver.receive() == message
        assert json.loads(await sender.ask("cmd_status")) == {"system": {"connection_count": 2}}
    async with open_client(server, channel_path("ordinary", "unknown")) as refused:
        assert await refused.ending() == ([error(closes.BAD_KEY)], 4001)


async def test_all_messages_arrive_in_order(server: LiveServer, keys: dict[str, str]) -> None:
    path = channel_path("ordinary-order", keys["demo"])
    messages = [str(number) for number in range(2000)]
    async with open_client(server, path) as sender, open_client(server, path + "&notify_self") as receiver:

        async def send() -> None:
            for message in messages:
                await sender.send(message)

        sending = asyncio.create_task(send())
        assert [await receiver.receive() for _ in messages] == messages
        await sending


async def test_a_close_code_that_the_server_cannot_send_becomes_1000(server: LiveServer, keys: dict[str, str]) -> None:
    path = channel_path("ordinary-full", keys["demo"])
    clients = [open_client(server, path) for _ in range(26)]
    opened = [await client.__aenter__() for client in clients]
    assert await opened[-1].ending() == ([], 1000)
    for client in clients:
        await client.__aexit__(None, None, None)
