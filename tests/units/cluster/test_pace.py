"""Who publishes so often that a message can wait for the next ones."""

from realtime.cluster.pace import FAST_MESSAGES, FAST_SECONDS, Pace


def publish(pace: Pace, party: str, messages: int) -> list[bool]:
    return [pace.note(party) for _ in range(messages)]


def test_a_party_is_fast_after_a_period_with_many_messages() -> None:
    pace = Pace()
    pace.advance(10)
    assert publish(pace, "flood", FAST_MESSAGES) == [False] * FAST_MESSAGES
    pace.advance(10 + FAST_SECONDS / 2)
    assert pace.note("flood") is False
    pace.advance(10 + 1.1 * FAST_SECONDS)
    assert pace.note("flood") is True


def test_others_are_not_fast_because_one_is() -> None:
    pace = Pace()
    pace.advance(10)
    publish(pace, "flood", 10 * FAST_MESSAGES)
    publish(pace, "quiet", FAST_MESSAGES - 1)
    pace.advance(10 + 1.1 * FAST_SECONDS)
    assert pace.note("quiet") is False


def test_a_party_that_has_slowed_down_or_paused_is_no_longer_fast() -> None:
    pace = Pace()
    pace.advance(10)
    publish(pace, "flood", FAST_MESSAGES)
    pace.advance(10 + 1.1 * FAST_SECONDS)
    assert pace.note("flood") is True
    pace.advance(10 + 2.2 * FAST_SECONDS)
    assert pace.note("flood") is False
    publish(pace, "flood", FAST_MESSAGES)
    pace.advance(10 + 5 * FAST_SECONDS)
    assert pace.note("flood") is False
