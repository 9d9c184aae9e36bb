"""An authenticator app and a passkey, as people have them."""

import base64
import hmac
import time

from tests.browser import Page


def totp(secret: str, ahead: int = 0) -> str:
    """Return the code that an authenticator app shows (RFC 6238).

    Args:
        secret: the key that was entered into the app.
        ahead: how many periods of 30 seconds its clock is fast.
    """
    counter = int(time.time()) // 30 + ahead
    digest = hmac.digest(base64.b32decode(secret), counter.to_bytes(8), "sha1")
    start = digest[-1] & 15
    return f"{(int.from_bytes(digest[start : start + 4]) & 0x7FFFFFFF) % 1_000_000:06}"


async def add_authenticator(page: Page) -> None:
    """Give the browser an authenticator that has a fingerprint reader and confirms everything."""
    await page.send("WebAuthn.enable")
    await page.send(
        "WebAuthn.addVirtualAuthenticator",
        options={
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        },
    )
