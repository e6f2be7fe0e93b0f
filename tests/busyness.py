"""Times of tests beside how busy the machine is with other things."""

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
