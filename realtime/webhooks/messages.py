"""What webhooks get of single moments, such as messages of clients: gathered in memory and written in batches.

Loop thread only.
"""

import asyncio
import base64
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar

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
_PUSHER = "pusher"

S = TypeVar("S")


class _Named(msgspec.Struct):
    event: str


class _Event(msgspec.Struct):
    data: str


class _Pending(NamedTuple):
    """An event that is not written yet."""

    kind: WebhookKind
    channel: Channel
    members: Callable[[], Mapping[str, object]]
    """Returns the members of the event that only its kind has."""
    at: float


class Messages(Generic[S]):
    """The events that are not written yet."""

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
        self._pending: list[_Pending] = []
        self._size = self._unwritten_size = 0
        self._unwritten: list[NewDelivery] = []
        self._dropped: Counter[int] = Counter()

    def note(self, channel: Channel, data: str | bytes, sender: S) -> None:
        """Remember a message of a client, in a cluster that has webhooks."""
        self._keep(WebhookKind.CLIENT, channel, partial(self._describe_message, channel[1], data, sender), len(data))

    def note_event(self, kind: WebhookKind, channel: Channel, **members: object) -> None:
        """Remember an event of another kind, in a cluster that has webhooks.

        Args:
            kind: the kind.
            channel: the channel.
            members: the members of the event that only this kind has.
        """
        self._keep(kind, channel, lambda: members, 0)

    def _keep(
        self, kind: WebhookKind, channel: Channel, members: Callable[[], Mapping[str, object]], size: int
    ) -> None:
        if self._size + self._unwritten_size >= MAX_PENDING_BYTES:
            for endpoint in self._receivers(kind, channel):
                self._dropped[endpoint.pk] += 1
            return
        self._size += size + _OVERHEAD
        self._pending.append(_Pending(kind, channel, members, time.time()))

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

    def _receivers(self, kind: WebhookKind, channel: Channel) -> Iterator[Endpoint]:
        return (each for each in self._endpoints.get(channel[0], ()) if each.wants((kind,), channel[1]))

    async def _deliveries(self, pending: Sequence[_Pending]) -> list[NewDelivery]:
        events: dict[Endpoint, list[bytes]] = {}
        for number, (kind, channel, members, at) in enumerate(pending, 1):
            if receivers := list(self._receivers(kind, channel)):
                event = _event(kind, channel[1], members(), at)
                for endpoint in receivers:
                    events.setdefault(endpoint, []).append(event)
            if number % _MESSAGES_PER_TURN == 0:
                await asyncio.sleep(0)
        return [
            NewDelivery(endpoint.pk, f"[{b','.join(part).decode()}]", len(part), False)
            for endpoint, all_of_it in events.items()
            for part in _parts(all_of_it, MAX_EVENTS if endpoint.batches else 1)
        ]

    def _describe_message(self, path: str, data: str | bytes, sender: S) -> Mapping[str, object]:
        """Return the members of the event that reports a message."""
        socket_id, user_id = self._describe(sender)
        event: dict[str, object] = {"event": _name_of(data)}
        if split_path(path)[0] == _PUSHER:  # its clients send an event as a frame, of which webhooks get only the data
            data = msgspec.json.decode(data, type=_Event).data
        if isinstance(data, str):
            event["data"] = data
        else:
            event["data_base64"] = base64.b64encode(data).decode()
        event["socket_id"] = socket_id
        if user_id is not None:
            event["user_id"] = user_id
        return event


def _event(kind: WebhookKind, path: str, members: Mapping[str, object], at: float) -> bytes:
    """Return an event, as JSON."""
    protocol, channel = split_path(path)
    event = {"name": kind.value, "channel": channel, **members, "protocol": protocol, "time_ms": int(at * 1000)}
    return msgspec.json.encode(event)


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
