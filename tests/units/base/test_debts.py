"""What names owe."""

import pytest

from realtime.base import debts as debts_module
from realtime.base.debts import Debts


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_a_name_owes_is_paid_off_with_time() -> None:
    clock = Clock()
    debts = Debts(10, limit=20, clock=clock)
    debts.add("a", 20)
    assert debts.seconds_over_limit("a") == 0
    debts.add("a", 25)
    assert (debts.seconds_over_limit("a"), debts.seconds_over_limit("b")) == (3, 0)
    clock.now += 2.5
    assert debts.seconds_over_limit("a") == 0
    clock.now += 1000
    debts.add("a", 21)
    assert debts.seconds_over_limit("a") == 1, "a name gains nothing by owing nothing"


def test_the_name_that_has_owed_for_the_longest_time_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debts_module, "MAX_REMEMBERED", 2)
    debts = Debts(1, limit=0, clock=Clock())
    for name in "abac":
        debts.add(name, 5)
    assert [debts.seconds_over_limit(name) for name in "abc"] == [10, 0, 5]
