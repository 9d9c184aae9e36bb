"""CORS for the Cluster API: which web sites may call it from a browser (the Fetch standard, *CORS protocol*)."""

from realtime.base.asgi import Header

# A preflight request does not contain the key. Pages of any origin may therefore send requests, and may read a response
# only if the key of the request allows it. The answer is the same for everyone, so it tells nobody about the keys.
PREFLIGHT: tuple[Header, ...] = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"content-type, key, secret, x-requested-with"),
    (b"access-control-max-age", b"600"),
)


def allow(origin: bytes | None) -> tuple[Header, ...]:
    """Return the headers that let pages of an origin read a response; empty if a request names no origin."""
    if origin is None:
        return ()
    return ((b"access-control-allow-origin", origin), (b"vary", b"origin"))
