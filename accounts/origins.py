"""Which websites an API key allows."""

import re
from typing import Any

from django.core.exceptions import ValidationError

MAX_ALLOWED_ORIGINS = 100
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_ORIGIN = re.compile(rf"(?P<host>(\*\.)?{_LABEL}(\.{_LABEL})*)(:(?P<port>[1-9][0-9]{{0,4}}))?")


def validate_allowed_origins(value: Any) -> None:
    """Check that the value is a list of hosts such as `example.com`, `*.example.com` or `localhost:3000`.

    Raises:
        ValidationError: it is not.
    """
    if not isinstance(value, list) or len(value) > MAX_ALLOWED_ORIGINS:
        raise ValidationError(f"Enter a list of at most {MAX_ALLOWED_ORIGINS} hosts.")
    for origin in value:
        match = _ORIGIN.fullmatch(origin) if isinstance(origin, str) else None
        if not match or len(match["host"]) > 253 or int(match["port"] or 1) > 65535:
            raise ValidationError(
                "Enter each origin in lower case, such as example.com, *.example.com or localhost:3000."
            )
