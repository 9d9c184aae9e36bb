"""The numbers of the workers that share one port, put together by whichever of them is asked.

Each worker has a file of its own in a directory of their supervisor's, and writes its numbers to it once a second and
whenever it is asked. Who is asked adds what is in the files of the others. A counter that went backwards would be taken
for one that began anew, so:

- what has been told is written before it is told;
- the file of a worker that died stays, and the one that takes its place goes on from its counters. So there are never
  more files than workers.

Gauges of a worker that writes no more are left out.

prometheus-client has a mode for several processes. It writes to a mapped file at every change of every number, keeps
the files of all who ever lived, and has no place for numbers that are read when they are asked for.
"""

import json
import logging
import time
from math import fsum
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger(__name__)

# The environment variable by which the supervisor tells a worker its file.
FILE_VARIABLE = "WORKER_NUMBERS_FILE"
SUFFIX = ".json"
WRITE_SECONDS = 1.0
# From what age on a file is that of a worker that is gone, or as good as gone, in seconds.
STALE_SECONDS = 5.0

# By the name of a metric, and then by the value of its label.
Numbers = dict[str, dict[str, float]]


class Snapshot(NamedTuple):
    """What one worker has to tell."""

    counters: Numbers
    """They only grow, and are added."""
    gauges: Numbers


class WorkerFile:
    """The file of this worker, and those of the others beside it."""

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: of this worker's file. What is in it is of those whose place this worker takes.
        """
        self._path = path
        self._before = _read(path).counters
        self._fails = False

    def write(self, own: Snapshot) -> Snapshot:
        """Write what this worker has to tell; return it, with what those have counted whose place it has taken."""
        snapshot = Snapshot(added(own.counters, self._before), own.gauges)
        new = self._path.with_suffix(".new")
        try:
            new.write_text(json.dumps({"written": time.monotonic(), **snapshot._asdict()}))
            new.replace(self._path)
        except OSError as error:
            if not self._fails:
                logger.error("The other workers cannot be told what this one counts: %s", error)
            self._fails = True
        else:
            self._fails = False
        return snapshot

    def others(self) -> list[Snapshot]:
        """What the other workers had to tell when they wrote last."""
        return [_read(path) for path in self._path.parent.glob(f"*{SUFFIX}") if path != self._path]


def added(*numbers: Numbers) -> Numbers:
    """Numbers of the same names and labels added up."""
    found: dict[str, dict[str, list[float]]] = {}
    for one in numbers:
        for name, values in one.items():
            labels = found.setdefault(name, {})
            for label, value in values.items():
                labels.setdefault(label, []).append(value)
    # Rounded once, since by the order in which they are added a sum could go back by a bit.
    return {name: {label: fsum(values) for label, values in labels.items()} for name, labels in found.items()}


def _read(path: Path) -> Snapshot:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return Snapshot({}, {})
    # The monotonic clock is one for all processes of a machine.
    is_fresh = time.monotonic() - content["written"] < STALE_SECONDS
    return Snapshot(content["counters"], content["gauges"] if is_fresh else {})
