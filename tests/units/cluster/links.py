"""Nodes on the channel layer, as the tests see them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from realtime.cluster.layer import PubSubLayer


class Listener:
    """A layer with connections of its own and its link, and what the link has told."""

    def __init__(self, *hosts: Any) -> None:
        self.layer = PubSubLayer(list(hosts), prefix="test")
        self.frames: list[tuple[str, bytes]] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.messages = 0
        self.gaps = 0
        self.done: list[str] = []
        self.round_trips: list[float] = []
        self.link = self.layer.attach(
            self._hear, lambda group, event: self.events.append((group, event)), self._miss, self.round_trips.append
        )

    def publish(self, text: str, group: str = "a") -> None:
        """Publish as a client, whose message this node has delivered."""
        self.link.publish(group, text.encode(), 1, "party")

    def publish_in_order(self, text: str, group: str = "a") -> None:
        """Publish as a server."""
        self.link.publish_in_order(group, text.encode(), 1, "party", lambda: self.done.append(text))

    def text(self, group: str = "a") -> str:
        """Return everything that was delivered of a group, one behind the other."""
        return b"".join(frames for where, frames in self.frames if where == group).decode()

    def _hear(self, group: str, frames: bytes, count: int) -> None:
        self.frames.append((group, frames))
        self.messages += count

    def _miss(self) -> None:
        self.gaps += 1


@asynccontextmanager
async def listening(*hosts: Any) -> AsyncIterator[Listener]:
    """Run a node on one Redis or more."""
    listener = Listener(*hosts)
    listener.link.start()
    yield listener
    await listener.link.stop()
