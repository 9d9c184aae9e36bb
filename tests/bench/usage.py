"""What it costs to count the usage of a message.

This is too little to be seen in the rates of two versions, which differ by more from run to run.
"""

from statistics import median
from timeit import repeat

from realtime.metrics.counters import Deliveries
from realtime.node.usage import AccountTraffic, KeyTraffic

# What a connection and a room do for each message.
_COUNT = """
traffic.messages += 1
traffic.bytes += size
deliveries.count += receivers
deliveries.bytes += size * receivers
"""
_MESSAGES = 200_000


def counting_microseconds() -> float:
    """Return how long it takes to count a message that is delivered alone, in microseconds."""
    traffic = KeyTraffic(1, "key", AccountTraffic())
    names = {"traffic": traffic, "deliveries": Deliveries(), "size": 130, "receivers": 1}
    counted, nothing = (
        median(repeat(statement, globals=names, number=_MESSAGES, repeat=5)) for statement in (_COUNT, "pass")
    )
    return (counted - nothing) / _MESSAGES * 1e6
