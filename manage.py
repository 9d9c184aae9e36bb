#!/usr/bin/env python3
"""The project's command line: `python manage.py help` lists the commands."""

import os
import sys


def main() -> None:
    # Python 3.6 and newer must be able to parse this file, so that old versions print this error.
    if sys.version_info < (3, 11):  # noqa: UP036
        version = ".".join(map(str, sys.version_info[:3]))
        sys.exit(f"This service needs Python 3.11 or newer, but {sys.executable} is Python {version}.")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "piesite.settings")
    try:
        from django.core.management import execute_from_command_line
        from django.db import DatabaseError
        from environs import EnvError
    except ImportError as error:
        sys.exit(f"{error}. Install the packages first: pip install -r requirements.txt")
    try:
        execute_from_command_line(sys.argv)
    except EnvError as error:
        sys.exit(str(error))
    except DatabaseError as error:
        from piesite.database_errors import explain

        sentence = explain(error)
        if sentence is None:
            raise
        sys.exit(sentence)


if __name__ == "__main__":
    main()
