"""Why a handshake or a subscription was refused, for the people of the account: more than its client is told."""

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jwt

from accounts.key_access import KeyAccess
from accounts.refused_clients import (
    CHANNEL,
    EXPIRED,
    MALFORMED,
    MAX_CHANNEL_LENGTH,
    MAX_CLIENT_LENGTH,
    MAX_ORIGIN_LENGTH,
    MAX_SHOWN_LENGTH,
    MISSING,
    OPTION,
    OTHER_CHANNEL,
    OTHER_CLUSTER,
    OTHER_SECRET,
    REVOKED,
    UNKNOWN,
    Cause,
    RefusedClient,
)
from realtime.base.asgi import sent_path
from realtime.protocols import tokens
from realtime.protocols.closes import (
    BAD_JWT,
    BAD_KEY,
    BAD_REQUEST,
    BAD_SUBSCRIPTION,
    BAD_V4_REQUEST,
    QUOTA_USED_UP,
    Close,
    Refusal,
)
from realtime.protocols.handshake import V4, cluster_of, parse_options
from realtime.protocols.presence import clean, shown_user
from realtime.protocols.pusher_closes import tell_pusher
from realtime.protocols.pusher_handshake import is_for_pusher, key_in_path
from realtime.protocols.v4_channels import PATH_PREFIX as V4_CHANNELS

_PREFIX = "/v3/"
_CLUSTER = re.compile("[a-z0-9-]{1,63}")
_UNCHECKED = ("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss", "verify_sub", "verify_jti")


def describe(
    close: Close,
    scope: Mapping[str, Any],
    access: KeyAccess | None,
    cluster_domains: Sequence[str],
    address: str,
) -> RefusedClient:
    """Return what is known about a refused handshake.

    Args:
        close: the close that the client gets.
        scope: the ASGI scope of the handshake.
        access: what its key gives access to; None if it does not exist.
        cluster_domains: the domains that have clusters as their subdomains.
        address: the address of the client.
    """
    headers = {name: value.decode("latin-1") for name, value in reversed(scope["headers"])}
    options = _options(scope)
    public_key = key_in(scope)
    named = cluster_of(headers.get(b"host", ""), cluster_domains)
    host = named if named is not None and _CLUSTER.fullmatch(named) else None
    sent = sent_path(scope)
    # Pusher's URLs name no channel, but the key.
    path = "" if is_for_pusher(sent) else sent.removeprefix(_PREFIX).removeprefix(V4)
    space = V4_CHANNELS if sent.startswith(V4) else ""
    detail: str = ""
    facts: dict[str, Any] = {}
    user = options.get("user", "")
    if close.code == BAD_KEY.code:
        detail, facts = _about_key(public_key, access, host)
    elif close.code == QUOTA_USED_UP.code and access is not None:
        facts = about_quota(access)
    else:
        token = options.get("jwt", headers.get(b"jwt"))
        detail, facts = explain(close, access, path.rstrip("/"), token)
        if close.code == BAD_JWT.code and access is not None:
            user = _claimed_user(token) or user
    if access is not None and detail != OTHER_CLUSTER and host not in (None, access.cluster_id):
        access = None  # a key of another cluster, whose account has nothing to do with it
    is_valid = detail != CHANNEL
    return RefusedClient(
        Cause(
            None if access is None else access.account_id,
            None if access is None else access.cluster_pk,
            host,
            "" if access is None else access.public_key,
            tell_pusher(close).code if is_for_pusher(sent) else close.code,
            close.reason,
            detail,
        ),
        time.time(),
        clean(space + path.rstrip("/") if is_valid else path, MAX_CHANNEL_LENGTH if is_valid else MAX_SHOWN_LENGTH),
        clean(headers.get(b"origin", ""), MAX_ORIGIN_LENGTH),
        clean(user, MAX_SHOWN_LENGTH),
        address,
        clean(headers.get(b"user-agent", ""), MAX_CLIENT_LENGTH),
        facts,
    )


def explain(close: Close, access: KeyAccess | None, channel: str, token: str | None) -> tuple[str, dict[str, Any]]:
    """Return the detail and the facts of a refusal that depends on the channel.

    Args:
        close: the close that tells the reason.
        access: what the key gives access to; None if it does not exist.
        channel: the channel, without the prefix of its protocol.
        token: the JWT for it; None if the client has sent none.
    """
    if close.code == BAD_REQUEST.code:
        return _about_request(close)
    if close.code == BAD_JWT.code and access is not None:
        return _about_jwt(token, access, channel)
    if close.reason == BAD_SUBSCRIPTION:
        return "", {"sentence": clean(close.sentence, MAX_CLIENT_LENGTH)}
    return "", {}


def key_in(scope: Mapping[str, Any]) -> str:
    """Return the API key that a handshake names; empty if it names none."""
    path = sent_path(scope)
    return key_in_path(path) if is_for_pusher(path) else _key_of(_options(scope))


def about_quota(access: KeyAccess) -> dict[str, Any]:
    """Return which quota of connections a key has reached: its own, or that of its account."""
    quotas = access.quotas
    of_key = quotas.key_connections < quotas.account_connections
    return {"limit": min(quotas.key_connections, quotas.account_connections), "quota": "key" if of_key else "account"}


def _options(scope: Mapping[str, Any]) -> dict[str, str]:
    try:
        return parse_options(scope["query_string"])
    except Refusal:
        return {}


def _key_of(options: Mapping[str, str]) -> str:
    return options.get("api_key") or options.get("apiKey") or ""


def _about_request(close: Close) -> tuple[str, dict[str, Any]]:
    is_channel = close.sentence in (BAD_REQUEST.sentence, BAD_V4_REQUEST.sentence)
    return (CHANNEL, {}) if is_channel else (OPTION, {"sentence": close.sentence})


def _about_key(public_key: str, access: KeyAccess | None, host: str | None) -> tuple[str, dict[str, Any]]:
    if access is None:
        return (UNKNOWN if public_key else MISSING), {}
    if host not in (None, access.cluster_id):
        return OTHER_CLUSTER, {"host": host}
    return REVOKED, {}


def _about_jwt(token: str | None, access: KeyAccess, path: str) -> tuple[str, dict[str, Any]]:
    if token is None:
        return MISSING, {}
    claims = _claims(token)
    if claims is None:
        return MALFORMED, {}
    if not any(_claims(token, secret) is not None for secret in access.valid_secrets()):
        return OTHER_SECRET, {}
    ends_at, channel = claims.get("exp"), claims.get("sub")
    if isinstance(ends_at, int | float) and ends_at + tokens.LEEWAY_SECONDS <= time.time():
        return EXPIRED, {}
    if channel is not None and str(channel) != path:
        return OTHER_CHANNEL, {"jwt_channel": clean(str(channel), MAX_SHOWN_LENGTH)}
    return MALFORMED, {}


def _claims(token: str, secret: str | None = None) -> dict[str, Any] | None:
    """Return the claims of a JWT; None if it is malformed, or not signed with the secret.

    Args:
        token: the JWT.
        secret: the secret; without one, the signature is not checked.
    """
    options: Any = {"verify_signature": secret is not None, **dict.fromkeys(_UNCHECKED, False)}
    try:
        return dict(jwt.decode(token, secret or "", algorithms=[tokens.ALGORITHM], options=options))
    except (jwt.PyJWTError, ValueError, RecursionError):  # the last two: from the JSON parser
        return None


def _claimed_user(token: str | None) -> str:
    """Return the user that a JWT names, which nobody has checked."""
    claims = None if token is None else _claims(token)
    return "" if claims is None else shown_user(claims.get("user"))
