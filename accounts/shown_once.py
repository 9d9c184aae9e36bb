"""Texts that are shown once, to the session in which they were made: a new API token, the link of an invitation.

Until then they are encrypted in the session's row in the database. They are in no cookie and no URL.
"""

import time

from django.contrib.sessions.backends.base import SessionBase
from django.views.decorators.debug import sensitive_variables

from . import crypto

SHOWN_FOR_SECONDS = 600
_SESSION_KEY = "shown_once"
# How many texts a session keeps at the same time.
_MAX_KEPT = 20


@sensitive_variables()
def keep(session: SessionBase, name: str, text: str) -> None:
    """Keep a text for this session, which can `take` it by its name."""
    now = int(time.time())
    current = {name: kept for name, kept in session.get(_SESSION_KEY, {}).items() if kept["until"] > now}
    kept = {"ciphertext": crypto.encrypt(text), "until": now + SHOWN_FOR_SECONDS}
    session[_SESSION_KEY] = dict([*current.items(), (name, kept)][-_MAX_KEPT:])


@sensitive_variables()
def take(session: SessionBase, name: str) -> str | None:
    """Return a text and forget it; None if it was shown already, or was kept for too long."""
    kept = session.get(_SESSION_KEY, {}).pop(name, None)
    if kept is None:
        return None
    session.modified = True
    if kept["until"] <= time.time():
        return None
    try:
        return crypto.decrypt(kept["ciphertext"])
    except crypto.DecryptionFailed:  # the key was replaced in these minutes
        return None
