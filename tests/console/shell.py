"""Python on a running server, in one process for many calls: to start Django takes longer than most tests."""

import json
import subprocess
import sys
import threading

from tests.servers import PROJECT

# Runs what it reads, a JSON string a line, and answers with the output, or with the traceback.
LOOP = """
import contextlib, io, json, sys, traceback
for line in sys.stdin:
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            exec(json.loads(line), {})
        answer = [output.getvalue(), ""]
    except BaseException:
        answer = ["", traceback.format_exc()]
    print(json.dumps(answer), flush=True)
"""


class Shell:
    """A process of `manage.py shell` that runs until it is closed."""

    def __init__(self, env: dict[str, str]) -> None:
        command = [sys.executable, "manage.py", "shell", "-v", "0", "-c", LOOP]
        self._process = subprocess.Popen(
            command, cwd=PROJECT, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._lock = threading.Lock()

    def run(self, code: str) -> str:
        """Run Python and return what it prints.

        Raises:
            AssertionError: the code raised an exception; the message is its traceback.
        """
        assert self._process.stdin
        assert self._process.stdout
        with self._lock:
            print(json.dumps(code), file=self._process.stdin, flush=True)
            output, error = json.loads(self._process.stdout.readline())
        assert not error, error
        return str(output)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
