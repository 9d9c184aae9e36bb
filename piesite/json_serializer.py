"""What the cache in Redis stores."""

import json
from typing import Any


class JSONSerializer:
    """Stores values as JSON. Numbers stay numbers, which Redis can increment."""

    def dumps(self, value: Any) -> bytes | int:
        """Return what is stored for a value.

        Raises:
            TypeError: JSON has no such value.
        """
        return value if type(value) is int else json.dumps(value).encode()

    def loads(self, stored: bytes) -> Any:
        """Return the value that is stored."""
        return json.loads(stored)
