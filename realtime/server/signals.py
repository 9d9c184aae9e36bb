"""Stop signals: Daphne stops only after the node has drained its connections."""

import asyncio
import select
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from twisted.internet import reactor, tcp


def before_stop(drain: Callable[[], Coroutine[Any, Any, None]], hurry: Callable[[], None]) -> None:
    """Make SIGINT and SIGTERM wait for `drain` before they stop Daphne, which cancels all applications immediately.

    Args:
        drain: called on the first signal.
        hurry: called on each further signal, except in the first second: some supervisors send the first one twice.
    """
    twisted_reactor: Any = reactor
    if not twisted_reactor.running or threading.current_thread() is not threading.main_thread():
        return  # another server, or Daphne without signal handlers
    loop = asyncio.get_running_loop()
    draining: asyncio.Task[None] | None = None
    hurry_from = 0.0

    async def drain_and_stop(stop: Callable[[], object]) -> None:
        try:
            await drain()
        finally:
            stop()

    def handle_signal(stop: Callable[[], object]) -> None:
        nonlocal draining, hurry_from
        if draining is None:
            draining, hurry_from = loop.create_task(drain_and_stop(stop)), time.monotonic() + 1
        elif time.monotonic() > hurry_from:
            hurry()

    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if callable(handler):
            stop = partial(handler, number, None)
            signal.signal(number, partial(_call_on_loop, loop, handle_signal, stop))


def _call_on_loop(
    loop: asyncio.AbstractEventLoop, handle_signal: Callable[..., None], stop: Callable[[], object], *_: Any
) -> None:
    """Handle a signal on the loop, because a signal handler may run between any two instructions."""
    loop.call_soon_threadsafe(handle_signal, stop)


def stop_listening() -> None:
    """Accept the connections that are already waiting, then stop listening."""
    twisted_reactor: Any = reactor
    ports: list[Any] = [reader for reader in twisted_reactor.getReaders() if isinstance(reader, tcp.Port)]
    for port in ports:
        while select.select([port], [], [], 0)[0]:
            port.doRead()
        port.stopListening()
