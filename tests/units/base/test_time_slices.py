import ctypes
import os
import platform
import re
import struct
import threading
from collections.abc import Callable

import pytest

from realtime.base.time_slices import SHORTEST_SECONDS, run_patiently, run_promptly

SCHED_GETATTR = {"x86_64": 315, "aarch64": 275, "riscv64": 275}
RELEASE = re.match(r"(\d+)\.(\d+)", platform.release())
HAS_SLICES = (
    platform.system() == "Linux"
    and platform.machine() in SCHED_GETATTR
    and platform.libc_ver()[0] == "glibc"
    and RELEASE is not None
    and (int(RELEASE[1]), int(RELEASE[2])) >= (6, 12)
)

pytestmark = pytest.mark.skipif(not HAS_SLICES, reason="This needs Linux 6.12 or newer, and glibc.")


def slice_seconds() -> float:
    attributes = ctypes.create_string_buffer(48)
    assert ctypes.CDLL(None).syscall(SCHED_GETATTR[platform.machine()], 0, attributes, 48, 0) == 0
    *_, runtime_ns, _, _ = struct.unpack("=IIQiIQQQ", attributes.raw)
    return float(runtime_ns) / 1e9


def in_a_thread(function: Callable[[], None]) -> None:
    """Run a function in a thread with the default policy, so that nothing changes for other tests."""

    def run() -> None:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        function()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def test_a_thread_that_runs_promptly_has_the_shortest_slice_and_the_same_priority() -> None:
    nice = min(max(os.getpriority(os.PRIO_PROCESS, 0), 0) + 3, 19)
    found = []

    def measure() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        for _ in range(2):
            run_promptly()
            found.append((slice_seconds(), os.getpriority(os.PRIO_PROCESS, 0)))

    in_a_thread(measure)
    assert found == [(SHORTEST_SECONDS, nice)] * 2


def test_threads_started_by_it_have_ordinary_slices() -> None:
    found = []

    def measure() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), 0))
        ordinary = slice_seconds()
        run_promptly()
        later = threading.Thread(target=lambda: found.append(slice_seconds()))
        later.start()
        later.join()
        found.extend((slice_seconds(), ordinary))

    in_a_thread(measure)
    later, own, ordinary = found
    assert own == SHORTEST_SECONDS
    assert later == ordinary > SHORTEST_SECONDS


def test_a_thread_keeps_the_policy_that_the_operator_has_chosen() -> None:
    found = []

    def measure() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        ordinary = slice_seconds()
        run_promptly()
        found.extend((os.sched_getscheduler(0), slice_seconds() == ordinary))

    in_a_thread(measure)
    assert found == [os.SCHED_BATCH, True]


def test_a_thread_that_runs_patiently_keeps_its_priority_and_what_the_operator_has_chosen() -> None:
    found = []

    def measure() -> None:
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        run_patiently()
        found.append((os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0) == nice))
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        run_patiently()
        found.append((os.sched_getscheduler(0), True))

    in_a_thread(measure)
    assert found == [(os.SCHED_BATCH, True), (os.SCHED_IDLE, True)]


def test_a_system_that_does_not_tell_the_policy_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(process: int) -> int:
        raise OSError(38, "Function not implemented")

    found = []

    def measure() -> None:
        ordinary = slice_seconds()
        monkeypatch.setattr(os, "sched_getscheduler", refuse)
        run_promptly()
        run_patiently()
        found.append(slice_seconds() == ordinary)

    in_a_thread(measure)
    assert found == [True]
