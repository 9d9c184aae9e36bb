"""The commands know the port of the running server, and do not believe what a killed one left behind."""

import subprocess
import sys
from pathlib import Path

from realtime.management.running import announced, running_port
from tests.servers import PROJECT

ANNOUNCES_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from realtime.management.running import announced
with announced(Path(sys.argv[1]), 9001):
    print("announced", flush=True)
    time.sleep(60)
"""


def test_the_port_is_known_while_the_server_runs(tmp_path: Path) -> None:
    assert running_port(tmp_path) is None
    for port in (12345, 80):
        with announced(tmp_path, port):
            assert running_port(tmp_path) == port
        assert running_port(tmp_path) is None


def test_the_file_of_a_killed_server_is_ignored(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ANNOUNCES_UNTIL_KILLED, str(tmp_path)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "announced\n"
            assert running_port(tmp_path) == 9001
        finally:
            process.kill()
    assert (tmp_path / "port").read_text() == "9001"
    assert running_port(tmp_path) is None
    with announced(tmp_path, 9002):
        assert running_port(tmp_path) == 9002


def test_of_two_servers_the_first_one_is_announced(tmp_path: Path) -> None:
    with announced(tmp_path, 9001), announced(tmp_path, 9002):
        assert running_port(tmp_path) == 9001


def test_a_server_runs_without_a_directory_to_announce_its_port_in(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with announced(missing, 9001):
        assert running_port(missing) is None
