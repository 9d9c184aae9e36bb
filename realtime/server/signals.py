"""How daphne is told to stop: by signals, which wait until the node has drained."""

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
    """Have SIGINT and SIGTERM wait for `drain` before they stop Daphne, which would cancel all applications at once.

    Args:
        drain: called at the first signal.
        hurry: called at each further one, but not within a second: some supervisors send the first one twice.
    """
    twisted_reactor: Any = reactor
    if not twisted_reactor.running or threading.current_thread() is not threading.main_thread():
        return  # another server, or one without signals
    loop = asyncio.get_running_loop()
    draining: asyncio.Task[None] | None = None
    hurry_from = 0.0

    async def drain_and_stop(stop: Callable[[], object]) -> None:
        try:
            await drain()
        finally:
            stop()

    def hear(stop: Callable[[], object]) -> None:
        nonlocal draining, hurry_from
        if draining is None:
            draining, hurry_from = loop.create_task(drain_and_stop(stop)), time.monotonic() + 1
        elif time.monotonic() > hurry_from:
            hurry()

    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if callable(handler):
            stop = partial(handler, number, None)
            signal.signal(number, partial(_pass_to, loop, hear, stop))


def _pass_to(loop: asyncio.AbstractEventLoop, hear: Callable[..., None], stop: Callable[[], object], *_: Any) -> None:
    """Be a signal handler: it may run between any two instructions."""
    loop.call_soon_threadsafe(hear, stop)


def stop_listening() -> None:
    """Accept who waits to be accepted, and nobody after them."""
    twisted_reactor: Any = reactor
    ports: list[Any] = [reader for reader in twisted_reactor.getReaders() if isinstance(reader, tcp.Port)]
    for port in ports:
        while select.select([port], [], [], 0)[0]:
            port.doRead()
        port.stopListening()
