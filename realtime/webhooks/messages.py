"""The messages of clients that webhooks get, gathered in memory and written in batches. Loop thread only."""

import asyncio
import base64
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Generic, TypeVar

import msgspec
from django.db import Error as DatabaseError

from accounts.models import WebhookKind
from accounts.webhooks.queue import MAX_EVENTS, NewDelivery
from accounts.webhooks.states import Endpoint, Endpoints, split_path
from realtime.protocols.channels import Channel

MAX_PENDING_BYTES = 16 * 1024 * 1024
"""How much waits for the database; what is beyond is dropped and counted."""
MAX_BATCH_BYTES = 256 * 1024
"""How large the events of one request are, unless a single one is larger."""
# What a message takes in memory besides its data, in bytes.
_OVERHEAD = 200
_MESSAGES_PER_TURN = 50
_KINDS = (WebhookKind.CLIENT,)
PUSHER = "pusher"

S = TypeVar("S")


class _Named(msgspec.Struct):
    event: str


class _Event(msgspec.Struct):
    data: str


class Messages(Generic[S]):
    """The messages that are not written yet."""

    def __init__(
        self,
        endpoints: Endpoints,
        describe: Callable[[S], tuple[str, str | None]],
        add: Callable[[Sequence[NewDelivery]], Awaitable[object]],
        count_dropped: Callable[[int, int], Awaitable[None]],
    ) -> None:
        """
        Args:
            endpoints: the current webhooks, which somebody else keeps up to date.
            describe: returns the ID of a sender's connection, and its uuid if it takes part in presence.
            add: adds deliveries to the queue.
            count_dropped: counts events of a webhook that could not be kept.
        """
        self._endpoints = endpoints
        self._describe = describe
        self._add = add
        self._count_dropped = count_dropped
        self._pending: list[tuple[Channel, str | bytes, S, float]] = []
        self._size = self._unwritten_size = 0
        self._unwritten: list[NewDelivery] = []
        self._dropped: Counter[int] = Counter()

    def note(self, channel: Channel, data: str | bytes, sender: S) -> None:
        """Remember a message of a cluster that has webhooks."""
        if self._size + self._unwritten_size >= MAX_PENDING_BYTES:
            for endpoint in self._receivers(channel):
                self._dropped[endpoint.pk] += 1
            return
        self._size += len(data) + _OVERHEAD
        self._pending.append((channel, data, sender, time.time()))

    async def write(self) -> None:
        """Write what waits.

        Raises:
            django.db.Error: it waits on.
        """
        # What was not written last time is in front, so that the order of the messages is kept.
        if not self._unwritten and self._pending:
            pending, self._pending = self._pending, []
            self._size, self._unwritten_size = 0, self._size
            self._unwritten = await self._deliveries(pending)
        if self._unwritten:
            await self._add(self._unwritten)
        self._unwritten, self._unwritten_size = [], 0
        while self._dropped:
            webhook_pk, events = self._dropped.popitem()
            try:
                await self._count_dropped(webhook_pk, events)
            except DatabaseError:
                self._dropped[webhook_pk] += events
                raise

    def _receivers(self, channel: Channel) -> Iterator[Endpoint]:
        return (each for each in self._endpoints.get(channel[0], ()) if each.wants(_KINDS, channel[1]))

    async def _deliveries(self, pending: Sequence[tuple[Channel, str | bytes, S, float]]) -> list[NewDelivery]:
        events: dict[Endpoint, list[bytes]] = {}
        for number, (channel, data, sender, at) in enumerate(pending, 1):
            if receivers := list(self._receivers(channel)):
                event = _event(channel[1], data, *self._describe(sender), at)
                for endpoint in receivers:
                    events.setdefault(endpoint, []).append(event)
            if number % _MESSAGES_PER_TURN == 0:
                await asyncio.sleep(0)
        return [
            NewDelivery(endpoint.pk, f"[{b','.join(part).decode()}]", len(part), False)
            for endpoint, all_of_it in events.items()
            for part in _parts(all_of_it, MAX_EVENTS if endpoint.batches else 1)
        ]


def _event(path: str, data: str | bytes, socket_id: str, user_id: str | None, at: float) -> bytes:
    """Return the event that reports a message, as JSON."""
    protocol, channel = split_path(path)
    event: dict[str, object] = {"name": "client_event", "channel": channel, "event": _name_of(data)}
    if protocol == PUSHER:  # its clients send an event as a frame, of which webhooks get only the data
        data = msgspec.json.decode(data, type=_Event).data
    if isinstance(data, str):
        event["data"] = data
    else:
        event["data_base64"] = base64.b64encode(data).decode()
    event["socket_id"] = socket_id
    if user_id is not None:
        event["user_id"] = user_id
    return msgspec.json.encode({**event, "protocol": protocol, "time_ms": int(at * 1000)})


def _name_of(data: str | bytes) -> str:
    """Return the `event` of a message that is such JSON; "message" for all others."""
    if not isinstance(data, str) or not data.lstrip().startswith("{"):
        return "message"
    try:
        return msgspec.json.decode(data, type=_Named).event
    except (msgspec.MsgspecError, RecursionError):
        return "message"


def _parts(events: Sequence[bytes], most: int) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    size = 0
    for event in events:
        if part and (len(part) == most or size + len(event) > MAX_BATCH_BYTES):
            yield part
            part, size = [], 0
        part.append(event)
        size += len(event)
    if part:
        yield part
