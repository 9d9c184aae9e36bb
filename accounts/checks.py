"""System checks for the settings of `accounts`."""

import re
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import Error as DatabaseError

from .crypto import MIN_KEY_LENGTH

_RATE = re.compile(r"[1-9][0-9]*/(s|sec|second|m|min|minute|h|hour|d|day)")
_PROXY = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?/?")
_ADD_KEY = "Add the key that encrypted them to the end of ENCRYPTION_KEYS."


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
def check_secret_key(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that the secret keys are too long to be guessed: they sign sessions, and may encrypt secrets."""
    keys = {"SECRET_KEY": settings.SECRET_KEY} | {
        f"Key {number} of SECRET_KEY_FALLBACKS": key for number, key in enumerate(settings.SECRET_KEY_FALLBACKS, 1)
    }
    return [
        Error(
            f"{name} has fewer than {MIN_KEY_LENGTH} characters.",
            hint="Generate a key with: openssl rand -hex 32",
            id="accounts.E012",
        )
        for name, key in keys.items()
        if len(key) < MIN_KEY_LENGTH
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
def check_rates(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that every rate limit of the REST API has a number and a period."""
    rates: Any = settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"]
    return [
        Error(
            f"API_{scope.upper()}_RATE is {rate!r}, which is not a number of requests in a period.",
            hint="Write, for example, `10/min`. The period is `second`, `min`, `hour` or `day`.",
            id="accounts.E004",
        )
        for scope, rate in rates.items()
        if not _RATE.fullmatch(rate)
    ]


@register
def check_token_lifetime(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that a token does not expire before it can be used."""
    if settings.REST_KNOX["TOKEN_TTL"] >= timedelta(seconds=1):
        return []
    return [
        Error(
            f"API_TOKEN_TTL is {settings.REST_KNOX['TOKEN_TTL'].total_seconds():g} seconds, but must be at least 1.",
            hint="Write, for example, `12h` or `30d`.",
            id="accounts.E005",
        )
    ]


@register
def check_proxies(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that the number of proxies is not negative."""
    number: Any = settings.REST_FRAMEWORK["NUM_PROXIES"]
    if number >= 0:
        return []
    hint = "Without a proxy in front of the service, set it to 0."
    return [Error(f"NUM_PROXIES is {number}, but must be 0 or more.", hint=hint, id="accounts.E006")]


@register(Tags.database)
def check_stored_secrets(
    app_configs: Sequence[Any] | None, databases: Iterable[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check that the secrets of active API keys and of webhooks can be decrypted, if the database has been migrated."""
    if not databases:
        return []
    from .models import ApiKey, Webhook
    from .stored_secrets import undecryptable

    setting = "ENCRYPTION_KEYS" if settings.ENCRYPTION_KEYS else "SECRET_KEY"
    try:
        keys = undecryptable(ApiKey.objects.filter(revoked_at=None), "public_key")
        webhooks = undecryptable(Webhook.objects.all())
    except DatabaseError:  # the tables do not exist yet, or the database is unreachable, which others report
        return []
    errors: list[CheckMessage] = []
    if keys:
        errors.append(
            Error(
                f"{setting} cannot decrypt the secrets of {len(keys)} API keys, for example that of {keys[0]}.",
                hint=f"{_ADD_KEY} If it is lost, rotate or revoke the API keys that "
                "`manage.py key list --undecryptable` prints.",
                id="accounts.E007",
            )
        )
    if webhooks:
        errors.append(
            Error(
                f"{setting} cannot decrypt the secrets of {len(webhooks)} webhooks, for example that of the webhook "
                f"{webhooks[0]}.",
                hint=f"{_ADD_KEY} If it is lost, delete the webhooks that `manage.py webhook list --undecryptable` "
                "prints with `manage.py webhook delete`.",
                id="accounts.E022",
            )
        )
    return errors


@register
def check_webhook_proxy(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that WEBHOOK_PROXY can be used. The message does not contain it, because it may have a password."""
    if not settings.WEBHOOK_PROXY or _PROXY.fullmatch(settings.WEBHOOK_PROXY):
        return []
    return [
        Error(
            "WEBHOOK_PROXY is not the URL of an HTTP proxy without user and password.",
            hint="Write, for example, `http://10.0.0.5:4750`, or leave it empty to send webhooks without a proxy.",
            id="accounts.E023",
        )
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


@register
def check_links(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that the links of the operator are whole URLs."""
    return [
        Error(
            f"{name} is {value!r}, which is not a URL.",
            hint="Begin it with https://, http:// or mailto:, or leave it empty.",
            id="accounts.E020",
        )
        for name, value in (("SUPPORT_URL", settings.SUPPORT_URL), ("TERMS_URL", settings.TERMS_URL))
        if value and not re.match(r"(https?://|mailto:)[^\s]+\Z", value)
    ]


@register
def check_site_name(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that the service has a name to show."""
    if settings.SITE_NAME.strip():
        return []
    hint = "Remove the environment variable to use the default."
    return [Error("SITE_NAME is empty.", hint=hint, id="accounts.E021")]
