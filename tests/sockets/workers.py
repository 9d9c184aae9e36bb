"""The worker processes of a server, as the operating system shows them."""

import re
import subprocess

from tests.clients import until
from tests.servers import LiveServer, need

WORKERS = 2
# How many clients are in one channel: so many that all of them reach the same worker only once in two hundred million
# runs.
SPREAD = 30


def worker_pids(server: LiveServer) -> set[int]:
    """Return the processes that a server has started, by reading `/proc`: tests ask often."""
    children = server.proc.glob("task/*/children")
    return {int(pid) for of_thread in children for pid in of_thread.read_text().split()}


def pids_with_connections(server: LiveServer) -> set[str]:
    """Return the processes that hold client connections."""
    need("ss")
    command = ["ss", "-tnHp", "state", "established", f"sport = :{server.port}"]
    return set(re.findall(r"pid=(\d+)", subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def is_replaced(server: LiveServer, pid: int) -> bool:
    """Return whether a worker has gone and another runs in its place."""
    pids = worker_pids(server)
    return pid not in pids and len(pids) == WORKERS


async def until_replaced(server: LiveServer, pid: int, seconds: float) -> None:
    """Wait until a worker has gone and another runs in its place."""
    await until(lambda: is_replaced(server, pid), seconds)
