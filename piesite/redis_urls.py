"""What the settings read from the URL of a Redis."""

from urllib.parse import parse_qs, urlsplit


def database_number(url: str) -> int:
    """Return the number of the database that a URL names; 0 if it names none.

    redis-py reads it from the query (`?db=5`) or, except for a Unix socket, from the path (`redis://host/5`).
    """
    parts = urlsplit(url)
    named = parse_qs(parts.query).get("db", [""])[-1] or ("" if parts.scheme == "unix" else parts.path.strip("/"))
    return int(named) if named.isdecimal() else 0
