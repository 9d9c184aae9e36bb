"""A key whose place in the cache expires at any moment of a handshake."""

from collections.abc import Callable

import pytest

from tests.clients import channel_path, open_client
from tests.servers import LiveServer

CLIENTS = 1_000


@pytest.mark.parametrize("kind", ["serve", "shut"])
async def test_clients_connect_at_the_moment_in_which_their_key_expires_in_the_cache(
    start: Callable[..., LiveServer], keys: dict[str, str], channel: str, kind: str
) -> None:
    server = start(kind, KEY_CACHE_SECONDS="0.004", CONNECTS_PER_MINUTE_PER_ADDRESS="1000000")
    for _ in range(CLIENTS):
        async with open_client(server, channel_path(channel, keys["demo"])) as client:
            await client.settle()
    assert server.stop() == 0
    assert "Traceback" not in server.log
