"""Metrics that only grow."""

from realtime.metrics.counters import Histogram


def test_a_duration_equal_to_a_bound_is_in_its_bucket_and_the_longest_are_in_the_last_one() -> None:
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 1.0, 7.0):
        histogram.observe(seconds)
    assert histogram.counts == [2, 2, 1]
    assert histogram.seconds == 8.65
