"""System checks for the settings of `accounts`."""

import re
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
def check_limits(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that the limits on what people may do are not negative, and that people can make changes at all."""
    return [
        Error(
            f"{name} is {value}, but must be {minimum} or more.",
            hint="Remove the environment variable to use the default.",
            id="accounts.E010",
        )
        for name, value, minimum in (
            ("ACCOUNTS_PER_PERSON", settings.ACCOUNTS_PER_PERSON, 0),
            ("CHANGES_PER_DAY", settings.CHANGES_PER_DAY, 1),
        )
        if value < minimum
    ]


@register
def check_reserved_cluster_ids(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that every reserved cluster ID can match a cluster ID."""
    return [
        Error(
            f"{name!r} in RESERVED_CLUSTER_IDS is not a cluster ID.",
            hint="Use lower-case letters, digits, hyphens, and * for any characters.",
            id="accounts.E011",
        )
        for name in settings.RESERVED_CLUSTER_IDS
        if not re.fullmatch(r"[a-z0-9*-]{1,63}", name)
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
