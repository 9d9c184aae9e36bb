"""From an ASGI scope to an Admission (which channel, with which rights, as whom), or a Refusal."""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accounts.access import KeyAccess
from realtime.protocols import tokens
from realtime.protocols.channels import Channel, group_name
from realtime.protocols.closes import (
    ACCOUNT_SUSPENDED,
    BAD_JWT,
    BAD_KEY,
    BAD_ORIGIN,
    CLUSTER_OFF,
    KEY_REVOKED,
    Close,
    Refusal,
)
from realtime.protocols.handshake import Request, origin_matches, parse_request
from realtime.protocols.presence import Identity


@dataclass(frozen=True, slots=True)
class Admission:
    """A connection may be accepted: these are its channel, its key and its options."""

    access: KeyAccess
    group: str
    """The channel-layer group that stands for the channel."""
    channel: Channel
    """The channel for counting."""
    channel_id: str
    origin: str | None
    notify_self: bool
    authenticated: bool
    """Whether a JWT was checked."""
    identity: Identity | None
    """Who takes part in presence; None if presence is off."""


async def admit(
    scope: Mapping[str, Any],
    cluster_domains: Sequence[str],
    find_key: Callable[[str], Awaitable[KeyAccess | None]],
) -> Admission:
    """Decide on a handshake.

    Args:
        scope: of an ASGI `websocket` connection.
        cluster_domains: the domains under which clusters live.
        find_key: returns what is known of a public key, None if there is no such key.

    Raises:
        Refusal: it may not connect; the refusal says why.
    """
    request = parse_request(scope, cluster_domains)
    access = await find_key(request.api_key) if request.api_key else None
    if access is None or access.revoked or request.cluster_id not in (None, access.cluster_id):
        raise Refusal(BAD_KEY)
    authenticated = request.jwt is not None
    if refusal := why_not(access, request.channel_id, request.origin, authenticated=authenticated):
        raise Refusal(refusal)
    user = None
    if request.jwt is not None:
        if access.secret is None:
            raise Refusal(BAD_JWT)
        user = tokens.verify(request.jwt, access.secret, request.channel_id)
    return Admission(
        access=access,
        group=group_name(access.cluster_id, request.path),
        channel=(access.cluster_pk, request.path),
        channel_id=request.channel_id,
        origin=request.origin,
        notify_self=request.notify_self,
        authenticated=authenticated,
        identity=_identity(request, user) if request.presence else None,
    )


def _identity(request: Request, user: Any) -> Identity:
    """
    Args:
        request: what is asked for.
        user: what the JWT says; it stands over what the URL says.
    """
    try:
        return Identity.of(request.uuid or str(uuid.uuid4()), user if user is not None else request.user or "anonymous")
    except ValueError:
        raise Refusal(BAD_JWT) from None


def why_not(access: KeyAccess | None, channel_id: str, origin: str | None, *, authenticated: bool) -> Close | None:
    """Why a key does not give access to a channel now, None if it does; asked when admitted and at each change.

    Args:
        access: what is known of the key.
        channel_id: of the channel.
        origin: of the web page that asks, if it is one.
        authenticated: whether there is a JWT, which is another's business to check.
    """
    if access is None or access.revoked:
        return KEY_REVOKED
    if access.account_suspended:
        return ACCOUNT_SUSPENDED
    if not access.cluster_enabled:
        return CLUSTER_OFF
    if origin is not None and access.allowed_origins and not origin_matches(origin, access.allowed_origins):
        return BAD_ORIGIN
    if not authenticated and (access.protects_channels or channel_id.startswith("private-")):
        return BAD_JWT
    return None
