"""What requests to Pusher's HTTP API do: publish events, ask about channels, and close the connections of a user."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from accounts.key_access import KeyAccess
from realtime.cluster.recent_actions import REQUEST
from realtime.node.connections import message_limit
from realtime.node.node import Node
from realtime.node.publishing import deliver
from realtime.protocols.channels import Channel, is_channel
from realtime.protocols.frames import compact_json
from realtime.protocols.publishing import Problem
from realtime.protocols.pusher_channels import (
    MAX_USER_ID_LENGTH,
    PATH_PREFIX,
    USER_PREFIX,
    group_for,
    kind_of,
    name_in,
    path_for,
    path_of,
)
from realtime.protocols.pusher_events import (
    Body,
    Event,
    check_name,
    read_batch,
    read_body,
    read_event,
    read_idempotency_key,
    read_info,
)

SUCCESS = b"{}"
USER_COUNT, SUBSCRIPTION_COUNT, CACHE = "user_count", "subscription_count", "cache"


class Inquiry(NamedTuple):
    """A request that may be performed."""

    node: Node
    access: KeyAccess
    names: Sequence[str]
    """The names in its path, such as that of a channel."""
    parameters: Mapping[str, str]
    """Those of its query."""
    content: bytes
    """Its body."""
    idempotency_key: bytes | None
    """The header that identifies a request which the client may repeat."""


async def publish_event(inquiry: Inquiry) -> bytes:
    """Publish an event to one or more channels."""
    node, access = inquiry.node, inquiry.access
    body = read_body(inquiry.content)
    event = read_event(body, access.cluster_id, message_limit(access))
    await _publish(inquiry, body, [event])
    if not event.info:
        return SUCCESS
    described = await asyncio.gather(*(_describe(node, access, name, event.info) for name in event.channels))
    return compact_json({"channels": dict(zip(event.channels, described, strict=True))}).encode()


async def publish_batch(inquiry: Inquiry) -> bytes:
    """Publish several events, all of them or none."""
    node, access = inquiry.node, inquiry.access
    body = read_body(inquiry.content)
    events = read_batch(body, access.cluster_id, message_limit(access))
    await _publish(inquiry, body, events)
    if not any(event.info for event in events):
        return SUCCESS
    described = await asyncio.gather(*(_describe(node, access, event.channels[0], event.info) for event in events))
    return compact_json({"batch": described}).encode()


async def list_channels(inquiry: Inquiry) -> bytes:
    """Return the channels that have subscribers."""
    node, access, _, parameters, *_ = inquiry
    prefix, info = parameters.get("filter_by_prefix", ""), read_info(parameters.get("info", ""))
    if USER_COUNT in info and not prefix.startswith("presence-"):
        raise Problem(400, "Ask for the user_count only with a filter_by_prefix that begins with presence-.")
    counts = await node.counts.of_cluster(access.cluster_pk)
    listed: dict[str, dict[str, Any]] = {}
    for path, subscribers in list(counts.items()):
        name = name_in(path) if path.startswith(PATH_PREFIX) and is_channel(path) else ""
        if name and name.startswith(prefix) and not name.startswith(USER_PREFIX) and subscribers > 0:
            listed[name] = {SUBSCRIPTION_COUNT: subscribers} if SUBSCRIPTION_COUNT in info else {}
    if USER_COUNT in info:
        for name, users in zip(listed, await _count_users(node, access, list(listed)), strict=True):
            listed[name][USER_COUNT] = users
    return compact_json({"channels": listed}).encode()


async def show_channel(inquiry: Inquiry) -> bytes:
    """Return whether a channel has subscribers, and the attributes that the request asks for."""
    node, access, (name,), parameters, *_ = inquiry
    check_name(name)
    info = read_info(parameters.get("info", ""))
    if USER_COUNT in info and not kind_of(name).is_presence:
        raise Problem(400, "Ask for the user_count only of presence channels.")
    subscribers = await _count(node, (access.cluster_pk, path_for(name)))
    described = await _describe(node, access, name, info)
    return compact_json({"occupied": subscribers > 0, **described}).encode()


async def list_users(inquiry: Inquiry) -> bytes:
    """Return the users in a presence channel."""
    node, access, (name,), *_ = inquiry
    check_name(name)
    if not kind_of(name).is_presence:
        raise Problem(400, "Ask for the users only of presence channels.")
    return compact_json({"users": [{"id": user} for user in await _users(node, access, name)]}).encode()


async def count_connections(inquiry: Inquiry) -> bytes:
    """Return the number of connections of Pusher's protocol, as Reverb does."""
    node, access, *_ = inquiry
    return compact_json({"connections": await _count(node, (access.cluster_pk, PATH_PREFIX))}).encode()


async def terminate_connections(inquiry: Inquiry) -> bytes:
    """Close the connections of a signed-in user, on all nodes."""
    node, access, (user,), *_ = inquiry
    if not 1 <= len(user) <= MAX_USER_ID_LENGTH:
        raise Problem(400, f"A user ID has 1 to {MAX_USER_ID_LENGTH} characters.")
    node.users.terminate(access.cluster_pk, user)
    return SUCCESS


async def _publish(inquiry: Inquiry, body: Body, events: Sequence[Event]) -> None:
    """Publish events, unless the client repeats a request that was performed."""
    node, access = inquiry.node, inquiry.access
    key = read_idempotency_key(body, inquiry.idempotency_key)
    if key and not await node.recent_actions.claim(REQUEST, access.cluster_pk, key):
        return
    messages = [message for event in events for message in event.messages]
    kept = [frame for event in events for frame in event.kept]
    try:
        await deliver(node, access, messages, path_of, partial(node.last_events.put, kept) if kept else None)
    except Problem:
        if key:
            await node.recent_actions.release(REQUEST, access.cluster_pk, key)
        raise


async def _describe(node: Node, access: KeyAccess, name: str, info: Iterable[str]) -> dict[str, Any]:
    """Return those attributes of a channel that a request asks for and the channel has."""
    attributes: dict[str, Any] = {}
    if USER_COUNT in info and kind_of(name).is_presence:
        attributes[USER_COUNT] = len(await _users(node, access, name))
    if SUBSCRIPTION_COUNT in info:
        attributes[SUBSCRIPTION_COUNT] = await _count(node, (access.cluster_pk, path_for(name)))
    if CACHE in info and kind_of(name).is_cache:
        last = await node.last_events.find(group_for(access.cluster_id, name))
        attributes[CACHE] = last and {"data": json.loads(last.frame)["data"], "ttl": last.seconds_left}
    return attributes


async def _users(node: Node, access: KeyAccess, name: str) -> list[str]:
    return [identity.uuid for identity in await node.presence.members(group_for(access.cluster_id, name))]


async def _count_users(node: Node, access: KeyAccess, names: Sequence[str]) -> list[int]:
    """Return the number of users in each of some channels, which may be many."""
    found = await node.presence.uuids([group_for(access.cluster_id, name) for name in names])
    if found is None:  # not all nodes can be asked now
        return [len(await _users(node, access, name)) for name in names]
    return list(map(len, found))


async def _count(node: Node, channel: Channel) -> int:
    """Return the number of subscribers of a channel on all nodes."""
    counted: asyncio.Future[int] = node.loop.create_future()

    def note(subscribers: int) -> None:
        if not counted.done():  # else the client has disconnected
            counted.set_result(subscribers)

    node.counts.count(channel, note)
    return await counted
