"""The session engine (`SESSION_ENGINE`): Django's sessions in the database, with their records."""

from typing import Any

from django.contrib.sessions.backends.db import SessionStore as DatabaseStore


class SessionStore(DatabaseStore):
    """Keeps the record of a session (see `sessions.py`) when the session gets another key, as on a new password."""

    def cycle_key(self) -> None:
        from allauth.usersessions.models import UserSession  # settings name this module, so it cannot import models

        former_key: Any = self.session_key
        super().cycle_key()
        UserSession.objects.filter(session_key=former_key).update(session_key=self.session_key)
