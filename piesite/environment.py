"""How the settings are read from the environment. A value that cannot be read raises an `EnvError` with a sentence."""

import re
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from environs import EnvError, FileAwareEnv

_ENGINES = ("django.db.backends.sqlite3", "django.db.backends.postgresql")

env = FileAwareEnv(strip_whitespace=True)


@env.parser_for("words")
def _words(value: Any, **_: Any) -> Any:
    """Return the words in a list. Commas and line ends separate them; spaces around a word do not belong to it."""
    if not isinstance(value, str):
        return value  # the default
    return [word for part in re.split(r"[,\n]", value) if (word := part.strip())]


def known_time_zone(name: str) -> None:
    """Check that a time zone exists.

    Raises:
        EnvError: it does not.
    """
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError for the name of a directory, such as "Europe"
        raise EnvError(f"TIME_ZONE is {name!r}, which is not a time zone. Write, for example, Europe/Berlin.") from None


def supported_database(database: Any) -> Any:
    """Return a database's settings if the service supports it.

    Raises:
        EnvError: it is neither PostgreSQL nor SQLite.
    """
    if database["ENGINE"] not in _ENGINES:
        raise EnvError("DATABASE_URL must begin with postgres:// or sqlite:///. Other databases are not supported.")
    return database
