"""Verifying and signing of JWTs (the wire contract, *Private channels*; RFC 7519)."""

import math
import time
from typing import Any, NamedTuple

import jwt

from realtime.protocols.closes import BAD_JWT, Refusal

ALGORITHM = "HS256"
LEEWAY_SECONDS = 10
# PyJWT requires the subject to be a string. The contract also allows a number, and defines neither `aud` nor `jti`.
_OPTIONS: Any = {"require": ["sub", "exp"], "verify_sub": False, "verify_aud": False, "verify_jti": False}


class Claims(NamedTuple):
    """The claims of a valid token that matter after a client has connected."""

    user: Any
    """The `user` claim; None if the token has none."""
    expires_at: float
    """The `exp` claim: Unix time in seconds."""


def verify(token: str, secret: str, channel_id: str) -> Claims:
    """Verify a token, and return its claims.

    Args:
        token: the JWT from the client.
        secret: the secret of the client's API key.
        channel_id: the ID of the client's channel.

    Raises:
        Refusal: the token is not valid. The refusal never says why.
    """
    try:
        claims = jwt.decode(token, secret, algorithms=[ALGORITHM], leeway=LEEWAY_SECONDS, options=_OPTIONS)
    except (jwt.PyJWTError, ValueError, RecursionError):  # the last two: from the JSON parser
        raise Refusal(BAD_JWT) from None
    subject = claims["sub"]
    if isinstance(subject, bool) or not isinstance(subject, str | int) or str(subject) != channel_id:
        raise Refusal(BAD_JWT)
    return Claims(claims.get("user"), _as_time(claims["exp"]))


def _as_time(number: Any) -> float:
    try:
        return float(number)
    except OverflowError:  # from an integer with hundreds of digits
        return math.inf


def sign(secret: str, channel_id: str, ttl_seconds: int, user: str | None = None) -> str:
    """Sign a token, as the server of an application does.

    Args:
        secret: the secret of the client's API key.
        channel_id: the ID of the channel to which the token gives access.
        ttl_seconds: how long the token is valid, from now on.
        user: the `user` claim, which other members see in presence.
    """
    now = int(time.time())
    claims: dict[str, Any] = {"sub": channel_id, "iat": now, "exp": now + ttl_seconds}
    if user is not None:
        claims["user"] = user
    return jwt.encode(claims, secret, algorithm=ALGORITHM)
