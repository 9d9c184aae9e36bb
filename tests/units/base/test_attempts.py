"""Rate limits, counted separately for each name."""

import pytest

from realtime.base import attempts
from realtime.base.attempts import Attempts


class Clock:
    """A clock that only the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_attempts_are_limited_per_minute_for_each_name() -> None:
    clock = Clock()
    guesses = Attempts(lambda: 3, clock)
    assert [guesses.note("a") for _ in range(5)] == [0, 0, 0, 60, 60]
    assert guesses.note("b") == 0
    clock.now += 45
    assert guesses.note("a") == 15
    clock.now += 15
    assert guesses.note("a") == 0


def test_the_number_of_remembered_names_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MAX_REMEMBERED", 10)
    guesses = Attempts(lambda: 1)
    for number in range(100):
        guesses.note(number)
    assert len(guesses._spans) == 10
