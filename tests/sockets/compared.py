"""The application, printing the length of the second value of each constant-time comparison."""

import hmac
import sys

from piesite.asgi import application as application  # noqa: PLC0414  (Daphne imports it from here)

_compare_digest = hmac.compare_digest


def _compare(first: bytes, second: bytes) -> bool:
    print(f"compared {len(second)} characters", file=sys.stderr, flush=True)
    return _compare_digest(first, second)


hmac.compare_digest = _compare  # type: ignore[assignment]
