"""Events that servers publish through Pusher's HTTP API: what clients get, and what is rejected."""

import json
from typing import Any

import pytest

from realtime.protocols.publishing import Problem
from realtime.protocols.pusher_channels import group_for
from realtime.protocols.pusher_events import read_batch, read_body, read_event


def event(**members: Any) -> bytes:
    sent = {"name": "new", "channels": ["orders"], "data": "{}", **members}
    return json.dumps({name: value for name, value in sent.items() if value is not ...}, ensure_ascii=False).encode()


def frames(content: bytes, max_bytes: int = 1000) -> list[tuple[str, Any]]:
    """The group and the decoded frame of each message."""
    read = read_event(read_body(content), "demo", max_bytes)
    return [(group, json.loads(str(message.data))) for group, message in read.messages]


def problem(content: bytes, max_bytes: int = 1000) -> tuple[int, str]:
    with pytest.raises(Problem) as raised:
        read_event(read_body(content), "demo", max_bytes)
    return raised.value.status, str(raised.value)


@pytest.mark.parametrize("data", ["", "x", '{"a":"é😀"}', 'quotes " and \\ and \n', "null", "\x00"])
def test_subscribers_get_the_data_as_the_string_that_was_sent(data: str) -> None:
    expected = {"event": "new", "channel": "orders", "data": data}
    assert frames(event(data=data)) == [(group_for("demo", "orders"), expected)]


@pytest.mark.parametrize(("data", "text"), [({"a": 1}, '{"a": 1}'), ([], "[]"), (7, "7"), (False, "false")])
def test_data_that_is_not_a_string_arrives_as_a_string_of_json(data: Any, text: str) -> None:
    assert frames(event(data=data))[0][1]["data"] == text


def test_an_event_goes_to_one_or_several_channels() -> None:
    assert [group for group, _ in frames(event(channels=..., channel="a"))] == [group_for("demo", "a")]
    several = frames(event(channels=["a", "b,=@;", "a", '#server-to-user-é"']))
    assert [frame["channel"] for _, frame in several] == ["a", "b,=@;", '#server-to-user-é"']
    assert len(frames(event(channels=[f"c{number}" for number in range(100)]))) == 100


def test_only_the_named_client_is_excluded() -> None:
    excluded = read_event(read_body(event(socket_id="123.456")), "demo", 100).messages[0][1]
    plain = read_event(read_body(event()), "demo", 100).messages[0][1]
    assert (excluded.excluded, plain.excluded) == ("123.456", "")
    assert excluded.wire == plain.wire


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"name": ...}, "name of the event"),
        ({"name": ""}, "name of the event"),
        ({"name": 7}, "name of the event"),
        ({"name": "x" * 201}, "name of the event"),
        ({"name": "pusher:x"}, "must not begin"),
        ({"name": "pusher_internal:x"}, "must not begin"),
        ({"data": ...}, "Send the data"),
        ({"data": None}, "Send the data"),
        ({"channels": ...}, "Send the channel"),
        ({"channels": []}, "Send the channel"),
        ({"channels": "orders"}, "Send the channel"),
        ({"channels": ["a", 7]}, "Send the channel"),
        ({"channels": [f"c{number}" for number in range(101)]}, "Send the channel"),
        ({"channels": ["x" * 300_000]}, "Send the channel"),
        ({"channels": ..., "channel": ["a"]}, "Send the channel"),
        ({"channels": ["a", "b c"]}, "name of a channel"),
        ({"channels": [""]}, "name of a channel"),
        ({"channels": ["x" * 165]}, "name of a channel"),
        ({"socket_id": "x"}, "socket_id"),
        ({"socket_id": 1.2}, "socket_id"),
        ({"socket_id": "1.2\n"}, "socket_id"),
    ],
)
def test_what_is_missing_or_wrong_is_rejected_with_a_sentence(members: dict[str, Any], sentence: str) -> None:
    status, said = problem(event(**members))
    assert status == 400
    assert sentence in said


def test_an_escaped_reserved_name_is_reserved() -> None:
    assert problem(event().replace(b'"new"', b'"\\u0070usher:x"'))[0] == 400


@pytest.mark.parametrize("content", [b"", b"[]", b"7", b"{", b'{"name":"\xff"}', b'{"name":"\\ud800"}', b"[" * 5000])
def test_a_body_that_is_not_a_json_object_is_rejected(content: bytes) -> None:
    with pytest.raises(Problem) as raised:
        read_body(content)
    assert raised.value.status == 400


def test_the_quota_counts_the_bytes_of_the_data_and_not_those_of_its_json() -> None:
    assert len(frames(event(data='"' * 1000))) == 1
    assert len(frames(event(data="é" * 500))) == 1
    assert problem(event(data="é" * 501)) == (
        413,
        "The data content of this event exceeds the allowed maximum (1000 bytes).",
    )
    assert problem(event(data=["x" * 1000]))[0] == 413


def test_the_last_of_repeated_members_counts() -> None:
    assert frames(b'{"name":"a","data":"1","channel":"c","data":"2"}')[0][1]["data"] == "2"


def batch(*events: bytes) -> bytes:
    return b'{"batch":[' + b",".join(events) + b"]}"


def test_a_batch_has_up_to_ten_events() -> None:
    one = event(channels=..., channel="a", info="user_count,cache")
    events = read_batch(read_body(batch(*[one] * 10)), "demo", 100)
    assert [read.channels for read in events] == [["a"]] * 10
    assert events[0].info == ("user_count", "cache")


@pytest.mark.parametrize("content", [b"{}", b'{"batch":[]}', b'{"batch":{}}', batch(*[event()] * 11)])
def test_a_batch_without_events_or_with_too_many_is_rejected(content: bytes) -> None:
    with pytest.raises(Problem) as raised:
        read_batch(read_body(content), "demo", 100)
    assert raised.value.status == 400


def test_the_sentence_names_the_event_of_a_batch_that_is_wrong() -> None:
    with pytest.raises(Problem, match=r"^batch\[1\]: .* Nothing was sent\.$"):
        read_batch(read_body(batch(event(), event(name=""))), "demo", 100)
