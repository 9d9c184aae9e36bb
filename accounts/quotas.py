"""The quotas of accounts and API keys."""

from typing import TYPE_CHECKING, Any

from django.conf import settings

from .key_access import Quotas

if TYPE_CHECKING:
    from .models import Account

QUOTA_FIELDS = ("max_connections", "max_message_bytes", "max_messages_per_second")
"""The quotas that a key can set lower than its account."""
TRAFFIC_FIELDS = (*QUOTA_FIELDS, "max_messages_per_day")
"""The quotas of an account that the data plane enforces."""
SIZE_FIELDS = ("max_clusters", "max_keys", "max_members", "max_webhooks")
"""The quotas of an account that limit how much it may own; the services enforce them."""


def default_quotas() -> dict[str, Any]:
    """Return the quotas of an account that sets none itself, by field name; None for the server's own limit."""
    return {**_traffic_defaults(), **{name: settings.QUOTAS[name.removeprefix("max_").upper()] for name in SIZE_FIELDS}}


def _traffic_defaults() -> dict[str, Any]:
    return {
        "max_connections": settings.QUOTAS["CONNECTIONS"],
        "max_message_bytes": None,
        "max_messages_per_second": settings.QUOTAS["MESSAGES_PER_SECOND"],
        "max_messages_per_day": settings.QUOTAS["MESSAGES_PER_DAY"],
    }


def in_force(account: dict[str, Any], key: dict[str, Any] | None = None) -> Quotas:
    """Return the quotas in force for a key, or for its account if no key is given.

    Args:
        account: the account's quotas by field name; None for a quota that is not set.
        key: the key's quotas, likewise.
    """
    defaults = _traffic_defaults()
    own = {name: defaults[name] if account[name] is None else account[name] for name in defaults}
    lower = {name: _lower_limit(own[name], key[name] if key else None) for name in QUOTA_FIELDS}
    return Quotas(
        account_connections=own["max_connections"],
        key_connections=lower["max_connections"],
        message_bytes=lower["max_message_bytes"],
        messages_per_second=lower["max_messages_per_second"],
        messages_per_day=own["max_messages_per_day"],
    )


def _lower_limit(*limits: int | None) -> Any:
    return min((limit for limit in limits if limit is not None), default=None)


def limits_of(account: "Account") -> dict[str, int | None]:
    """Return the quotas of an account that are in force, by field name; None for the server's own limit."""
    return {
        name: default if (own := getattr(account, name)) is None else own for name, default in default_quotas().items()
    }


def limit_of(account: "Account", name: str) -> int:
    """Return a quota of an account that is in force, other than the size of messages, by field name."""
    return int(limits_of(account)[name])  # type: ignore[arg-type]
