"""Errors as lines of a log."""


def first_line(error: Exception) -> str:
    """Return the first line of what an error says; the database's errors have more of them."""
    return str(error).partition("\n")[0]
