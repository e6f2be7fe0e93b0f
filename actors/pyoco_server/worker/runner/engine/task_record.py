"""What a run keeps of a task while it is executed: the engine's record, and what the engine has none for."""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from pyoco.core.models import TaskRecord as EngineRecord
from pyoco.core.models import TaskState

from pyoco_server.model.run import IterationRecord, TryRecord, shrink_error

MAX_TRIES: Final = 20
MAX_ITERATIONS: Final = 50
_ERROR_BYTES: Final = 300


@dataclass
class LiveRecord(EngineRecord):
    """The record of a task.

    Attributes:
        tries: Its last tries, where it may have more than one.
        iterations: Its last times in a loop.
        iteration_counts: How many of them ended in each state.
        skipped: Whether it will not be executed.
    """

    tries: deque[TryRecord] | None = None
    iterations: tuple[IterationRecord, ...] = ()
    iteration_counts: dict[str, int] = field(default_factory=dict)
    skipped: bool = False

    def end(self, at: float) -> None:
        """Note when it ended, so far, and how long it took; in unix seconds."""
        self.ended_at = at
        self.duration_ms = (at - (self.started_at or 0.0)) * 1000

    def note_try(self, number: int, began: float, error: str | None) -> TryRecord:
        """Note and return a try that has ended when the task did, so far."""
        if self.tries is None:
            self.tries = deque(maxlen=MAX_TRIES)
        shown = None if error is None else shrink_error(error, _ERROR_BYTES)
        noted = TryRecord(number=number, started_at=began, ended_at=self.ended_at, error=shown)
        self.tries.append(noted)
        return noted


TASK: ContextVar[tuple[str, LiveRecord] | None] = ContextVar("pyoco_task", default=None)
"""The name and record of the task whose code this is: on a thread, an event loop, or in its own process.

A thread that a task starts is none of it; what an event loop does for it is.
"""


def task_here() -> str | None:
    """Return the name of the task whose code this is."""
    task = TASK.get()
    return None if task is None else task[0]


class IterationBook:
    """What is kept of a task's times in loops.

    Attributes:
        running: How many of them go on.
    """

    def __init__(self) -> None:
        self.running = 0
        self._last: deque[IterationRecord] = deque(maxlen=MAX_ITERATIONS)
        self._counts: dict[str, int] = {}
        self._failed: tuple[str | None, str | None] = None, None

    def note(self, record: LiveRecord, path: str) -> None:
        """Take one in, and have its record tell of all so far.

        The worst state of them is the task's, and the last error.
        """
        state = record.state.value
        if record.state is TaskState.FAILED:
            self._failed = record.error, record.traceback
        self._counts[state] = self._counts.get(state, 0) + 1
        self._last.append(
            IterationRecord(
                path=path,
                state=state,
                started_at=record.started_at,
                ended_at=record.ended_at,
                error=None if record.error is None else shrink_error(record.error, _ERROR_BYTES),
            )
        )
        self.show(record)
        if record.error is None:
            record.error, record.traceback = self._failed
        for worst in (TaskState.CANCELLED, TaskState.FAILED):
            if worst.value in self._counts:
                record.state = worst
                break

    def show(self, record: LiveRecord) -> None:
        """Have a record tell of all so far."""
        record.iterations, record.iteration_counts = tuple(self._last), dict(self._counts)
