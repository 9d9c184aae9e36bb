"""What the workers on one port tell each other."""

import json
import logging
import time
from pathlib import Path

import pytest

from realtime.metrics.across_workers import STALE_SECONDS, Snapshot, WorkerFile, added


def counted(number: float, gauge: float = 0) -> Snapshot:
    return Snapshot({"closes": {"1012": number}}, {"connections": {"": gauge}})


def test_each_reads_what_the_others_have_written(tmp_path: Path) -> None:
    first, second, third = (WorkerFile(tmp_path / f"{number}.json") for number in range(3))
    first.write(counted(1, 5))
    first.write(counted(2, 4))
    second.write(counted(10, 40))
    assert sorted(third.others(), key=str) == [counted(10, 40), counted(2, 4)]
    assert first.others() == [counted(10, 40)]


def test_one_that_takes_the_place_of_another_goes_on_from_its_counters_and_not_its_gauges(tmp_path: Path) -> None:
    path = tmp_path / "0.json"
    for _ in range(3):
        worker = WorkerFile(path)
        worker.write(counted(1, 5))
        written = worker.write(counted(2, 5))
    assert written == counted(6, 5)
    assert WorkerFile(tmp_path / "1.json").others() == [counted(6, 5)]


def test_of_one_that_writes_no_more_the_counters_stay(tmp_path: Path) -> None:
    path = tmp_path / "0.json"
    WorkerFile(path).write(counted(3, 5))
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "written": time.monotonic() - STALE_SECONDS}))
    assert WorkerFile(tmp_path / "1.json").others() == [Snapshot(counted(3).counters, {})]


def test_labels_that_one_alone_has_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "0.json"
    WorkerFile(path).write(counted(3))
    written = WorkerFile(path).write(Snapshot({"closes": {"4100": 1}, "opened": {"": 2}}, {}))
    assert written.counters == {"closes": {"4100": 1, "1012": 3}, "opened": {"": 2}}


def test_a_disk_that_takes_nothing_is_told_once_and_disturbs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = WorkerFile(tmp_path / "missing" / "0.json")
    with caplog.at_level(logging.ERROR):
        assert [worker.write(counted(number)) for number in range(3)] == [counted(number) for number in range(3)]
    assert len(caplog.records) == 1
    assert worker.others() == []


def test_a_sum_is_the_same_in_whatever_order() -> None:
    numbers = [counted(seconds).counters for seconds in (0.1, 0.2, 0.3)]
    assert added(*numbers) == added(*reversed(numbers))
