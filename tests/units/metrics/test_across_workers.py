"""How the workers on one port share their metrics."""

import json
import logging
import time
from pathlib import Path

import pytest

from realtime.metrics.across_workers import STALE_SECONDS, Snapshot, WorkerFile, added


def snapshot(number: float, gauge: float = 0) -> Snapshot:
    return Snapshot({"closes": {"1012": number}}, {"connections": {"": gauge}})


def test_each_worker_reads_what_the_others_have_written(tmp_path: Path) -> None:
    first, second, third = (WorkerFile(tmp_path / f"{number}.json") for number in range(3))
    first.write(snapshot(1, 5))
    first.write(snapshot(2, 4))
    second.write(snapshot(10, 40))
    assert sorted(third.others(), key=str) == [snapshot(10, 40), snapshot(2, 4)]
    assert first.others() == [snapshot(10, 40)]


def test_a_replacement_worker_continues_the_counters_but_not_the_gauges(tmp_path: Path) -> None:
    path = tmp_path / "0.json"
    for _ in range(3):
        worker = WorkerFile(path)
        worker.write(snapshot(1, 5))
        written = worker.write(snapshot(2, 5))
    assert written == snapshot(6, 5)
    assert WorkerFile(tmp_path / "1.json").others() == [snapshot(6, 5)]


def test_a_worker_that_stops_writing_keeps_its_counters_but_not_its_gauges(tmp_path: Path) -> None:
    path = tmp_path / "0.json"
    WorkerFile(path).write(snapshot(3, 5))
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "written": time.monotonic() - STALE_SECONDS}))
    assert WorkerFile(tmp_path / "1.json").others() == [Snapshot(snapshot(3).counters, {})]


def test_labels_of_only_one_snapshot_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "0.json"
    WorkerFile(path).write(snapshot(3))
    written = WorkerFile(path).write(Snapshot({"closes": {"4100": 1}, "opened": {"": 2}}, {}))
    assert written.counters == {"closes": {"4100": 1, "1012": 3}, "opened": {"": 2}}


def test_a_file_that_cannot_be_written_is_logged_once_and_disturbs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = WorkerFile(tmp_path / "missing" / "0.json")
    with caplog.at_level(logging.ERROR):
        assert [worker.write(snapshot(number)) for number in range(3)] == [snapshot(number) for number in range(3)]
    assert len(caplog.records) == 1
    assert worker.others() == []


def test_a_sum_does_not_depend_on_the_order() -> None:
    numbers = [snapshot(seconds).counters for seconds in (0.1, 0.2, 0.3)]
    assert added(*numbers) == added(*reversed(numbers))
