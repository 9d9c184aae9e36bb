"""Webhooks on several nodes: each change of a channel is reported once, also when a node dies."""

import signal
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

from tests.clients import channel_path, open_client
from tests.nodes.service import Service
from tests.receivers import Receiver
from tests.webhooks import SETTINGS, Tenant

CHANNELS = 200


async def test_channels_are_occupied_and_vacated_once_each_although_a_node_is_killed(tmp_path: Path) -> None:
    with ExitStack() as services:
        service = Service(tmp_path, services, **SETTINGS)
        for node in service.nodes:
            services.callback(node.stop, signal.SIGKILL)
        receiver = services.enter_context(Receiver())
        key, _ = service.issue_key("acme")
        tenant = Tenant(service.nodes[1], receiver, "acme", kinds=["channel_occupied", "channel_vacated"], batches=True)
        paths = [channel_path(f"c{number}", key) for number in range(CHANNELS)]
        async with AsyncExitStack() as on_first, AsyncExitStack() as on_second:
            # A quarter of the channels is on both nodes, a quarter on the second only, and half on the first only.
            for number, path in enumerate(paths):
                if number % 4 != 3:
                    await on_first.enter_async_context(open_client(service.nodes[0], path))
                if number % 4 >= 2:
                    await on_second.enter_async_context(open_client(service.nodes[1], path))
            await tenant.until(lambda: len(tenant.events("channel_occupied")) == CHANNELS)
            service.nodes[0].stop(signal.SIGKILL)
            await tenant.until(lambda: len(tenant.events("channel_vacated")) >= CHANNELS // 2, seconds=30)
            gone = {event["channel"] for event in tenant.events("channel_vacated")}
            assert gone == {f"c{number}" for number in range(CHANNELS) if number % 4 < 2}
        await tenant.until(lambda: len(tenant.events("channel_vacated")) == CHANNELS, seconds=30)
        for number in range(CHANNELS):
            names = [event["name"] for event in tenant.events() if event["channel"] == f"c{number}"]
            assert names == ["channel_occupied", "channel_vacated"]
