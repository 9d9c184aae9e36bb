"""The outlet that sends through ASGI."""

import asyncio
from collections import Counter
from typing import Any

from realtime.fanout.backlogs import Backlogs
from realtime.fanout.outlets import AsgiOutlet
from realtime.protocols.closes import BAD_KEY, RESTARTING
from realtime.protocols.frames import Batch, Message


class Server:
    """An ASGI server whose client reads only while the test allows it."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.reading = asyncio.Event()
        self.reading.set()

    async def send(self, event: dict[str, Any]) -> None:
        await self.reading.wait()
        self.sent.append(event)


def batch(*data: str | bytes) -> Batch:
    return Batch([Message(item) for item in data])


async def until_gone(outlet: AsgiOutlet) -> None:
    async with asyncio.timeout(5):
        while not outlet.is_gone:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_messages_are_sent_in_order_before_the_close() -> None:
    server = Server()
    outlet = AsgiOutlet(server.send, Backlogs(1000, 1_000_000), Counter())
    outlet.open()
    outlet.deliver(batch("a", b""))
    outlet.deliver(batch(""))
    outlet.close(RESTARTING)
    outlet.deliver(batch("late"))
    await until_gone(outlet)
    assert server.sent == [
        {"type": "websocket.send", "text": "a"},
        {"type": "websocket.send", "bytes": b""},
        {"type": "websocket.send", "text": ""},
        {"type": "websocket.close", "code": 1012},
    ]


async def test_a_final_close_sends_its_error_frame_first_and_only_once() -> None:
    server = Server()
    outlet = AsgiOutlet(server.send, Backlogs(1000, 1_000_000), Counter())
    outlet.open()
    outlet.close(BAD_KEY)
    outlet.close(RESTARTING)
    await until_gone(outlet)
    assert server.sent == [
        {"type": "websocket.send", "text": f'{{"error":"{BAD_KEY.sentence}"}}'},
        {"type": "websocket.close", "code": 4001},
    ]


async def test_a_client_that_does_not_read_is_disconnected_and_its_backlog_is_dropped() -> None:
    server = Server()
    server.reading.clear()
    outlet = AsgiOutlet(server.send, Backlogs(1000, 1_000_000), Counter())
    outlet.open()
    await asyncio.sleep(0)
    for _ in range(100):
        outlet.deliver(batch("x" * 100))
    server.reading.set()
    await until_gone(outlet)
    assert len(server.sent) <= 2
    assert server.sent[-1] == {"type": "websocket.close", "code": 4100}


async def test_an_error_while_sending_ends_the_outlet_quietly() -> None:
    async def send(event: dict[str, Any]) -> None:
        raise OSError("gone")

    outlet = AsgiOutlet(send, Backlogs(1000, 1_000_000), Counter())
    outlet.open()
    outlet.deliver(batch("a"))
    await until_gone(outlet)
