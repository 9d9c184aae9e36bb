"""Commands and their answers, byte for byte."""

import pytest

from realtime.protocols.commands import answer
from realtime.protocols.frames import Message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cmd_status", '{"system":{"connection_count":3}}'),
        ("cmd_ping", '{"system":"pong"}'),
        ("cmd_x", '{"system":{"error":"Unknown command: cmd_x"}}'),
        ("cmd_", '{"system":{"error":"Unknown command: cmd_"}}'),
        ("cmd_PING", '{"system":{"error":"Unknown command: cmd_PING"}}'),
        ("cmd_ping ", '{"system":{"error":"Unknown command: cmd_ping "}}'),
        ('cmd_"é', '{"system":{"error":"Unknown command: cmd_\\"é"}}'),
        ("cmd_" + "x" * 100, '{"system":{"error":"Unknown command: cmd_' + "x" * 60 + '"}}'),
    ],
)
def test_a_command_is_the_whole_message_and_has_one_answer(text: str, expected: str) -> None:
    sent: list[Message] = []
    answer(text, lambda then: then(3), sent.append)
    assert [message.data for message in sent] == [expected]
