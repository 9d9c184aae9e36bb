"""The application, which prints whenever it compares anything in constant time: how long the second value is."""

import hmac
import sys

from piesite.asgi import application as application  # noqa: PLC0414  (to be found here)

_compare_digest = hmac.compare_digest


def _compare(one: bytes, other: bytes) -> bool:
    print(f"compared {len(other)} characters", file=sys.stderr, flush=True)
    return _compare_digest(one, other)


hmac.compare_digest = _compare  # type: ignore[assignment]
