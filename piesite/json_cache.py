"""The cache in Redis, whose values are JSON."""

from typing import Any

from django.core.cache.backends.redis import RedisCache
from redis.exceptions import ResponseError


class JSONCache(RedisCache):
    """Deletes values that it cannot read and treats them as missing. Other programs may have written them.

    Its serializer must raise `ValueError` for such a value.
    """

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return a value, or the default if there is none."""
        try:
            return super().get(key, default, version)
        except ValueError:
            self.delete(key, version)
            return default

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Add to a number and return the result.

        Raises:
            ValueError: there is no number.
        """
        try:
            return super().incr(key, delta, version)
        except ResponseError:
            self.delete(key, version)
            raise ValueError(f"The value of {key!r} is not a number.") from None
