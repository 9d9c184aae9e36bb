"""How much a server holds, and whether it comes back to what it was."""

import asyncio
import time

import httpx

from tests.servers import LiveServer

PATH = "/what-this-process-holds"
POLL_SECONDS = 0.5


async def held(server: LiveServer, *, after_collection: bool = True) -> dict[str, int]:
    """What `counted.held` says of a server's process.

    Args:
        server: the server.
        after_collection: without what only Python's search for cycles can free.
    """
    url = server.url(PATH if after_collection else f"{PATH}?as-it-is", scheme="http")
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        counts: dict[str, int] = (await client.get(url)).json()
    return counts


async def held_at_rest(server: LiveServer, seconds: float) -> dict[str, int]:
    """The same, when nobody is connected and nothing changes any more.

    Raises:
        TimeoutError: that is not so within so many seconds; with what there is still.
    """
    deadline = time.monotonic() + seconds
    before: dict[str, int] = {}
    while True:
        counts = await held(server)
        if counts == before and not (counts["connections"] or counts["accounts in use"]):
            return counts
        if time.monotonic() > deadline:
            raise TimeoutError(f"{seconds:.0f} s later there is still {changed(before, counts) or counts}")
        before = counts
        await asyncio.sleep(POLL_SECONDS)


async def until_held(server: LiveServer, expected: dict[str, int], seconds: float) -> dict[str, int]:
    """What a server holds as soon as that is what is expected, or after so many seconds."""
    deadline = time.monotonic() + seconds
    while (counts := await held(server)) != expected and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(POLL_SECONDS)
    return counts


def changed(before: dict[str, int], after: dict[str, int]) -> dict[str, tuple[int, int]]:
    """What is held more or less often than before."""
    names = sorted(before.keys() | after.keys())
    return {name: (before.get(name, 0), after.get(name, 0)) for name in names if before.get(name) != after.get(name)}
