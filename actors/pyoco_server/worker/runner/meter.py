"""What runs take of their machine: processor time and memory."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage, struct_rusage
from typing import Final

from pyoco_server.model.run import Usage

KIB: Final = 1024
"""The unit of ``ru_maxrss`` of getrusage(2)."""

# To /proc/<pid>/clear_refs: forget the peak, which getrusage tells of as well (proc(5)).
_FORGET_PEAK: Final = b"5"
# More than is lost of each time where it is rounded, and far less than any process takes.
_ROUNDING_SEC: Final = 1e-5


class Meter:
    """Measures this process from one end of a run to the next, with what it started and waited for.

    Attributes:
        cpu_sec: All processor time up to the last reading, in seconds.
    """

    def __init__(self) -> None:
        self.cpu_sec = self._cpu_sec_of_children = 0.0
        self._peak_kib = self._peak_kib_of_children = 0
        self._copies: list[struct_rusage] = []
        self._clear: int | None = None
        with suppress(OSError):  # not every kernel has it
            self._clear = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        self.read()

    def note(self, copy: struct_rusage) -> None:
        """Take in what a child took that was waited for by itself; from any thread."""
        self._copies.append(copy)

    def read(self) -> Usage:
        """Return what was taken since it was read before."""
        own, others = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
        copies, self._copies = self._copies, []
        cpu_sec_of_children = _cpu_sec(others)
        untold = cpu_sec_of_children - self._cpu_sec_of_children - sum(map(_cpu_sec, copies))
        # What has not grown is not of this run, but where the peak was forgotten.
        peaks = [own.ru_maxrss] if self._clear is not None or own.ru_maxrss > self._peak_kib else []
        peaks += [copy.ru_maxrss for copy in copies]
        if others.ru_maxrss > self._peak_kib_of_children:
            peaks.append(others.ru_maxrss)
        elif untold > _ROUNDING_SEC * (len(copies) + 1) and others.ru_maxrss > max(
            peaks, default=0
        ):
            # There were others; how much they had is not known, up to what those of earlier runs had.
            peaks.clear()
        self._peak_kib, self._peak_kib_of_children = own.ru_maxrss, others.ru_maxrss
        cpu_sec = _cpu_sec(own) + cpu_sec_of_children
        taken = round(cpu_sec - self.cpu_sec, 6)
        self.cpu_sec, self._cpu_sec_of_children = cpu_sec, cpu_sec_of_children
        return Usage(peak_memory_bytes=max(peaks) * KIB if peaks else None, cpu_sec=taken)

    def forget_peak(self) -> None:
        """Have the next run have a peak of its own."""
        if self._clear is not None:
            os.pwrite(self._clear, _FORGET_PEAK, 0)


def _cpu_sec(taken: struct_rusage) -> float:
    return taken.ru_utime + taken.ru_stime


def oom_kills() -> int:
    """How many processes of this machine the kernel has killed since its start for want of memory.

    Those of memory cgroups are among them (``oom_kill`` of /proc/vmstat, since Linux 4.13). 0 where it
    does not tell.
    """
    with suppress(OSError, ValueError):
        text = Path("/proc/vmstat").read_bytes()
        return int(text.partition(b"\noom_kill ")[2].split(None, 1)[0] or 0)
    return 0


_TICK_SECONDS: Final = 1 / os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def cpu_sec_of(pids: set[int]) -> float:
    """Return the processor time of these processes and of those that they have waited for, in seconds.

    Raises:
        OSError: Nothing can be seen now, for want of a descriptor.
    """
    ticks = 0
    for pid in pids:
        # It has ended, or is another user's that hides it.
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # from utime to cstime
    return ticks * _TICK_SECONDS


def memory_of(pids: set[int], enough: int) -> int:
    """Return how many bytes of memory these processes have together.

    What they share counts for each of them, unless that makes more than ``enough`` and the kernel tells of
    their shares: to find these takes it a millisecond for each 100 MB.
    """
    resident = {pid: _resident(pid) for pid in pids}
    if len(pids) > 1 and sum(resident.values()) > enough:
        return sum(_share(pid, most) for pid, most in resident.items())
    return sum(resident.values())


def _resident(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
    return 0


def _share(pid: int, otherwise: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines()
    except OSError:
        # Another user's process, or a kernel that does not tell; or it has ended since it was looked at.
        return min(otherwise, _resident(pid))
    return sum(int(line.split()[1]) * KIB for line in lines if line.startswith(b"Pss:"))
