"""A network link between a server and a service that it depends on, which a test can cut."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from tests.servers import free_port


class Link:
    """Forwards TCP connections to a port of this machine, in its own thread."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._is_cut = False
        self._gates: set[asyncio.Event] = set()  # one per connection, set while data may pass
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Stop all data, as when a cable is pulled: neither side notices that the other one is gone."""
        self._is_cut = True
        self._change_gates(asyncio.Event.clear)

    def restore(self) -> None:
        """Let data through again, starting with the data that has waited."""
        self._is_cut = False
        self._change_gates(asyncio.Event.set)

    def mute(self) -> None:
        """Stop the data of the open connections for ever, but let new connections work."""
        self.cut()
        self._gates.clear()
        self._is_cut = False

    def __enter__(self) -> "Link":
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _change_gates(self, change: Callable[[asyncio.Event], None]) -> None:
        async def change_gates() -> None:
            for gate in self._gates:
                change(gate)

        self._run(change_gates())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # let the aborted connections close

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gate = asyncio.Event()
        self._gates.add(gate)
        if not self._is_cut:
            gate.set()

        def end(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._gates.discard(gate)
            writer.transport.abort()

        task = self._loop.create_task(self._forward(reader, writer, gate))
        self._tasks.add(task)
        task.add_done_callback(end)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            await gate.wait()
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            try:
                await asyncio.gather(_copy(reader, target_writer, gate), _copy(target_reader, writer, gate))
            finally:
                target_writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
    while data := await reader.read(65536):
        await gate.wait()
        writer.write(data)
        await writer.drain()
    raise ConnectionResetError  # one side has closed, so close the other one too
