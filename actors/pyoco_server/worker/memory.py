"""What the kernel says of memory that ran out."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def oom_kills() -> int:
    """How many processes of this machine the kernel has killed since its start for want of memory.

    Those of memory cgroups are among them (``oom_kill`` of /proc/vmstat, since Linux 4.13). 0 where it
    does not tell.
    """
    with suppress(OSError, ValueError):
        text = Path("/proc/vmstat").read_bytes()
        return int(text.partition(b"\noom_kill ")[2].split(None, 1)[0] or 0)
    return 0
