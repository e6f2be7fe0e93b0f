"""What processes have used so far, as the system knows it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from e2e.programs import descendants

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def processor_ms(*pids: int, family: bool = True) -> float:
    """Processor time since their start, in milliseconds; with ``family`` that of their children as well."""
    ticks = 0
    for pid in pids:
        for each in {pid} | (descendants(pid) if family else set()):
            stat = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, stat[11:15] if family else stat[11:13]))
    return ticks / _TICKS * 1000


def memory_mib(pid: int, *, family: bool = False, of: str = "VmRSS") -> float:
    """The resident memory of a process; with ``family`` that of its children as well, each by itself.

    Args:
        pid: Whose.
        family: Whether its children count.
        of: The field of its status: ``VmHWM`` for the most that it ever was.
    """
    total = 0
    for each in {pid} | (descendants(pid) if family else set()):
        for line in Path(f"/proc/{each}/status").read_text().splitlines():
            if line.startswith(f"{of}:"):
                total += int(line.split()[1])
    assert total, f"no memory of process {pid}"
    return total / 1024
