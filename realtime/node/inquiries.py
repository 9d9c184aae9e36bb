"""Questions about connections that every node answers for its own: those of a channel, and which to disconnect.

They are rare: somebody looks at a page of the console. So nothing is kept in Redis for them. Loop thread only.
"""

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

from realtime.cluster.bus import CONTROL_GROUP, Bus
from realtime.fanout.hub import Hub
from realtime.node.connections import Connection, Subscription
from realtime.protocols.closes import DISCONNECTED, Close

PREFIX = "inquiry."
"""Begins the types of the events between nodes."""
ASK, ANSWER = f"{PREFIX}ask", f"{PREFIX}answer"
ANSWER_SECONDS = 0.3
MAX_LISTED = 200
"""How many connections of a channel are listed."""

Answers = list[Any]


class Inquiries:
    """Asks all nodes, and answers for this one."""

    def __init__(
        self,
        node_id: str,
        bus: Bus,
        hub: Hub,
        living_nodes: Callable[[], Awaitable[list[str] | None]],
        end: Callable[[Connection, Close], None],
    ) -> None:
        """
        Args:
            node_id: the ID of this node.
            bus: sends events to other nodes.
            hub: the rooms of this node.
            living_nodes: returns the IDs of all nodes; None if Redis is unreachable.
            end: closes a connection.
        """
        self._node_id = node_id
        self._bus = bus
        self._hub = hub
        self._living_nodes = living_nodes
        self._end = end
        self._asked: dict[str, tuple[Answers, int, asyncio.Event]] = {}

    async def connections(self, group: str) -> list[dict[str, Any]]:
        """Return the connections of a channel on all nodes, at most `MAX_LISTED`, oldest first."""
        answers = await self._ask({"kind": "list", "group": group})
        return sorted(itertools.chain.from_iterable(answers), key=lambda each: each["since"])[:MAX_LISTED]

    async def disconnect(self, group: str, connection_id: str) -> bool:
        """Close one connection of a channel, on whichever node it is; return whether it was found."""
        return any(await self._ask({"kind": "disconnect", "group": group, "id": connection_id}))

    def receive(self, event: dict[str, Any]) -> None:
        """Receive an event of this module, from any node."""
        if event["type"] == ASK:
            if event["node"] != self._node_id:
                answer = {"type": ANSWER, "inquiry": event["inquiry"], "answer": self._answer(event["question"])}
                self._bus.send(_group(event["node"]), answer)
        elif event["inquiry"] in self._asked:
            answers, expected, complete = self._asked[event["inquiry"]]
            answers.append(event["answer"])
            if len(answers) == expected:
                complete.set()

    async def _ask(self, question: dict[str, Any]) -> Answers:
        """Return the answers of all nodes; without those that take too long, such as a node that has just died."""
        answers: Answers = [self._answer(question)]
        others = {*(await self._living_nodes() or ())} - {self._node_id}
        if not others:
            return answers
        inquiry, complete = uuid.uuid4().hex, asyncio.Event()
        self._asked[inquiry] = (answers, len(others) + 1, complete)
        group = _group(self._node_id)
        try:
            await self._bus.join(group)
            ask = {"type": ASK, "inquiry": inquiry, "node": self._node_id, "question": question}
            self._bus.send(CONTROL_GROUP, ask)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await complete.wait()
        finally:
            self._bus.leave(group)
            del self._asked[inquiry]
        return answers

    def _answer(self, question: dict[str, Any]) -> Any:
        room = self._hub.rooms.get(question["group"])
        members = () if room is None else room.members
        connections = (member.connection for member in members if isinstance(member, Subscription))
        if question["kind"] == "list":
            return [_describe(connection) for connection in islice(connections, MAX_LISTED)]
        found = next((each for each in connections if each.id == question["id"]), None)
        if found is not None:
            self._end(found, DISCONNECTED)
        return found is not None


def _describe(connection: Connection) -> dict[str, Any]:
    return {
        "id": connection.id,
        "user": connection.user,
        "public_key": connection.access.public_key,
        "address": connection.network or "",
        "since": connection.opened_at,
    }


def _group(node_id: str) -> str:
    """Return the group in which a node gets answers."""
    return f"answers.{node_id}"
