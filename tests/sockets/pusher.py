"""A client of Pusher's protocol that tests send frames with, and the signatures that a site would make."""

import hashlib
import hmac
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.clients import Client, open_client
from tests.servers import LiveServer

PING = "pusher:ping"
_numbers = itertools.count()


def channel_name(kind: str = "") -> str:
    """Return the name of a channel that no other test uses."""
    return f"{kind}pusher-{next(_numbers)}"


def signature(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


class PusherClient:
    """A connection of Pusher's protocol, whose hello has arrived."""

    def __init__(self, client: Client, key: str, secret: str) -> None:
        self.client = client
        self.key = key
        self.secret = secret
        self.hello: dict[str, Any] = {}
        self.socket_id = ""

    async def greet(self) -> None:
        self.hello = await self.receive()
        self.socket_id = json.loads(self.hello["data"])["socket_id"]

    async def send(self, event: str, data: Any, channel: str | None = None) -> None:
        await self.client.send(json.dumps({"event": event, "data": data} | ({"channel": channel} if channel else {})))

    async def receive(self) -> dict[str, Any]:
        return dict(json.loads(await self.client.receive()))

    async def settle(self) -> None:
        """Return when the server has handled what this client sent, and check that nothing else came back."""
        await self.send(PING, {})
        assert await self.receive() == {"event": "pusher:pong", "data": "{}"}

    def auth(self, text: str, *, key: str | None = None, secret: str | None = None) -> str:
        """Return the signature of a text for this connection, as the site of a tenant sends it."""
        return f"{key or self.key}:{signature(secret or self.secret, f'{self.socket_id}{text}')}"

    async def subscribe(self, channel: str, user: Any = None, **changed: Any) -> None:
        """Ask to subscribe, with the signature that the kind of the channel needs, and as a user if there is one."""
        data: dict[str, Any] = {"channel": channel, "auth": ""}
        if channel.startswith("presence-") and user is not None:
            data["channel_data"] = json.dumps(user)
            data["auth"] = self.auth(f":{channel}:{data['channel_data']}")
        elif channel.startswith(("private-", "presence-")):
            data["auth"] = self.auth(f":{channel}")
        await self.send("pusher:subscribe", data | changed)

    async def join(self, channel: str, user: Any = None) -> dict[str, Any]:
        """Subscribe, and return the data of the answer."""
        await self.subscribe(channel, user)
        answer = await self.receive()
        assert answer["event"] == "pusher_internal:subscription_succeeded", answer
        assert answer["channel"] == channel
        return dict(json.loads(answer["data"]))

    async def refusal(self, channel: str, **data: Any) -> dict[str, Any]:
        """Ask to subscribe, and return the data of the error."""
        await self.subscribe(channel, **data)
        answer = await self.receive()
        assert (answer["event"], answer["channel"]) == ("pusher:subscription_error", channel)
        return dict(answer["data"])

    async def sign_in(self, user: Any) -> None:
        data = json.dumps(user)
        await self.send("pusher:signin", {"auth": self.auth(f"::user::{data}"), "user_data": data})


@asynccontextmanager
async def open_pusher(
    server: LiveServer, key: str, secret: str, query: str = "?protocol=7&client=js&version=8.6.0&flash=false"
) -> AsyncIterator[PusherClient]:
    """Connect to the app of a key, and receive the hello."""
    async with open_client(server, f"/app/{key}{query}") as client:
        pusher = PusherClient(client, key, secret)
        await pusher.greet()
        yield pusher


def switch_on(server: LiveServer, *options: str) -> None:
    """Switch options of the demo cluster on."""
    values = ", ".join(f"{name}=True" for name in options)
    program = (
        "from accounts import services; from accounts.models import Cluster\n"
        f"services.update_cluster(Cluster.objects.get(cluster_id='demo'), {values})"
    )
    server.shell(program)
