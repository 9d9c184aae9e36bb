import ctypes
import os
import platform
import struct
import threading
from collections.abc import Callable

import pytest

from realtime.base.time_slices import SHORTEST_SECONDS, run_promptly

SCHED_GETATTR = {"x86_64": 315, "aarch64": 275, "riscv64": 275}
RELEASE = tuple(int(part) for part in platform.release().split(".")[:2])

pytestmark = pytest.mark.skipif(
    RELEASE < (6, 12) or platform.machine() not in SCHED_GETATTR, reason="needs slices that a thread may choose"
)


def slice_seconds() -> float:
    attributes = ctypes.create_string_buffer(48)
    assert ctypes.CDLL(None).syscall(SCHED_GETATTR[platform.machine()], 0, attributes, 48, 0) == 0
    *_, runtime_ns, _, _ = struct.unpack("=IIQiIQQQ", attributes.raw)
    return float(runtime_ns) / 1e9


def in_a_thread(function: Callable[[], None]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def test_a_thread_that_runs_promptly_has_the_shortest_slice_and_the_same_priority() -> None:
    found = []

    def measure() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, 3)
        run_promptly()
        found.extend((slice_seconds(), os.getpriority(os.PRIO_PROCESS, 0)))

    in_a_thread(measure)
    assert found == [SHORTEST_SECONDS, 3]


def test_threads_started_by_it_have_ordinary_slices() -> None:
    found = []

    def measure() -> None:
        ordinary = slice_seconds()
        run_promptly()
        in_a_thread(lambda: found.append(slice_seconds() == ordinary))

    in_a_thread(measure)
    assert found == [True]


def test_a_thread_keeps_the_policy_that_the_operator_has_chosen() -> None:
    found = []

    def measure() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        ordinary = slice_seconds()
        run_promptly()
        found.extend((os.sched_getscheduler(0), slice_seconds() == ordinary))

    in_a_thread(measure)
    assert found == [os.SCHED_BATCH, True]
