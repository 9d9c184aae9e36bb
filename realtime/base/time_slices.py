"""Time slices of the scheduler of Linux."""

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
    """Have the current thread run as soon as something wakes it, on Linux 6.12 and newer.

    By default, another thread on this core may compute on until its slice ends, which takes milliseconds. A thread with
    a shorter slice preempts it, and gets no more time in all. Threads that are started later have ordinary slices. The
    source is sched_setattr(2).
    """
    number = _SCHED_SETATTR.get(platform.machine())
    # Another policy is the decision of the operator.
    if number is None or platform.system() != "Linux" or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    slice_ns = round(SHORTEST_SECONDS * 1e9)
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, _RESET_ON_FORK, nice, 0, slice_ns, 0, 0)
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)  # older versions ignore the slice, and sandboxes may refuse
