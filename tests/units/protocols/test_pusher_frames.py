"""Frames of Pusher's protocol, as clients send and get them."""

import json

import pytest

from realtime.protocols import closes
from realtime.protocols.closes import Close
from realtime.protocols.presence import Identity
from realtime.protocols.pusher_closes import tell_pusher
from realtime.protocols.pusher_frames import PusherEvents, Subscribe, client_event, read_data, read_frame


def test_only_name_channel_data_and_the_signed_user_of_a_client_event_are_passed_on() -> None:
    frame = read_frame('{"user_id":"9","event":"client-é","id":1,"data":{"a": 1},"channel":"presence-a"}')
    assert frame is not None
    assert json.loads(client_event(frame, "7").data) == {
        "event": "client-é",
        "channel": "presence-a",
        "data": '{"a": 1}',
        "user_id": "7",
    }


@pytest.mark.parametrize("text", ["", "1", "[]", '{"event":', '{"event":1}', "{}", '{"event":"\\ud800"}', "[" * 10_000])
def test_what_is_no_frame_is_none(text: str) -> None:
    assert read_frame(text) is None


@pytest.mark.parametrize("data", ['{"channel":"a"}', '"{\\"channel\\":\\"a\\"}"'])
def test_data_may_be_an_object_or_a_string_that_contains_one(data: str) -> None:
    frame = read_frame(f'{{"event":"pusher:subscribe","data":{data}}}')
    assert frame is not None
    assert read_data(frame.data, Subscribe) == Subscribe("a")


def test_the_members_of_a_channel_are_listed_by_their_ids() -> None:
    events = PusherEvents("presence-a")
    members = [Identity.from_json("1", '{"name":"Ann"}'), Identity.from_json('"', "null")]
    data = json.loads(json.loads(events.list_message(members).data)["data"])
    assert data == {"presence": {"ids": ["1", '"'], "hash": {"1": {"name": "Ann"}, '"': None}, "count": 2}}


@pytest.mark.parametrize(
    ("close", "code"),
    [
        (closes.BAD_KEY, 4001),
        (closes.KEY_REVOKED, 4001),
        (closes.ACCOUNT_SUSPENDED, 4003),
        (closes.CLUSTER_OFF, 4003),
        (closes.BAD_ORIGIN, 4009),
        (closes.QUOTA_USED_UP, 4004),
        (closes.BAD_REQUEST, 4005),
        (closes.OVER_CAPACITY, 4100),
        (closes.NO_DATABASE, 4100),
        (closes.TOO_MANY_OF_ADDRESS, 4100),
        (closes.TOO_SLOW, 4100),
        (closes.TOO_FAST, 4100),
        (closes.RESTARTING, 4200),
        (closes.DISCONNECTED, 4200),
        (closes.BAD_JWT, 4200),
        (closes.TOO_BIG, 1009),
    ],
)
def test_each_close_has_the_code_that_makes_clients_do_the_right_thing(close: Close, code: int) -> None:
    told = tell_pusher(close)
    assert told.code == code
    assert told.message is not None
    error = json.loads(told.message.data)
    assert (error["event"], error["data"]["code"]) == ("pusher:error", code)
    assert error["data"]["message"]
