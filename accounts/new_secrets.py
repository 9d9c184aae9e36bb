"""Shows the secrets of newly issued and rotated keys once, on a page of its own after the change.

The session remembers only which keys these are, for some minutes. The secrets themselves stay encrypted in the rows of
the keys until the page shows them.
"""

import hashlib
import secrets
import time
from collections.abc import Collection
from typing import Any

from django.contrib.sessions.backends.base import SessionBase
from django.views.decorators.debug import sensitive_variables

from . import crypto
from .models import ApiKey
from .services import IssuedKey

SHOWN_FOR_SECONDS = 300
_SESSION_KEY = "new_secrets"
# How many pages of secrets a session remembers at the same time.
_MAX_PAGES = 20


def remember(session: SessionBase, keys: Collection[ApiKey], back: str, name: str = "") -> str:
    """Let this session see the current secrets of some keys once.

    Args:
        session: the session of the person who has issued or rotated them.
        keys: the keys.
        back: the path of the page to continue with.
        name: the name of the page; random by default.

    Returns:
        The name of the page for `take`. It is useless to other sessions.
    """
    name = name or secrets.token_urlsafe(8)
    digests = {key.pk: _digest(key) for key in ApiKey.objects.filter(pk__in=[key.pk for key in keys])}
    page = {
        "keys": [[key.pk, digests[key.pk]] for key in keys],
        "back": back,
        "until": int(time.time()) + SHOWN_FOR_SECONDS,
    }
    current = {name: page for name, page in session.get(_SESSION_KEY, {}).items() if page["until"] > time.time()}
    session[_SESSION_KEY] = dict([*current.items(), (name, page)][-_MAX_PAGES:])
    # Saved in the transaction of the change, so that no secret is replaced that nobody can see.
    session.save()
    return name


@sensitive_variables()
def take(session: SessionBase, name: str) -> tuple[list[IssuedKey], str | None]:
    """Return the keys of a page with their secrets, and the path to continue with; none if they were shown already.

    A secret that was rotated again in the meantime is left out.
    """
    page: dict[str, Any] | None = session.get(_SESSION_KEY, {}).pop(name, None)
    if page is None:
        return [], None
    session.modified = True
    if page["until"] < time.time():
        return [], page["back"]
    rows = ApiKey.objects.select_related("cluster__account").in_bulk([pk for pk, _ in page["keys"]])
    keys = [rows[pk] for pk, digest in page["keys"] if pk in rows and _digest(rows[pk]) == digest]
    return [IssuedKey(key, crypto.decrypt(key.secret_ciphertext)) for key in keys], page["back"]


def _digest(key: ApiKey) -> str:
    return hashlib.sha256(key.secret_ciphertext.encode()).hexdigest()
