"""Admission: turn the ASGI scope of a handshake into an Admission (rights, and the channel in the URL) or a Refusal."""

import math
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from accounts.key_access import KeyAccess
from realtime.protocols import tokens
from realtime.protocols.channels import Channel, group_name, is_private
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
from realtime.protocols.presence import PIESOCKET_EVENTS, Identity, PresenceEvents, shown_user


@dataclass(frozen=True, slots=True)
class Proof:
    """The JWT with which a client has connected."""

    secret: str = field(repr=False)
    """The secret that signed it."""
    expires_at: float
    """Unix time in seconds."""


@dataclass(frozen=True, slots=True)
class Target:
    """A channel to which a client may subscribe, and how."""

    group: str
    """The channel-layer group that stands for the channel."""
    channel: Channel
    """The channel, as it is counted."""
    notify_self: bool
    identity: Identity | None
    """The member in presence; None if presence is off."""
    is_proven: bool = True
    """Whether the client has proved that it may use the channel, or will lose the connection with its proof."""
    events: PresenceEvents = PIESOCKET_EVENTS
    """How the members in presence learn of each other."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The key and options of a connection that may be accepted."""

    access: KeyAccess
    origin: str | None
    channel: Channel
    """The channel in which the connection is counted. Of protocols with any number of subscriptions, it is none."""
    target: Target | None
    """The channel in the URL; None if the protocol has none there."""
    proof: Proof | None
    """The JWT that was checked; None if the client sent none."""
    user: str
    """Whom the client says that it connects for, or whom its JWT names; empty if neither does."""


class Handshake(NamedTuple):
    """A parsed handshake of any protocol."""

    api_key: str
    """The API key that it names; empty if it names none."""
    decide: Callable[[KeyAccess | None], Admission]
    """Takes what the key gives access to, None if there is no such key. Returns what the connection may do, or raises a
    Refusal."""


Read = Callable[[Mapping[str, Any], Sequence[str]], Handshake]
"""Takes the ASGI scope of a handshake and the domains that have clusters as their subdomains. Returns the parsed
handshake, or raises a Refusal."""


def read_v3(scope: Mapping[str, Any], cluster_domains: Sequence[str]) -> Handshake:
    """Return a handshake of PieSocket v3.

    Raises:
        Refusal: the path or an option is not valid.
    """
    request = parse_request(scope, cluster_domains)
    return Handshake(request.api_key, partial(_decide, request))


async def admit(handshake: Handshake, find_key: Callable[[str], Awaitable[KeyAccess | None]]) -> Admission:
    """Decide whether a client may connect.

    Args:
        handshake: the handshake.
        find_key: looks up a public key; returns None if there is no such key.

    Returns:
        What the connection may do.

    Raises:
        Refusal: the client may not connect; the refusal carries the reason.
    """
    return handshake.decide(await find_key(handshake.api_key) if handshake.api_key else None)


def _decide(request: Request, access: KeyAccess | None) -> Admission:
    """Decide whether a client may connect with the key that its request names.

    Args:
        request: the handshake.
        access: what the key gives access to; None if there is no such key.

    Raises:
        Refusal: the client may not connect; the refusal carries the reason.
    """
    access = check_key(access, request.cluster_id)
    if close := why_not(access, request.path, request.origin, authenticated=request.jwt is not None):
        raise Refusal(close)
    proof, user = (None, None) if request.jwt is None else verify_jwt(request.jwt, access, request.path)
    channel = (access.cluster_pk, request.path)
    return Admission(
        access=access,
        origin=request.origin,
        channel=channel,
        target=Target(
            group=group_name(access.cluster_id, request.path),
            channel=channel,
            notify_self=request.notify_self,
            identity=_identity(request, user) if request.presence else None,
        ),
        proof=proof,
        user=shown_user(request.user if user is None else user),
    )


def check_key(access: KeyAccess | None, cluster_id: str | None) -> KeyAccess:
    """Return what a key gives access to, if it is a valid key of the cluster that a handshake names.

    Args:
        access: what the key gives access to; None if there is no such key.
        cluster_id: the cluster in the Host header; None if it contains none.

    Raises:
        Refusal: the key is not valid here.
    """
    if access is None or access.revoked or cluster_id not in (None, access.cluster_id):
        raise Refusal(BAD_KEY)
    return access


def verify_jwt(jwt: str, access: KeyAccess, path: str) -> tuple[Proof, Any]:
    """Return a JWT that may connect, and its `user` claim.

    Raises:
        Refusal: the JWT is not valid with any secret of the key, or a connection with it would be closed immediately.
    """
    for secret in access.valid_secrets():
        try:
            claims = tokens.verify(jwt, secret, path)
        except Refusal:
            continue
        proof = Proof(secret, claims.expires_at)
        if end_of(access, proof) > time.time():
            return proof, claims.user
    raise Refusal(BAD_JWT)


def end_of(access: KeyAccess, proof: Proof) -> float:
    """Return when a connection that a JWT has opened must be closed, as Unix time in seconds; infinity for never.

    Args:
        access: the current access of the connection's key.
        proof: the JWT.
    """
    end = proof.expires_at if access.closes_expired_connections else math.inf
    # A secret that cannot be decrypted may still be the one that signed the JWT.
    if access.secret is None or proof.secret == access.secret:
        return end
    return min(end, access.old_secret_ends_at) if proof.secret == access.old_secret else 0


def _identity(request: Request, user: Any) -> Identity:
    """Return the identity of a member.

    Args:
        request: the handshake.
        user: the `user` claim of the JWT, which takes precedence over the `user` option of the URL.

    Raises:
        Refusal: the claim cannot be written as JSON.
    """
    try:
        return Identity.of(request.uuid or str(uuid.uuid4()), user if user is not None else request.user or "anonymous")
    except ValueError:
        raise Refusal(BAD_JWT) from None


def why_not(access: KeyAccess | None, path: str, origin: str | None, *, authenticated: bool) -> Close | None:
    """Return why a key does not give access to a channel, or None if it does.

    Checked when a client connects, and again whenever the access of its key changes.

    Args:
        access: the key; None if there is no such key.
        path: the path of the channel; empty for a connection that has none in its URL.
        origin: the origin of the web page that connects; None for other clients.
        authenticated: whether the client has proved that it may use its channels. The caller verifies the proof.
    """
    if access is None or access.revoked:
        return KEY_REVOKED
    off = why_off(access)
    if off is not None:
        return off
    if origin is not None and access.allowed_origins and not origin_matches(origin, access.allowed_origins):
        return BAD_ORIGIN
    if not authenticated and (access.protects_channels or is_private(path)):
        return BAD_JWT
    return None


def why_off(access: KeyAccess) -> Close | None:
    """Return why a key can currently be used neither to connect nor to publish, or None if it can."""
    if access.account_suspended:
        return ACCOUNT_SUSPENDED
    if not access.cluster_enabled:
        return CLUSTER_OFF
    return None
