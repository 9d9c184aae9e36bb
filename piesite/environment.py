"""How the settings are read from the environment. A value that cannot be read raises an `EnvError` with a sentence."""

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dj_email_url
from environs import EnvError, FileAwareEnv

# How long to wait for the mail server.
_MAIL_SECONDS = 10
_ENGINES = ("django.db.backends.sqlite3", "django.db.backends.postgresql")

env = FileAwareEnv(strip_whitespace=True)


@env.parser_for("words")
def _words(value: Any, **_: Any) -> Any:
    """Return the words in a list. Commas and line ends separate them; spaces around a word do not belong to it."""
    if not isinstance(value, str):
        return value  # the default
    return [word for part in re.split(r"[,\n]", value) if (word := part.strip())]


def networks(variable: str) -> list[IPv4Network | IPv6Network]:
    """Return the networks in a variable.

    Raises:
        EnvError: one of them is neither an IP address nor a network.
    """
    found = []
    for word in env.words(variable, default=[]):
        try:
            found.append(ip_network(word, strict=False))
        except ValueError:
            raise EnvError(f"{word!r} in {variable} is neither an IP address nor a network.") from None
    return found


def one_of(variable: str, *choices: str) -> Callable[[str], None]:
    """Return a function that checks that the value of a variable is one of these.

    The function raises an `EnvError` if it is not.
    """

    def check(value: str) -> None:
        if value not in choices:
            raise EnvError(f"{variable} is {value!r}, but must be {', '.join(choices[:-1])} or {choices[-1]}.")

    return check


def mail_server(url: str) -> dict[str, Any]:
    """Return the options of Django's SMTP backend for a URL such as `submission://user:password@mail.example.com:587`.

    Returns:
        The options; none for an empty URL.

    Raises:
        EnvError: it is not the URL of a mail server. The sentence does not contain the URL, which may have a password.
    """
    if not url:
        return {}
    problem = EnvError(
        "EMAIL_URL is not valid. Write smtp://HOST:25, submission://USER:PASSWORD@HOST:587 for STARTTLS, or "
        "smtp://USER:PASSWORD@HOST:465?ssl=true for TLS."
    )
    try:
        found = dj_email_url.parse(url)
    except ValueError:
        raise problem from None
    if urlsplit(url).scheme not in ("smtp", "submission") or not found["EMAIL_HOST"]:
        raise problem
    return {
        "host": found["EMAIL_HOST"],
        "port": found["EMAIL_PORT"],
        "username": found["EMAIL_HOST_USER"] or "",
        "password": found["EMAIL_HOST_PASSWORD"] or "",
        "use_tls": found["EMAIL_USE_TLS"],
        "use_ssl": found["EMAIL_USE_SSL"],
        "timeout": found["EMAIL_TIMEOUT"] or _MAIL_SECONDS,
    }


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
