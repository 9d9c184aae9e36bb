"""The meaning of a Cluster API body."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.protocols.channels import group_name
from realtime.protocols.publishing import (
    MAX_BATCH_MESSAGES,
    NO_MESSAGES,
    Credentials,
    Problem,
    read_batch,
    read_body,
    read_message,
)

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
ALMOST_JSON = st.text('{}[]",:\\u d8019efabn.-+truls\x00\t\nÿ😀', max_size=30)


def message_in(text: str) -> str | bytes:
    return read_message(read_body(f'{{"channelId":"1","message":{text}}}'.encode()), "demo", 2**20)[1].data


@given(value=JSON, indent=st.sampled_from([None, 1]), is_escaped=st.booleans())
def test_any_json_is_delivered_as_it_was_sent_and_any_string_as_its_text(
    value: Any, indent: int | None, is_escaped: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=is_escaped)
    assert message_in(text) == (value if isinstance(value, str) else text)


@given(text=ALMOST_JSON)
def test_what_is_delivered_is_always_json_that_everyone_can_read(text: str) -> None:
    try:
        delivered = message_in(text)
    except Problem:
        return
    value = json.loads(text)
    assert delivered == (value if isinstance(value, str) else text.strip(" \t\r\n"))
    json.dumps(value, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("body", "headers", "found"),
    [
        ("{}", (None, None), (None, None)),
        ("{}", ("a", "b"), ("a", "b")),
        ('{"key":"c","secret":null}', ("a", "b"), ("c", "b")),
        ('{"key":"","secret":"d"}', ("a", None), ("a", "d")),
        ('{"key":"c","key":"d"}', (None, None), ("d", None)),
        (r'{"\u006bey":"\u0063"}', (None, None), ("c", None)),
        ('{"message":{"key":"c","secret":"d"}}', ("a", "b"), ("a", "b")),
    ],
)
def test_members_override_headers_unless_they_are_absent(
    body: str, headers: tuple[str | None, str | None], found: tuple[str | None, str | None]
) -> None:
    assert read_body(body.encode()).credentials.or_else(Credentials(*headers)) == found


@pytest.mark.parametrize("wrong", ["7", "[]", "{}", "true"])
def test_a_key_that_is_not_a_string_is_present_and_wrong(wrong: str) -> None:
    key = read_body(f'{{"key":{wrong}}}'.encode()).credentials.key
    assert key not in (None, "", wrong)


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ('"channelId":"a"', "a"),
        ('"channelId":1998', "1998"),
        ('"channelId":-0', "0"),
        ('"channelId":null,"roomId":"b"', "b"),
        ('"channelId":"","roomId":7', "7"),
        ('"channelId":"a","roomId":"b"', "a"),
        ('"channelId":"x/\\u0061"', "x/a"),
    ],
)
def test_the_channel_is_the_channel_id_or_else_the_room_id(members: str, path: str) -> None:
    group, message = read_message(read_body(f'{{{members},"message":"é"}}'.encode()), "demo", 2)
    assert (group, message.data) == (group_name("demo", path), "é")


def test_a_byte_order_mark_is_ignored() -> None:
    assert read_body('\ufeff{"key":"a"}'.encode()).credentials.key == "a"


@pytest.mark.parametrize("items", ["{}", '"x"', "1,", "[],", "", "1," * (MAX_BATCH_MESSAGES + 1)])
def test_what_is_not_1_to_1000_messages_is_not_a_batch(items: str) -> None:
    batch = f"[{items.rstrip(',')}]" if items.endswith(",") or not items else items
    with pytest.raises(Problem) as caught:
        read_batch(read_body(f'{{"messages":{batch}}}'.encode()), "demo", 100)
    assert caught.value.status == 400
    if len(items) > MAX_BATCH_MESSAGES:
        assert str(caught.value) == NO_MESSAGES


def test_the_representation_of_credentials_has_no_secret() -> None:
    credentials = read_body(b'{"key":"public","secret":"hidden"}').credentials
    assert credentials == Credentials("public", "hidden")
    assert "public" in repr(credentials)
    assert "hidden" not in repr(credentials)
