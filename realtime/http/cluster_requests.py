"""What a request to the Cluster API may do. Each step is decided without waiting, so all ways in can share it.

The caller reads the body of a request, finds the access of its key in the cache or with a query, and calls these steps.
"""

import hmac
from collections.abc import Callable, Sequence

from accounts.key_access import KeyAccess, can_be_a_key
from accounts.usage import seconds_to_midnight
from realtime.node.message_quotas import DAY_USED_UP
from realtime.node.node import Node
from realtime.protocols.admission import why_off
from realtime.protocols.frames import Message
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
    wait = address_limits.count_wrong_secret(network, key if can_be_a_key(key) else None)
    if wait:
        sentence = f"{WRONG_KEY} There were too many failed attempts; wait {wait} seconds."
        raise Problem(429, sentence, (b"retry-after", b"%d" % wait))
    raise Problem(401, WRONG_KEY)


def check_enabled(access: KeyAccess) -> None:
    """Check that a key may be used now.

    Raises:
        Problem: the account is suspended, or the cluster is off.
    """
    if off := why_off(access):
        raise Problem(403, off.sentence)


def publish(
    node: Node, access: KeyAccess, messages: Sequence[tuple[str, Message]], on_done: Callable[[], None]
) -> None:
    """Publish messages, all of them or none.

    Args:
        node: the node.
        access: what the key allows.
        messages: the channel's group and the message of each.
        on_done: called when all of them are delivered here and taken by Redis.

    Raises:
        Problem: the quota does not allow as many messages today.
    """
    if not node.message_quotas.account(access).take(len(messages)):
        raise Problem(429, f"{DAY_USED_UP}; nothing was sent.", (b"retry-after", b"%d" % seconds_to_midnight()))
    traffic = node.usage.key(access)
    traffic.messages += len(messages)
    for _, message in messages:
        traffic.bytes += len(message.wire)
    if len(messages) == 1:
        ((group, message),) = messages
        node.publish_to(group, message, access.account_id, on_done)
        return
    waiting = len(messages)

    def note_done() -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            on_done()

    for group, message in messages:
        node.publish_to(group, message, access.account_id, note_done)
