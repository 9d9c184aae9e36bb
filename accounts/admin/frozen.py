"""What is revoked or belongs to a suspended account can be read but not changed."""

from typing import Any

from django.http import HttpRequest
from django.utils.formats import date_format

from ..models import Account, ApiKey


class Frozen:
    """Makes what belongs to a revoked or suspended object read-only."""

    def why_frozen(self, obj: Any) -> str | None:
        """Return a sentence that says why an object cannot be changed, or None if it can."""
        return None

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        permitted: bool = super().has_change_permission(request, obj)  # type: ignore[misc]
        return permitted and (obj is None or self.why_frozen(obj) is None)


def why_account_frozen(account: Account) -> str | None:
    """Return a sentence that says why an account and everything in it cannot be changed, or None if it can."""
    if account.suspended_at is None:
        return None
    since = date_format(account.suspended_at, "DATETIME_FORMAT")
    return f"The account {account} is suspended since {since}. It cannot be changed until it is resumed."


def why_key_frozen(key: ApiKey) -> str | None:
    """Return a sentence that says why an API key cannot be changed, or None if it can."""
    if key.revoked_at is None:
        return why_account_frozen(key.cluster.account)
    return f"This API key was revoked on {date_format(key.revoked_at, 'DATETIME_FORMAT')}. It cannot be used again."
