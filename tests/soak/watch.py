"""Read what a server holds, and wait until that returns to what it was."""

import asyncio
import time

import httpx

from tests.servers import LiveServer

PATH = "/what-this-process-holds"
POLL_SECONDS = 0.5


async def held(server: LiveServer, *, after_collection: bool = True) -> dict[str, int]:
    """Return what `counted.held` reports for a server's process.

    Args:
        server: the server.
        after_collection: whether the process first runs Python's cycle collector.
    """
    url = server.url(PATH if after_collection else f"{PATH}?without-collection", scheme="http")
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        counts: dict[str, int] = (await client.get(url)).json()
    return counts


async def held_at_rest(server: LiveServer, seconds: float) -> dict[str, int]:
    """Return what a server holds once nobody is connected and nothing changes any more.

    Raises:
        TimeoutError: the server is not at rest after `seconds`; the message lists what remains.
    """
    deadline = time.monotonic() + seconds
    before: dict[str, int] = {}
    while True:
        counts = await held(server)
        if counts == before and not (counts["connections"] or counts["accounts in use"]):
            return counts
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:.0f} s the server still holds {changed(before, counts) or counts}")
        before = counts
        await asyncio.sleep(POLL_SECONDS)


async def until_held(server: LiveServer, expected: dict[str, int], seconds: float) -> dict[str, int]:
    """Return what a server holds as soon as that is what is expected, or else after `seconds`."""
    deadline = time.monotonic() + seconds
    while (counts := await held(server)) != expected and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(POLL_SECONDS)
    return counts


def changed(before: dict[str, int], after: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Return the resources whose number has changed, with the numbers before and after."""
    names = sorted(before.keys() | after.keys())
    return {name: (before.get(name, 0), after.get(name, 0)) for name in names if before.get(name) != after.get(name)}
