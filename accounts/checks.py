"""System checks for the settings of `accounts`."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from .crypto import MIN_KEY_LENGTH


@register
def check_encryption_keys(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that every encryption key is too long to be guessed."""
    return [
        Error(
            f"Key {number} of ENCRYPTION_KEYS has fewer than {MIN_KEY_LENGTH} characters.",
            hint="Generate a key with: python -c 'import secrets; print(secrets.token_urlsafe(45))'",
            id="accounts.E001",
        )
        for number, key in enumerate(settings.ENCRYPTION_KEYS, 1)
        if len(key) < MIN_KEY_LENGTH
    ]


@register
def check_quotas(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that every default quota is at least 1."""
    return [
        Error(
            f"QUOTA_{name} is {value}, but must be 1 or more.",
            hint="Remove the environment variable to use the default.",
            id="accounts.E002",
        )
        for name, value in settings.QUOTAS.items()
        if value < 1
    ]


@register
def check_tokens_per_user(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that a user can have at least one token."""
    if settings.API_TOKENS_PER_USER >= 1:
        return []
    return [
        Error(
            f"API_TOKENS_PER_USER is {settings.API_TOKENS_PER_USER}, but must be 1 or more.",
            hint="Remove the environment variable to use the default.",
            id="accounts.E003",
        )
    ]
