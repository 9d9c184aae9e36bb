"""One JWT against one secret and one channel (the wire contract, *Private channels*; RFC 7519)."""

import time
from typing import Any

import jwt

from realtime.protocols.closes import BAD_JWT, Refusal

ALGORITHM = "HS256"
LEEWAY_SECONDS = 10
# PyJWT would have a subject be a string; the contract takes a number for its decimal string, and knows no `jti`.
_OPTIONS: Any = {"require": ["sub", "exp"], "verify_sub": False, "verify_aud": False, "verify_jti": False}


def verify(token: str, secret: str, channel_id: str) -> Any:
    """Check a token.

    Args:
        token: what the client sent.
        secret: of the API key that it connects with.
        channel_id: what it connects to.

    Returns:
        The claim `user`; None if there is none.

    Raises:
        Refusal: the token is not valid; why is not said.
    """
    try:
        claims = jwt.decode(token, secret, algorithms=[ALGORITHM], leeway=LEEWAY_SECONDS, options=_OPTIONS)
    except (jwt.PyJWTError, ValueError, RecursionError):  # the last two: of JSON that no parser takes
        raise Refusal(BAD_JWT) from None
    subject = claims["sub"]
    if isinstance(subject, bool) or not isinstance(subject, str | int) or str(subject) != channel_id:
        raise Refusal(BAD_JWT)
    return claims.get("user")


def sign(secret: str, channel_id: str, ttl_seconds: int, user: str | None = None) -> str:
    """Make a token as an application's server does.

    Args:
        secret: of the API key that the client will connect with.
        channel_id: what it gives access to.
        ttl_seconds: how long it is valid, from now on.
        user: who the client is to others in presence.
    """
    now = int(time.time())
    claims: dict[str, Any] = {"sub": channel_id, "iat": now, "exp": now + ttl_seconds}
    if user is not None:
        claims["user"] = user
    return jwt.encode(claims, secret, algorithm=ALGORITHM)
