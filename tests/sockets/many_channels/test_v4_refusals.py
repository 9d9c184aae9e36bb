"""PieSocket v4: refused clients, whose library reconnects immediately after every refusal."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from realtime.consumers import REJECTION_SECONDS
from realtime.server.addresses import MAX_REFUSALS
from tests.clients import open_client
from tests.conftest import SERVERS
from tests.servers import LiveServer
from tests.sockets.v4 import open_v4, v4_path


# Each node counts refusals for itself, so not with several.
@pytest.fixture(scope="session", params=[kind for kind in SERVERS if kind in ("serve", "shut")])
def server(request: pytest.FixtureRequest, shared: Callable[..., LiveServer]) -> LiveServer:
    return shared(request.param)


async def refuse(server: LiveServer, path: str) -> int:
    """Connect until the handshake itself fails; return how often the server has told the reason before."""
    for attempt in range(MAX_REFUSALS + 1):
        try:
            async with open_client(server, path) as client:
                assert (await client.ending())[1] == 4009
        except InvalidStatus:
            return attempt
    raise AssertionError("the handshake never failed")


async def test_a_client_that_is_refused_again_and_again_gets_an_http_error_and_waits_for_it(
    server: LiveServer, keys: dict[str, str], channel: str
) -> None:
    path = v4_path(f"private-{channel}", keys["demo"], channel)
    assert await refuse(server, path) == MAX_REFUSALS
    begun = time.monotonic()
    with pytest.raises(InvalidStatus, match="403"):
        async with open_client(server, path):
            pass
    assert time.monotonic() - begun > REJECTION_SECONDS / 2


async def test_others_at_the_same_address_connect(server: LiveServer, keys: dict[str, str], channel: str) -> None:
    await refuse(server, v4_path(f"private-{channel}", keys["demo"], channel))
    async with open_v4(server, channel, keys["demo"], f"{channel}-other") as client:
        await client.settle()
    async with open_v4(server, channel, keys["second"], channel) as client:
        await client.settle()
    path = f"/v3/private-{channel}?api_key={keys['demo']}&uuid={channel}"
    for _ in range(MAX_REFUSALS + 2):
        async with open_client(server, path) as old:
            assert (await old.ending())[1] == 4009


async def test_a_connection_ends_and_its_next_handshake_counts_as_a_refusal(
    own_server: LiveServer, keys: dict[str, str], channel: str
) -> None:
    async with open_v4(own_server, channel, keys["demo"], channel) as client:
        await client.subscribe(f"{channel}-b")
        own_server.shell(
            "from accounts import services; from accounts.models import ApiKey\n"
            f"services.revoke_key(ApiKey.objects.get(public_key='{keys['demo']}'))",
        )
        await client.listening
        assert client.client.socket.close_code == 4001
        assert list(client.frames[-1]) == ["error"]
    attempts: list[Any] = []
    for _ in range(MAX_REFUSALS + 1):
        try:
            async with open_client(own_server, v4_path(channel, keys["demo"], channel)) as again:
                attempts.append((await again.ending(60))[1])
        except InvalidStatus as error:
            attempts.append(error.response.status_code)
    assert attempts == [4001] * MAX_REFUSALS + [403]
