"""Command lines that a command prints for the user to copy."""

import shlex
import sys
from pathlib import Path


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
