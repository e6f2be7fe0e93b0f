"""What a run keeps of a task while it is executed: the engine's record, and what the engine has none for."""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from pyoco.core.models import TaskRecord as EngineRecord

from pyoco_server.model.run import IterationRecord, TryRecord

MAX_TRIES: Final = 20
MAX_ITERATIONS: Final = 50


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


TASK: ContextVar[tuple[str, LiveRecord] | None] = ContextVar("pyoco_task", default=None)
"""The name and record of the task whose code this is: on a thread, an event loop, or in its own process."""
