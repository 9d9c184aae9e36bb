"""What webhooks get of single moments, such as messages of clients: gathered in memory and written in batches.

Loop thread only. A message is kept once, as it was received, however many webhooks get it. Its events are made shortly
before they are written: for a few messages of each account in turn, so that a flood of one account delays no other.
"""

import asyncio
import base64
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

import msgspec
from django.db import Error as DatabaseError

from accounts.models import WebhookKind
from accounts.webhooks.queue import MAX_EVENTS, NewDelivery, in_groups
from accounts.webhooks.states import Endpoint, Endpoints, split_path
from realtime.protocols.channels import Channel

MAX_PENDING_BYTES = 16 * 1024 * 1024
"""How much waits for the database; what is beyond is dropped and counted."""
FREE_SHARE = 2
"""How many times as much as is still free an account may use. So one alone uses two thirds, and all leave some free."""
MAX_BATCH_BYTES = 256 * 1024
"""How large the events of one request are, unless a single one is larger."""
WRITE_BYTES = 4 * 1024 * 1024
"""How much is written at the same time, unless a single event is larger."""
MAX_MADE_BYTES = 16 * 1024 * 1024
"""How many bytes of events wait to be written, until only small ones are made."""
_TURN_BYTES = 1024 * 1024
_TURN_MESSAGES = 5_000
# Forgetting these takes 0.3 ms. Their number is a multiple of what a request contains.
_PIECE_MESSAGES = 5 * MAX_EVENTS
# For how long messages are written before something else of the webhooks has a turn.
WRITE_SECONDS = 1.0
# What a message takes in memory besides its data, in bytes.
_OVERHEAD = 200
_MESSAGES_PER_SLICE = 20
_SLICE_BYTES = 64 * 1024
_PUSHER = "pusher"

S = TypeVar("S")


class _Named(msgspec.Struct):
    event: str


class _Event(msgspec.Struct):
    data: str


class _Message(msgspec.Struct, Generic[S], gc=False):
    """A message of a client."""

    data: str | bytes
    sender: S


class _Part(NamedTuple):
    """Events for one webhook, which one request contains. The events may be those of other webhooks too."""

    webhook_pk: int
    events: list[bytes]
    size: int


class _Pending(msgspec.Struct, Generic[S], gc=False):
    """An event that is not made yet.

    There may be thousands for some time, through which each garbage collection would look. It need not: all are taken
    out again, so no cycle remains.
    """

    kind: WebhookKind
    channel: Channel
    what: "_Message[S] | Mapping[str, object]"
    """The message, or the members of the event that only its kind has."""
    at: float
    size: int


class _Backlog(Generic[S]):
    """What waits of one account."""

    def __init__(self) -> None:
        self.pending: deque[_Pending[S]] = deque()
        self.parts: deque[_Part] = deque()
        self.size = 0
        """What the messages take in memory, with those whose events have been made."""
        self.parts_of = 0
        """What those take."""
        self.made = 0
        """How many bytes these events have."""


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
        self._backlogs: dict[int, _Backlog[S]] = {}
        self._size = self._made = 0
        self._dropped: Counter[int] = Counter()

    @property
    def has_pending(self) -> bool:
        """Whether some are still to be written."""
        return bool(self._backlogs)

    def note(self, channel: Channel, data: str | bytes, sender: S) -> None:
        """Remember a message of a client, in a cluster that has webhooks."""
        self._keep(WebhookKind.CLIENT, channel, _Message(data, sender), sys.getsizeof(data))

    def note_event(self, kind: WebhookKind, channel: Channel, **members: object) -> None:
        """Remember an event of another kind, in a cluster that has webhooks.

        Args:
            kind: the kind.
            channel: the channel.
            members: the members of the event that only this kind has.
        """
        self._keep(kind, channel, members, 0)

    def _keep(self, kind: WebhookKind, channel: Channel, what: _Message[S] | Mapping[str, object], size: int) -> None:
        endpoints = self._endpoints.get(channel[0])
        if not endpoints:
            return
        account = endpoints[0].account_pk
        backlog = self._backlogs.get(account)
        if (backlog.size if backlog else 0) >= FREE_SHARE * (MAX_PENDING_BYTES - self._size):
            for endpoint in self._receivers(kind, channel):
                self._dropped[endpoint.pk] += 1
            return
        if backlog is None:
            backlog = self._backlogs[account] = _Backlog()
        size += _OVERHEAD
        backlog.size += size
        self._size += size
        backlog.pending.append(_Pending(kind, channel, what, time.time(), size))

    async def write(self) -> bool:
        """Write what waits, or some of it if this takes long. What comes meanwhile may wait for the next time.

        Returns:
            Whether something still waits that has waited before.

        Raises:
            django.db.Error: it waits on.
        """
        until = time.monotonic() + WRITE_SECONDS
        is_behind = bool(self._backlogs)
        while is_behind and time.monotonic() < until:
            is_behind = await self._write_turn()
        while self._dropped:
            webhook_pk, events = self._dropped.popitem()
            try:
                await self._count_dropped(webhook_pk, events)
            except DatabaseError:
                self._dropped[webhook_pk] += events
                raise
        return is_behind

    async def _write_turn(self) -> bool:
        """Write some messages of the accounts that have waited longest; return whether it leaves any that waited."""
        deliveries: list[NewDelivery] = []
        written: list[tuple[int, int]] = []
        size = 0
        accounts = list(self._backlogs.items())
        is_behind = False
        for account, backlog in accounts:
            made = 0
            waiting = len(backlog.pending)
            if not backlog.parts:
                made = await self._make_turn(backlog, waiting)
            parts = list(_first(backlog.parts))
            written.append((account, len(parts)))
            is_behind = is_behind or waiting > made or len(backlog.parts) > len(parts)
            for part in parts:
                events = f"[{b','.join(part.events).decode()}]"
                deliveries.append(NewDelivery(part.webhook_pk, events, len(part.events), False))
                size += part.size
                await asyncio.sleep(0)
            if size >= WRITE_BYTES:
                break
        if deliveries:
            await self._add(deliveries)
        for account, number in written:
            backlog = self._backlogs.pop(account)
            for _ in range(number):
                backlog.parts.popleft()
            if not backlog.parts:
                self._size -= backlog.parts_of
                backlog.size -= backlog.parts_of
                self._made -= backlog.made
                backlog.parts_of = backlog.made = 0
            if backlog.parts or backlog.pending:
                self._backlogs[account] = backlog  # at the end
        return is_behind or len(written) < len(accounts)

    def _receivers(self, kind: WebhookKind, channel: Channel) -> Iterator[Endpoint]:
        return (each for each in self._endpoints.get(channel[0], ()) if each.wants((kind,), channel[1]))

    async def _make_turn(self, backlog: _Backlog[S], waiting: int) -> int:
        """Make the events of the messages of an account that wait, or of the first ones; return of how many."""
        made = await self._make_parts(backlog)
        while made < min(waiting, _TURN_MESSAGES) and backlog.made < _TURN_BYTES and self._made < MAX_MADE_BYTES:
            made += await self._make_parts(backlog)
        return made

    async def _make_parts(self, backlog: _Backlog[S]) -> int:
        """Make the events of the next messages of an account; return how many messages these are."""
        by_endpoint: dict[Endpoint, list[bytes]] = {}
        is_full = self._made >= MAX_MADE_BYTES
        most = _SLICE_BYTES if is_full else _TURN_BYTES
        made = parts_of = number = sliced = 0
        for pending in list(islice(backlog.pending, _PIECE_MESSAGES)):
            if (number or is_full) and made + pending.size > most:
                break
            if receivers := list(self._receivers(pending.kind, pending.channel)):
                what, path = pending.what, pending.channel[1]
                members = self._describe_message(path, what) if isinstance(what, _Message) else what
                event = _event(pending.kind, path, members, pending.at)
                made += len(event)
                for endpoint in receivers:
                    by_endpoint.setdefault(endpoint, []).append(event)
            parts_of += pending.size
            number += 1
            if number % _MESSAGES_PER_SLICE == 0 or made - sliced >= _SLICE_BYTES:
                sliced = made
                await asyncio.sleep(0)
        # Not before: if this is cancelled, nothing is lost.
        for _ in range(number):
            backlog.pending.popleft()
        backlog.made += made
        backlog.parts_of += parts_of
        self._made += made
        for endpoint, events in by_endpoint.items():
            backlog.parts += _parts(endpoint.pk, events, MAX_EVENTS if endpoint.batches else 1)
        return number

    def _describe_message(self, path: str, message: _Message[S]) -> Mapping[str, object]:
        """Return the members of the event that reports a message."""
        socket_id, user_id = self._describe(message.sender)
        data = message.data
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


def _first(parts: Iterable[_Part]) -> Iterator[_Part]:
    """Yield the first parts, up to `_TURN_BYTES`, and at least one."""
    size = 0
    for part in parts:
        if size and size + part.size > _TURN_BYTES:
            return
        size += part.size
        yield part


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


def _parts(webhook_pk: int, events: Iterable[bytes], most: int) -> Iterator[_Part]:
    for group in in_groups(events, len, most, MAX_BATCH_BYTES):
        yield _Part(webhook_pk, group, sum(map(len, group)))
