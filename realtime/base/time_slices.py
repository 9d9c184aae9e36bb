"""Scheduling of threads on Linux: time slices and policies."""

import contextlib
import ctypes
import os
import platform
import struct

SHORTEST_SECONDS = 0.0001
"""The shortest slice that Linux grants."""

# The number of the system call `sched_setattr`, for which C libraries have no function.
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
_RESET_ON_FORK = 1
# `struct sched_attr`: its size, the policy, flags, the nice value, a priority, the slice in ns, and two other times.
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")


def run_promptly() -> None:
    """Give the current thread the shortest time slice, on Linux 6.12 and newer.

    By default, when something wakes a thread, another one may compute on until its slice ends, some milliseconds later.
    A thread with a shorter slice preempts it, unless it has used more than its share of the core. Threads that are
    started later have ordinary slices. The sources are sched_setattr(2) and Linux' documentation of EEVDF, its
    scheduler.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None or platform.system() != "Linux":
        return
    try:
        policy, nice = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK, os.getpriority(os.PRIO_PROCESS, 0)
    except OSError:  # musl does not implement it, and sandboxes may refuse it
        return
    # Another policy or priority is the decision of the operator. Threads would not inherit a negative nice value.
    if policy != os.SCHED_OTHER or nice < 0:
        return
    slice_ns = round(SHORTEST_SECONDS * 1e9)
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, _RESET_ON_FORK, nice, 0, slice_ns, 0, 0)
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)  # older versions ignore the slice


def run_patiently() -> None:
    """Never let the current thread preempt another one just because something has woken it.

    A thread that waits for a database would otherwise do this after each answer, often in the middle of the event
    loop's work. It keeps its share of the core. The source is sched(7), *SCHED_BATCH*.
    """
    with contextlib.suppress(AttributeError, OSError):  # not Linux, musl, or a sandbox that refuses it
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
