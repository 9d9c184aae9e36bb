"""Sentences for the errors of the database that the administrator can correct."""

from django.conf import settings
from django.db import DatabaseError, OperationalError, connections

from accounts.management.command_line import manage_command
from accounts.management.migrations import is_migrated


def explain(error: DatabaseError) -> str | None:
    """Return what is wrong with the database and how to correct it, or None if the error has another cause."""
    connections.close_all()
    try:
        if not is_migrated():
            return f"The database is not up to date. Run {manage_command('migrate')}"
    except OperationalError as unreachable:
        return f"The database cannot be opened: {_first_line(unreachable)}. Check {_setting()}."
    finally:
        connections.close_all()
    return f"The database reports an error: {_first_line(error)}." if isinstance(error, OperationalError) else None


def _setting() -> str:
    database = settings.DATABASES["default"]
    return f"the file {database['NAME']}" if database["ENGINE"].endswith("sqlite3") else "DATABASE_URL"


def _first_line(error: DatabaseError) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
