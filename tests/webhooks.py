"""A tenant's webhook on a server, for tests."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from tests.clients import Client
from tests.receivers import Receiver
from tests.servers import LiveServer

SETTINGS = {"WEBHOOK_ALLOWS_HTTP": "1", "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.1"}
CREATE = """
import json
from accounts import services
from accounts.models import Cluster
cluster = Cluster.objects.get(cluster_id={cluster_id!r})
created = services.create_webhook(cluster, {url!r}, headers={{"X-Mine": "1"}}, **{settings!r})
print(json.dumps([created.webhook.pk, created.secret]))
"""
ENQUEUE = """
from accounts.webhooks.queue import NewDelivery, add
events = [{{"name": "client_event", "number": number}} for number in range({count})]
add([NewDelivery.of({pk}, [event], in_order={in_order}) for event in events])
"""
LOG = """
import json
from accounts.models import Webhook
rows = Webhook.objects.get(pk={pk}).deliveries.order_by("pk")
print(json.dumps([[row.message_id, row.state, row.attempts] for row in rows]))
"""


DROPPED = "from accounts.models import Webhook; print(Webhook.objects.get(pk={pk}).dropped)"
PROBE = "are you there?"


class Tenant:
    """A tenant's webhook on a server."""

    def __init__(self, server: LiveServer, receiver: Receiver, cluster_id: str = "demo", **settings: Any) -> None:
        """
        Args:
            server: the server, or one of those that share a database.
            receiver: the tenant's own server.
            cluster_id: the cluster.
            settings: settings of the webhook; by default, it gets the messages of clients.
        """
        self._server = server
        self.receiver = receiver
        settings = {"kinds": ["client_event"], **settings}
        program = CREATE.format(url=receiver.url, cluster_id=cluster_id, settings=settings)
        self.pk, self.secret = self._shell(program)

    def enqueue(self, count: int, *, in_order: bool = False) -> None:
        self._server.shell(ENQUEUE.format(pk=self.pk, count=count, in_order=in_order))

    def log(self) -> list[tuple[str, str, list[dict[str, Any]]]]:
        return [tuple(row) for row in self._shell(LOG.format(pk=self.pk))]

    def dropped(self) -> int:
        """Return how many events could not be kept."""
        return int(self._shell(DROPPED.format(pk=self.pk)))

    def _shell(self, program: str) -> Any:
        return json.loads(self._server.shell(program))

    def numbers(self) -> list[int]:
        """Return the numbers of all events that have arrived, in order."""
        return [event["number"] for got in list(self.receiver.requests) for event in got.events]

    def wait(self, is_done: Callable[["Tenant"], bool], seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not is_done(self):
            assert time.monotonic() < deadline, self.log()[-3:]
            time.sleep(0.1)

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """Return all events that have arrived, or those of one kind, in order, without repeated deliveries."""
        # A node that dies between an answer and its record leaves a delivery that another node repeats.
        deliveries = {got.id: got.events for got in reversed(self.receiver.requests)}
        events = [event for delivered in reversed(deliveries.values()) for event in delivered]
        return [event for event in events if name in ("", event["name"])]

    async def until(self, is_done: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not is_done():
            assert time.monotonic() < deadline, self.log()[-3:]
            await asyncio.sleep(0.1)


async def until_known(tenant: Tenant, client: Client) -> None:
    """Send messages until the server knows the webhook, which a command has created, and reports one."""
    while not tenant.events("client_event"):
        await client.send(PROBE)
        await asyncio.sleep(0.2)
