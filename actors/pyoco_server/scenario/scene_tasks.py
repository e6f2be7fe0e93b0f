"""The tasks of the flows that every scenario knows; copied beside it as the module ``scene_tasks``.

Each execution writes a line at its start and at its end, so that the history shows what really ran.
It imports nothing of pyoco-server, because other versions of it play too. Workers of this version find
flows of one such task by its name here (`resolve`).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyoco.core.models import Flow
from pyoco.dsl.syntax import task

_JOURNAL = Path(__file__).parents[1] / "journal.jsonl"


@contextmanager
def _noted(name: str) -> Iterator[None]:
    note = {
        "run_id": os.environ.get("PYOCO_RUN_ID", ""),
        "attempt": int(os.environ.get("PYOCO_RUN_ATTEMPT", "0")),
        "pid": os.getpid(),
        "task": name,
    }
    _write(note | {"started": time.time()})
    try:
        yield
    finally:
        _write(note | {"ended": time.time()})


def _write(note: dict[str, Any]) -> None:
    # One write of a short line: appends of several processes do not mix.
    with _JOURNAL.open("ab", buffering=0) as journal:
        journal.write(json.dumps(note).encode() + b"\n")


def resolve(name: str) -> Flow:
    """The flow of one task that has the flow's name."""
    flow: Flow = Flow(name=name) >> _TASKS[name]
    return flow


def quick(x: int = 1) -> int:
    """Return the next number at once."""
    with _noted("quick"):
        return x + 1


def slow(ctx: Any, seconds: float = 1.0) -> str:
    """Take a while; end early when the run is cancelled."""
    with _noted("slow"):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not getattr(ctx, "is_cancelled", False):
            time.sleep(0.02)
        return "slept"


def stubborn(seconds: float = 60.0) -> str:
    """Take a while, whatever is asked meanwhile."""
    with _noted("stubborn"):
        time.sleep(seconds)
        return "slept"


def failing() -> None:
    """Raise an error."""
    with _noted("failing"):
        raise ValueError("this flow always fails")


def crashing() -> None:
    """End the process as a fault in native code would."""
    with _noted("crashing"):
        os.abort()


def printing(lines: int = 100) -> int:
    """Print lines."""
    with _noted("printing"):
        for number in range(lines):
            print(f"line {number}")  # noqa: T201 - what this task is for
        return lines


def replayed(ctx: Any, replayed_plan: list[list[Any]]) -> str:
    """Do in each attempt what a recorded run did: so many seconds, and then its end."""
    with _noted("replayed"):
        attempt = int(os.environ.get("PYOCO_RUN_ATTEMPT", "1"))
        seconds, ends = replayed_plan[min(max(attempt, 1), len(replayed_plan)) - 1]
        end = time.monotonic() + (120.0 if ends == "wait" else seconds)
        while time.monotonic() < end and not getattr(ctx, "is_cancelled", False):
            time.sleep(0.01)
        if ends == "raise":
            raise ValueError("as recorded, this run fails")
        if ends == "crash":
            os.abort()
        return "replayed"


_TASKS = {
    each.__name__: task(each) for each in (quick, slow, stubborn, failing, crashing, printing)
}
