"""Watchlists, when the option of their cluster is switched."""

import json
from dataclasses import replace
from typing import Any

import pytest

from realtime.node import watchlists
from realtime.node.node import Node
from realtime.protocols.pusher_channels import path_of_user
from realtime.protocols.pusher_signatures import sign
from realtime.sessions.pusher import Pusher
from tests.clients import until
from tests.units.protocols.test_admission import ACCESS
from tests.units.sessions.test_pusher import ReadingOutlet, connect


async def sign_in(node: Node, user: dict[str, Any]) -> tuple[Pusher, ReadingOutlet]:
    outlet, content = ReadingOutlet(), json.dumps(user)
    session = await connect(node, outlet)
    signature = sign(ACCESS.secret or "", f"{session.connection.socket_id}::user::{content}")
    data = {"auth": f"{ACCESS.public_key}:{signature}", "user_data": content}
    session.receive(json.dumps({"event": "pusher:signin", "data": data}))
    return session, outlet


def watched(outlet: ReadingOutlet) -> list[dict[str, Any]]:
    """Return the events of the watchlist that a client has got."""
    return [
        event
        for frame in outlet.frames
        if frame["event"] == "pusher_internal:watchlist_events"
        for event in json.loads(frame["data"])["events"]
    ]


async def test_users_who_have_signed_in_before_take_part_while_the_option_is_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchlists, "COUNT_AGAIN_SECONDS", 0.01)
    node = Node()
    node.bus.start()
    node.watchlists.start()
    (ann, screen), (bob, _) = [
        await sign_in(node, user) for user in ({"id": "ann", "watchlist": ["bob", "cyd"]}, {"id": "bob"})
    ]
    assert watched(screen) == []
    for session in (ann, bob):
        session.connection.apply_settings(replace(session.connection.access, sends_watchlist_events=True))
    state = [{"name": "online", "user_ids": ["bob"]}, {"name": "offline", "user_ids": ["cyd"]}]
    await until(lambda: watched(screen) == state)
    for session in (ann, bob):
        session.connection.apply_settings(replace(session.connection.access, sends_watchlist_events=False))
    places = [(ACCESS.cluster_pk, path_of_user(user)) for user in ("ann", "bob")]
    await until(lambda: not any(node.counts.count_here(place) for place in places))
    bob.leave()
    ann.leave()
    assert watched(screen) == state
    await node.watchlists.stop()
    await node.bus.stop()
