"""Messages as bytes on the wire."""

import pytest

from realtime.protocols.frames import Batch, Frames, Message, compact_json, error_message, system_message, unmask


@pytest.mark.parametrize(
    ("length", "header"),
    [
        (0, b"\x82\x00"),
        (125, b"\x82\x7d"),
        (126, b"\x82\x7e\x00\x7e"),
        (65535, b"\x82\x7e\xff\xff"),
        (65536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_a_frame_encodes_its_length_in_the_shortest_form(length: int, header: bytes) -> None:
    payload = bytes(length)
    assert Message(payload).wire == header + payload


def test_text_becomes_a_text_frame_in_utf8() -> None:
    assert Message("😀").wire == b"\x81\x04\xf0\x9f\x98\x80"


def test_text_that_cannot_be_encoded_as_utf8_raises() -> None:
    with pytest.raises(UnicodeEncodeError):
        Message("\ud800")


def test_a_batch_consists_of_its_frames_in_order() -> None:
    assert Batch([Message("a"), Message(b""), Message("b")]).wire == b"\x81\x01a\x82\x00\x81\x01b"


def test_a_batch_of_one_does_not_copy() -> None:
    message = Message("a")
    assert Batch([message]).wire is message.wire


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536])
def test_frames_from_another_node_contain_the_messages_that_it_sent(length: int) -> None:
    sent = [Message("ü" * (length // 2)), Message(bytes(length)), Message("")]
    frames = Frames(Batch(sent).wire, len(sent))
    assert [message.data for message in frames.messages] == [message.data for message in sent]
    batch = Batch([frames, sent[0]])
    assert batch.wire == frames.wire + sent[0].wire
    assert [message.data for message in batch.messages] == [message.data for message in (*sent, sent[0])]


def test_json_is_compact_and_keeps_characters() -> None:
    assert compact_json({"a": [1, "ü"]}) == '{"a":[1,"ü"]}'


def test_json_with_more_levels_than_can_be_written_raises_an_error_of_its_value() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="levels"):
        compact_json(value)


def test_answers_are_under_system_and_errors_under_error() -> None:
    assert system_message("pong").data == '{"system":"pong"}'
    assert error_message("No.").data == '{"error":"No."}'


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 125, 126, 65_536])
def test_unmasking_follows_the_rfc(length: int) -> None:
    mask, payload = b"\x37\xfa\x21\x3d", bytes(index % 251 for index in range(length))
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    assert unmask(mask, masked) == payload
