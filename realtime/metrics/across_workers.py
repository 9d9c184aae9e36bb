"""Combines the metrics of workers that share a port, so that any of them can answer for all.

Each worker writes its metrics to a file in a directory of their supervisor, once a second and for each scrape. A worker
that is scraped adds the metrics from the files of the others. Prometheus would interpret a counter that decreases as a
restart, therefore:

- a worker writes its metrics before it reports them;
- the file of a worker that died is kept, and its replacement continues its counters. There are never more files than
  workers.

The gauges of a worker that has stopped writing are ignored.

The multiprocess mode of prometheus-client is not used. It writes to a mapped file on each change of each metric, keeps
the files of all workers that ever ran, and does not support metrics that are read only when they are scraped.
"""

import json
import logging
import time
from math import fsum
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger(__name__)

# The environment variable in which the supervisor passes a worker the path of its file.
FILE_VARIABLE = "WORKER_NUMBERS_FILE"
SUFFIX = ".json"
WRITE_SECONDS = 1.0
# From which age on a file belongs to a worker that is gone or does not respond, in seconds.
STALE_SECONDS = 5.0

# The values of metrics, by name of the metric and then by value of its label.
Numbers = dict[str, dict[str, float]]


class Snapshot(NamedTuple):
    """The metrics of one worker at one moment."""

    counters: Numbers
    """Values that only grow; those of several workers are added."""
    gauges: Numbers


class WorkerFile:
    """The file of this worker, beside the files of the other workers."""

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: the file of this worker. It may contain counters of the workers that this one replaces.
        """
        self._path = path
        self._inherited = _read(path).counters
        self._write_failed = False

    def write(self, own: Snapshot) -> Snapshot:
        """Write the metrics of this worker; return them with the counters of the workers that it replaces."""
        snapshot = Snapshot(add_up(own.counters, self._inherited), own.gauges)
        new = self._path.with_suffix(".new")
        try:
            new.write_text(json.dumps({"written": time.monotonic(), **snapshot._asdict()}))
            new.replace(self._path)
        except OSError as error:
            if not self._write_failed:
                logger.error("Cannot share the metrics of this worker with the others: %s", error)
            self._write_failed = True
        else:
            self._write_failed = False
        return snapshot

    def read_others(self) -> list[Snapshot]:
        """Return the metrics that the other workers have written last."""
        return [_read(path) for path in self._path.parent.glob(f"*{SUFFIX}") if path != self._path]


def add_up(*numbers: Numbers) -> Numbers:
    """Return the sums of values with the same name and label."""
    found: dict[str, dict[str, list[float]]] = {}
    for worker_numbers in numbers:
        for name, values in worker_numbers.items():
            labels = found.setdefault(name, {})
            for label, value in values.items():
                labels.setdefault(label, []).append(value)
    # Round only once: otherwise a sum would depend on the order of its terms, and could decrease slightly.
    return {name: {label: fsum(values) for label, values in labels.items()} for name, labels in found.items()}


def _read(path: Path) -> Snapshot:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return Snapshot({}, {})
    # All processes of a machine share the monotonic clock.
    is_fresh = time.monotonic() - content["written"] < STALE_SECONDS
    return Snapshot(content["counters"], content["gauges"] if is_fresh else {})
