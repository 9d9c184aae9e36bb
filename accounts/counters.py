"""Counters that expire, in the cache, which all nodes share."""

from django.core.cache import cache


def count(name: str, seconds: int) -> int:
    """Increment a counter and return its value. It expires some seconds after its first increment.

    Safe for concurrent requests.
    """
    cache.add(name, 0, seconds)
    try:
        return cache.incr(name)
    except ValueError:  # the counter has just expired
        cache.add(name, 1, seconds)
        return 1


def counted(name: str) -> int:
    """Return the value of a counter; 0 if it does not exist."""
    value = cache.get(name)
    return value if isinstance(value, int) else 0
