"""Requests to Pusher's HTTP API for tests, signed as its documentation says, without the code of the service."""

import hashlib
import hmac
import time
from typing import Any
from urllib.parse import quote, urlencode

import httpx


def signed_query(method: str, path: str, body: bytes, key: str, secret: str, **changed: Any) -> str:
    """Return the query of a signed request.

    Args:
        method: the method.
        path: the whole path, not escaped.
        body: the body.
        key: the key.
        secret: its secret.
        changed: parameters to add or to change, before the request is signed; None leaves one out.
    """
    parameters = {
        "auth_key": key,
        "auth_timestamp": str(int(time.time())),
        "auth_version": "1.0",
        "body_md5": hashlib.md5(body, usedforsecurity=False).hexdigest() if body else None,
        **changed,
    }
    signed = {name: value for name, value in sorted(parameters.items()) if value is not None}
    text = "\n".join([method, path, "&".join(f"{name}={value}" for name, value in signed.items())])
    return urlencode({"auth_signature": hmac.digest(secret.encode(), text.encode(), "sha256").hex(), **signed})


class PusherServer:
    """A tenant's server that publishes with Pusher's HTTP API."""

    def __init__(self, http: httpx.AsyncClient, app_id: str, key: str, secret: str) -> None:
        self.http = http
        self.app_id = app_id
        self.key = key
        self.secret = secret

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, prefix: str | None = None, **changed: Any
    ) -> tuple[int, Any]:
        """Send a signed request; return the status and the body of the answer.

        Args:
            method: the method.
            path: the path within the app, not escaped.
            body: the body.
            prefix: begins the path; by default, that is the app.
            changed: see `signed_query`.
        """
        path = f"/apps/{self.app_id}{path}" if prefix is None else prefix + path
        query = signed_query(method, path, body, self.key, self.secret, **changed)
        headers = {"content-type": "application/json"}
        answer = await self.http.request(method, f"{quote(path)}?{query}", content=body, headers=headers)
        assert answer.headers["content-type"] == "application/json"
        return answer.status_code, answer.json()
