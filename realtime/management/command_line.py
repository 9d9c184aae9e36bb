"""Commands that a person can copy from what another command printed."""

import shlex
import sys
from pathlib import Path


def manage_command(*arguments: str) -> str:
    """Return a command line for `manage.py` that works in the current directory.

    Args:
        arguments: the command to run, and its options.

    Returns:
        The command line in the shell's syntax, with Python relative to the current directory if it is below it.
    """
    python, here = Path(sys.executable), Path.cwd()
    # A bare `python` would be looked up on PATH.
    if python.is_relative_to(here) and python.parent != here:
        python = python.relative_to(here)
    return shlex.join([str(python), sys.argv[0], *arguments])
