"""Signatures of webhooks: Standard Webhooks' headers, and Pusher's beside them."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

from django.views.decorators.debug import sensitive_variables

SECRET_PREFIX = "whsec_"  # noqa: S105  (not a secret)
SECRET_BYTES = 32


def new_secret() -> str:
    """Return a new signing secret, as Standard Webhooks writes it."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def new_message_id() -> str:
    """Return a new ID of a delivery. It stays the same in all attempts, so that receivers recognize repeats."""
    return f"msg_{secrets.token_urlsafe(18)}"


def body_of(events: str, time_ms: int) -> bytes:
    """Return the body of a request.

    Args:
        events: the events, as a JSON array.
        time_ms: the time of the attempt, as Unix time in milliseconds. Pusher's libraries refuse an old one.
    """
    return f'{{"time_ms":{time_ms},"events":{events}}}'.encode()


@sensitive_variables()
def headers_of(
    body: bytes, message_id: str, timestamp: int, signing_secrets: Sequence[str], api_key: tuple[str, str] | None
) -> list[tuple[str, str]]:
    """Return the headers that identify and sign a request.

    Args:
        body: the body of the request.
        message_id: the ID of the delivery.
        timestamp: the time of the attempt, as Unix time in seconds.
        signing_secrets: the secrets of the webhook that are valid now.
        api_key: the API key and its secret for Pusher's headers; None if the cluster has no active key.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = " ".join(f"v1,{_signature(secret, signed)}" for secret in signing_secrets)
    headers = [("webhook-id", message_id), ("webhook-timestamp", str(timestamp)), ("webhook-signature", signatures)]
    if api_key is not None:
        public_key, secret = api_key
        headers.append(("X-Pusher-Key", public_key))
        headers.append(("X-Pusher-Signature", hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()))
    return headers


@sensitive_variables()
def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
