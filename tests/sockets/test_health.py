"""What probes are told of a node."""

import asyncio
import signal
import time
from collections.abc import Callable

import httpx

from tests.clients import channel_path
from tests.servers import LiveServer
from tests.sockets.test_presence_crowd import Listener


def test_a_node_is_alive_and_ready_whatever_the_host(serve: LiveServer) -> None:
    headers = {"Host": "probe.invalid"}
    with httpx.Client(base_url=serve.url("", scheme="http"), trust_env=False, headers=headers) as http:
        assert http.get("/healthz").json() == {"alive": True}
        answer = http.get("/readyz")
        assert (answer.status_code, answer.json()) == (200, {"ready": True, "other_nodes_reachable": True})


async def test_a_node_that_is_told_to_end_is_alive_and_not_ready(
    start: Callable[..., LiveServer], keys: dict[str, str], channel: str
) -> None:
    server = start("serve")
    # A client that never answers a close frame: the node waits for it, within reason.
    listener = Listener(channel_path(channel, keys["demo"], "presence"))
    await asyncio.get_running_loop().create_connection(lambda: listener, "127.0.0.1", server.port)
    while not listener.count:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    listener.data_received = lambda data: None  # type: ignore[method-assign]
    server.process.send_signal(signal.SIGTERM)
    seen: list[tuple[int, int]] = []
    deadline = time.monotonic() + 5
    async with httpx.AsyncClient(base_url=server.url("", scheme="http"), trust_env=False) as http:
        while (503, 200) not in seen:
            assert time.monotonic() < deadline, seen
            seen.append(((await http.get("/readyz")).status_code, (await http.get("/healthz")).status_code))
    listener.transport.abort()
    assert server.stop() == 0
