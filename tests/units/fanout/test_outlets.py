"""The ordinary way out, by ASGI."""

import asyncio
from collections import Counter
from typing import Any

from realtime.fanout.outlets import AsgiOutlet
from realtime.protocols.closes import BAD_KEY, RESTARTING
from realtime.protocols.frames import Batch, Message


class Server:
    """An ASGI server whose client reads when the test lets it."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.reading = asyncio.Event()
        self.reading.set()

    async def send(self, event: dict[str, Any]) -> None:
        await self.reading.wait()
        self.sent.append(event)


def batch(*data: str | bytes) -> Batch:
    return Batch([Message(item) for item in data])


async def written(outlet: AsgiOutlet) -> None:
    async with asyncio.timeout(5):
        while not outlet.is_gone:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_messages_are_sent_in_order_before_the_close() -> None:
    server = Server()
    outlet = AsgiOutlet(server.send, 1000, Counter())
    outlet.deliver(batch("a", b""))
    outlet.deliver(batch(""))
    outlet.close(RESTARTING)
    outlet.deliver(batch("late"))
    await written(outlet)
    assert server.sent == [
        {"type": "websocket.send", "text": "a"},
        {"type": "websocket.send", "bytes": b""},
        {"type": "websocket.send", "text": ""},
        {"type": "websocket.close", "code": 1012},
    ]


async def test_a_final_close_is_told_first_and_only_once() -> None:
    server = Server()
    outlet = AsgiOutlet(server.send, 1000, Counter())
    outlet.close(BAD_KEY)
    outlet.close(RESTARTING)
    await written(outlet)
    assert server.sent == [
        {"type": "websocket.send", "text": f'{{"error":"{BAD_KEY.sentence}"}}'},
        {"type": "websocket.close", "code": 4001},
    ]


async def test_a_client_that_does_not_read_is_given_up_and_frees_its_memory() -> None:
    server = Server()
    server.reading.clear()
    outlet = AsgiOutlet(server.send, 1000, Counter())
    await asyncio.sleep(0)
    for _ in range(100):
        outlet.deliver(batch("x" * 100))
    server.reading.set()
    await written(outlet)
    assert len(server.sent) <= 2
    assert server.sent[-1] == {"type": "websocket.close", "code": 4100}


async def test_a_server_that_fails_ends_the_outlet_quietly() -> None:
    async def send(event: dict[str, Any]) -> None:
        raise OSError("gone")

    outlet = AsgiOutlet(send, 1000, Counter())
    outlet.deliver(batch("a"))
    await written(outlet)
