"""Rate limits by name."""

import pytest

from realtime.base import attempts
from realtime.base.attempts import Attempts


class Clock:
    """A clock that stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_guesses_are_counted_a_minute_by_who_makes_them() -> None:
    clock = Clock()
    guesses = Attempts(lambda: 3, clock)
    assert [guesses.note("a") for _ in range(5)] == [0, 0, 0, 60, 60]
    assert guesses.note("b") == 0
    clock.now += 45
    assert guesses.note("a") == 15
    clock.now += 15
    assert guesses.note("a") == 0


def test_guessers_are_forgotten_rather_than_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MAX_REMEMBERED", 10)
    guesses = Attempts(lambda: 1)
    for number in range(100):
        guesses.note(number)
    assert len(guesses._spans) == 10
