"""The check of the Python version in `manage.py`, before any command runs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import PROJECT

MANAGE = PROJECT / "manage.py"
PRETENDS_TO_BE_OLD = """
import runpy, sys
sys.version_info = (3, 10, 9)
sys.modules["django"] = None  # importing it would fail
runpy.run_path("manage.py", run_name="__main__")
"""


def old_pythons() -> list[Path]:
    """Return the interpreters on this machine that are too old, from PATH's usual folders and pyenv."""
    folders = [Path("/usr/bin"), Path("/usr/local/bin"), *Path.home().glob(".pyenv/versions/*/bin")]
    found = (path for folder in folders for path in folder.glob("python3.*"))
    return sorted(path for path in found if re.fullmatch(r"python3\.([6-9]|10)", path.name))


def assert_one_sentence(command: list[str]) -> None:
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"This service needs Python 3\.11 or newer, but /\S+ is Python 3\.\d+\.\d+\.\n", done.stderr), (
        done.stderr
    )


def test_python_3_6_can_parse_it() -> None:
    ast.parse(MANAGE.read_text(), feature_version=(3, 6))


def test_an_old_python_gets_one_sentence_before_anything_is_imported() -> None:
    assert_one_sentence([sys.executable, "-c", PRETENDS_TO_BE_OLD])


@pytest.mark.parametrize("python", old_pythons(), ids=lambda path: path.name)
def test_real_old_interpreters_get_the_sentence_too(python: Path) -> None:
    assert_one_sentence([str(python), "manage.py", "serve", "--demo"])
