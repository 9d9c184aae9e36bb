"""Messages that one client does not receive, on the way between nodes."""

from hypothesis import given
from hypothesis import strategies as st

from realtime.protocols.exclusions import MessageToOthers, split
from realtime.protocols.frames import Message

texts = st.one_of(st.text(max_size=10), st.sampled_from(["all but ", "\x8b", "x" * 126, "x" * 70_000]))
messages = st.one_of(
    st.builds(Message, texts),
    st.builds(Message, st.binary(max_size=5)),
    st.builds(MessageToOthers, texts, st.sampled_from(["1.2", "3.4"])),
)


@given(st.lists(messages, max_size=6))
def test_other_nodes_get_the_same_messages_in_the_same_order_for_the_same_clients(sent: list[Message]) -> None:
    parts = list(split(b"".join(message.between_nodes for message in sent), len(sent)))
    assert sum(part.count for part in parts) == len(sent)
    received = [(message.data, part.excluded) for part in parts for message in part.messages]
    assert received == [(message.data, message.excluded) for message in sent]
    assert b"".join(part.wire for part in parts) == b"".join(message.wire for message in sent)


def test_messages_for_everyone_stay_together() -> None:
    sent = [Message("all but one"), Message("2"), MessageToOthers("3", "1.2"), Message("4"), Message("5")]
    parts = split(b"".join(message.between_nodes for message in sent), len(sent))
    assert [(part.count, part.excluded) for part in parts] == [(2, ""), (1, "1.2"), (2, "")]
