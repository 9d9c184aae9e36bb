"""Commands in what other commands print can be copied and run where the person is."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import PROJECT

PRINT = "from accounts.management.command_line import manage_command; print(manage_command('migrate'))"


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A virtual environment's Python in a folder of its own."""
    path = tmp_path / "a project" / ".venv" / "bin" / "python"
    path.parent.mkdir(parents=True)
    path.symlink_to(sys.executable)
    return path


def printed(python: Path, script: Path | str, cwd: Path) -> str:
    """Return what a script prints that a person started in a folder."""
    (cwd / script).write_text(PRINT)
    command = [str(python), str(script)]
    done = subprocess.run(command, cwd=cwd, env={"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


def test_in_the_project_python_is_relative(python: Path) -> None:
    assert printed(python, "manage.py", python.parents[2]) == ".venv/bin/python manage.py migrate"


def test_elsewhere_it_is_the_full_path_quoted_for_the_shell(python: Path, tmp_path: Path) -> None:
    cwd, script = tmp_path / "elsewhere", python.parents[2] / "manage.py"
    cwd.mkdir()
    assert printed(python, script, cwd) == f"'{python}' '{script}' migrate"


def test_beside_python_it_is_the_full_path_since_the_shell_would_search_for_a_bare_name(python: Path) -> None:
    assert printed(python, "manage.py", python.parent) == f"'{python}' manage.py migrate"
