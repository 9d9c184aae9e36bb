"""What several tests of sockets use."""

from collections.abc import Iterator

import pytest

from tests.clients import channel_path
from tests.servers import LiveServer
from tests.sockets.raw import Open, Raw


@pytest.fixture
def raw(keys: dict[str, str]) -> Iterator[Open]:
    """Open a connection: `raw(server, channel, "a header line")`."""
    opened: list[Raw] = []

    def open_raw(server: LiveServer, channel: str, *lines: str, key: str = "demo", receive_buffer: int = 0) -> Raw:
        opened.append(Raw(server, channel_path(channel, keys[key]), *lines, receive_buffer=receive_buffer))
        return opened[-1]

    yield open_raw
    for client in opened:
        client.socket.close()
