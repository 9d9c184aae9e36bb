"""What commands print: values, and command lines for the user to copy."""

import json
import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any


def manage_command(*arguments: str) -> str:
    """Return a command line for `manage.py` that works in the current directory.

    Args:
        arguments: the command and its options.

    Returns:
        The command line in shell syntax. The path of Python is relative if it is below the current directory.
    """
    python, here = Path(sys.executable), Path.cwd()
    # The shell would look up a bare `python` on PATH.
    if python.is_relative_to(here) and python.parent != here:
        python = python.relative_to(here)
    return shlex.join([str(python), sys.argv[0], *arguments])


def add_json_option(parser: ArgumentParser) -> None:
    """Add the option `--json` to a command that prints values."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def format_values(values: Mapping[str, Any], *, as_json: bool) -> str:
    """Return values as one JSON object, or as lines for people."""
    if as_json:
        return json.dumps(values, default=_json)
    width = max(map(len, values)) + 2
    return "\n".join(f"{name.replace('_', ' ') + ':':<{width}}{_text(value)}" for name, value in values.items())


def format_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> str:
    """Return rows with the same names as one JSON list, or as a table for people."""
    if as_json:
        return json.dumps(rows, default=_json)
    if not rows:
        return "None."
    lines = [[name.replace("_", " ") for name in rows[0]], *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _text(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M}"
        case _:
            return str(value)


def _json(value: Any) -> str:
    """Return a value of which JSON has no type.

    Raises:
        TypeError: it is neither a date nor a time.
    """
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"JSON has no type for {value!r}.")
