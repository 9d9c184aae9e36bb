"""The last events of cache channels: the newest of each, as long and as many as there is room for."""

import pytest

from realtime.cluster import last_events
from realtime.cluster.last_events import LastEvents


async def frame_of(events: LastEvents, group: str) -> str | None:
    found = await events.find(group)
    return None if found is None else found.frame


async def test_the_newest_event_of_each_channel_is_kept() -> None:
    events = LastEvents()
    await events.put([("a", "1"), ("b", "2"), ("a", "3")])
    assert [await frame_of(events, group) for group in "abc"] == ["3", "2", None]


async def test_the_oldest_events_are_forgotten_first_when_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_events, "MAX_CHARACTERS", 20)
    events = LastEvents()
    for group in "abc":
        await events.put([(group, "x" * 10)])
    assert [await frame_of(events, group) for group in "abc"] == [None, "x" * 10, "x" * 10]


async def test_an_event_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    events = LastEvents()
    await events.put([("a", "1")])
    found = await events.find("a")
    assert found is not None
    assert 1700 < found.seconds_left <= 1800
    monkeypatch.setattr(last_events, "KEPT_SECONDS", 0)
    await events.put([("a", "1")])
    assert await events.find("a") is None
