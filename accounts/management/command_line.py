"""What commands print: values, and command lines for the user to copy."""

import json
import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
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
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def format_values(values: Mapping[str, Any], *, as_json: bool) -> str:
    """Return values as one JSON object, or as lines for people."""
    if as_json:
        return json.dumps(values)
    width = max(map(len, values)) + 2
    return "\n".join(f"{name + ':':<{width}}{value}" for name, value in values.items())
