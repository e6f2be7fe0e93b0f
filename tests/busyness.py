"""Times of tests beside how busy, and how fast, the machine is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


def busyness() -> float:
    """How many times as long as alone something takes now: the clock's time of some processor time."""
    began, used = time.perf_counter(), time.thread_time()
    while time.thread_time() < used + 0.05:
        pass
    return (time.perf_counter() - began) / (time.thread_time() - used)


def best(measure: Callable[[], float], bound: float) -> float:
    """The best of some measures, each by how busy the machine was; one within the bound is enough."""
    found = math.inf
    for _ in range(15):
        before = busyness()
        measured = measure()
        found = min(found, measured / max(1.0, min(before, busyness())))
        if found <= bound:
            break
    return found


def assert_cheap(work: Callable[[], object], most: float = 100) -> None:
    """Fail where `work` takes more than `most` times a fixed piece of work beside it (of about 0.01 s).

    The better of three tries counts, each in processor time: what else the machine does only ever adds.
    """
    found = math.inf
    for _ in range(3):
        taken, beside = _taken(work), _taken(lambda: sum(map(len, map(str, range(100_000)))))
        found = min(found, taken / beside)
        if found <= most:
            return
    raise AssertionError(
        f"it takes {found:.0f} times the fixed piece of work, at most {most} are right"
    )


def _taken(work: Callable[[], object]) -> float:
    """Processor time of a piece of work, in seconds."""
    began = time.thread_time()
    work()
    return time.thread_time() - began
