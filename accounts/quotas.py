"""How much an account and its keys may use."""

from typing import Any

from django.conf import settings

from .key_access import Quotas

QUOTA_FIELDS = ("max_connections", "max_message_bytes", "max_messages_per_second")
"""What a key may have less of than its account."""


def default_quotas() -> dict[str, Any]:
    """What an account has of each quota that it has no value of its own for."""
    return {
        "max_connections": settings.QUOTAS["CONNECTIONS"],
        "max_message_bytes": None,
        "max_messages_per_second": settings.QUOTAS["MESSAGES_PER_SECOND"],
        "max_messages_per_day": settings.QUOTAS["MESSAGES_PER_DAY"],
    }


def in_force(account: dict[str, Any], key: dict[str, Any] | None = None) -> Quotas:
    """The quotas of a key, or those of its account if no key is given.

    Args:
        account, key: values by field name; None for those that are not set.
    """
    defaults = default_quotas()
    own = {name: defaults[name] if account[name] is None else account[name] for name in defaults}
    lower = {name: _lower_of(own[name], key[name] if key else None) for name in QUOTA_FIELDS}
    return Quotas(
        account_connections=own["max_connections"],
        key_connections=lower["max_connections"],
        message_bytes=lower["max_message_bytes"],
        messages_per_second=lower["max_messages_per_second"],
        messages_per_day=own["max_messages_per_day"],
    )


def _lower_of(one: Any, other: Any) -> Any:
    return min((value for value in (one, other) if value is not None), default=None)
