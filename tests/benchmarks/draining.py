"""Waits until a queue is empty, and tells how fast and with how much work it became so."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from benchmarks.processes import processor_ms
from e2e.programs import wait_for

_STALLED_SECONDS: Final = 10.0
"""So long nothing ended, of runs that take milliseconds: nothing will."""
_STARTED_SHARE: Final = 0.1
"""What has ended before it is measured, so that the start of the workers is not part of it."""


def drained(
    left: Callable[[], int], total: int, processes: Mapping[str, Sequence[int]]
) -> tuple[dict[str, float], str | None]:
    """Measure the rest of a queue whose workers have just been started.

    Args:
        left: How many jobs have not ended.
        total: How many there were.
        processes: By row, those whose work counts, their children with them.

    Returns:
        ``rate`` in jobs a second and the work a job of each process in milliseconds, or what kept the queue
        from being empty.
    """
    most = int(total * (1 - _STARTED_SHARE))
    wait_for(lambda: left() < total, within=60, what="the first end of a job")
    now, found = _wait(left, most, pause=0.02)
    if found > most:
        return {}, f"hangs with {found:,} of {total:,} left"
    began, first, work = now, found, _work(processes)
    now, found = _wait(left, 0, pause=0.1)
    if found:
        return {}, f"hangs with {found:,} of {total:,} left"
    each = {row: (after - work[row]) / first for row, after in _work(processes).items()}
    return {"rate": first / (now - began), **each}, None


def _work(processes: Mapping[str, Sequence[int]]) -> dict[str, float]:
    return {row: processor_ms(*pids) for row, pids in processes.items()}


def _wait(left: Callable[[], int], most: int, pause: float) -> tuple[float, int]:
    """Wait until no more are left, or none has ended for long; return when that was, and how many are left.

    It looks seldom, because to look is work for what is measured, and more often towards the end.
    """
    found, moved = left(), time.perf_counter()
    seen = began = moved
    first = found
    while found > most and seen < moved + _STALLED_SECONDS:
        rate = (first - found) / (seen - began) if first > found else 0
        time.sleep(min(pause, max(0.002, (found - most) / rate / 2)) if rate else pause)
        seen, now = time.perf_counter(), left()
        if now != found:
            found, moved = now, seen
    return seen, found
