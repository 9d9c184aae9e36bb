"""Which events clients may send to each other."""

import json

import pytest

from realtime.protocols.events import RELAYED, is_forged

FORGED = [
    '{"event":"system:member_list","data":{"members":[]}}',
    '{"event": "system:"}',
    '{"event":"\\u0073ystem:member_left"}',
    '{"event":"syst\\u0065m:member_left"}',
    '{"\\u0065vent":"system:member_left"}',
    '{"event":"system:member_left","event":"news"}',
    '{"event":"news","event":"system:member_left"}',
    ' \n{"data":1,"event":"system:x"}\n',
    '{"event":"system:x","data":' + "9" * 5000 + "}",
    '{"event":"system:x","data":' + "[" * 100_000 + "]" * 100_000 + "}",
    '{"event":"system:x","data":NaN}',
    '{"event":"system:x","data":"raw\nnewline"}',
    '{"event":"system:portal_broadcaster2"}',
]
ORDINARY = [
    "",
    "system:member_list",
    "hello",
    '{"event":"new-message","data":"x"}',
    '{"event":"news","data":"system:member_list"}',
    '{"event":"news","data":{"event":"system:member_list"}}',
    '[["event","system:member_list"]]',
    '{"event":["system:x"]}',
    '{"event":7,"data":"system:"}',
    '{"event":"system:x"',
    '{"event":" system:x"}',
    '{"event":"System:x"}',
    "\\u0073",
    "[" * 100_000 + '"system:x"' + "]" * 100_000,
]


@pytest.mark.parametrize("text", FORGED, ids=range(len(FORGED)))
def test_a_client_cannot_pose_as_the_server(text: str) -> None:
    assert is_forged(text)
    assert is_forged(text.encode())
    assert is_forged(text.encode("utf-8-sig")), "browsers drop a byte order mark when they decode"


@pytest.mark.parametrize("text", ORDINARY, ids=range(len(ORDINARY)))
def test_ordinary_messages_are_not_taken_for_system_events(text: str) -> None:
    assert not is_forged(text)
    assert not is_forged(text.encode())


def test_bytes_that_are_not_utf8_are_not_taken_for_system_events() -> None:
    assert not is_forged(b'{"event":"system:member_list"\xff}')


@pytest.mark.parametrize("event", sorted(RELAYED))
def test_the_seven_events_of_video_portals_are_relayed(event: str) -> None:
    assert not is_forged(json.dumps({"event": event, "data": {"from": "a"}}))
    assert len(RELAYED) == 7
