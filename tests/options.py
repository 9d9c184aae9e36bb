"""The command lines of the tests and measurements that run with `python -m`."""

import argparse


def option_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser for the options of a module, whose docstring its `--help` prints as it is written."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
