"""What a request to the Cluster API may do. Each step is decided without waiting, so all ways in can share it.

The caller reads the body of a request, finds the access of its key in the cache or with a query, and calls these steps.
"""

import hmac

from accounts.key_access import KeyAccess, can_be_a_key
from realtime.node.node import Node
from realtime.protocols.publishing import Credentials, Problem
from realtime.server.addresses import address_limits

SUCCESS = b'{"success":true}'
WRONG_KEY = "The API key or its secret is wrong."


def check_may_parse(network: str | None, size: int) -> None:
    """Check that the client's address may have a body parsed although nobody knows yet who sends it.

    Raises:
        Problem: requests with a wrong key or secret came from this address with too much JSON.
    """
    wait = address_limits.wait_to_parse(network, size)
    if wait:
        sentence = (
            "Too much JSON with a wrong key or secret came from your address. "
            f"Wait {wait} seconds, or send key and secret as HTTP headers."
        )
        raise Problem(429, sentence, (b"retry-after", b"%d" % wait))


def authenticate(node: Node, network: str | None, credentials: Credentials, access: KeyAccess | None) -> KeyAccess:
    """Return the access of the key that a request is sent with.

    Args:
        node: the node.
        network: the client's network, which wrong secrets count for.
        credentials: the key and the secret.
        access: what the key allows; None if there is no such key.

    Raises:
        Problem: the key or the secret is wrong.
    """
    key, secret = credentials.key or "", credentials.secret or ""
    # Always compare, so that the response time does not distinguish a wrong key from a wrong secret.
    valid = access.valid_secrets() if access is not None else ()
    given = secret.encode()
    matches = [hmac.compare_digest(each.encode(), given) for each in valid or ("-" * len(secret),)]
    if access is not None and valid and not access.revoked and any(matches):
        node.key_use.note(key)
        return access
    raise wrong_secret(network, key, WRONG_KEY)


def wrong_secret(network: str | None, key: str, sentence: str) -> Problem:
    """Count a wrong key or secret against the client's address, and return the problem for the response.

    Args:
        network: the client's network.
        key: the key that the request names.
        sentence: what is wrong.
    """
    wait = address_limits.count_wrong_secret(network, key if can_be_a_key(key) else None)
    if wait:
        sentence = f"{sentence} There were too many failed attempts; wait {wait} seconds."
        return Problem(429, sentence, (b"retry-after", b"%d" % wait))
    return Problem(401, sentence)
