"""The progress that the tasks of a run report: sent twice a second at most, and the last state always."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace
from pyoco.core.models import TaskState as EngineTaskState

from pyoco_server.model.json_text import json_safe
from pyoco_server.model.run import TaskProgress, TaskRecord
from pyoco_server.worker.runner.engine.task_record import task_here
from pyoco_server.worker.runner.output import OutputPump
from pyoco_server.worker.runner.pipe import EventPipe
from pyoco_server.worker.runner.protocol import ProgressMade

INTERVAL_SECONDS: Final = 0.5
_MESSAGE_CHARACTERS: Final = 200


class ProgressBook:
    """Takes what the tasks of one run report, from any thread.

    Args:
        run_id: The run.
        states: The states of its tasks, as they are at each moment.
        output: Sends what is due.
        events: The way to the worker.
    """

    def __init__(
        self,
        run_id: str,
        states: Mapping[str, EngineTaskState],
        output: OutputPump,
        events: EventPipe,
    ) -> None:
        self._run_id = run_id
        self._states = states
        self._output = output
        self._events = events
        # Re-entrant, for a signal handler or finalizer may report in the middle of this.
        self._lock = threading.RLock()
        self._latest: dict[str, TaskProgress] = {}
        self._news: set[str] = set()
        # Tasks that only draw it.
        self._drawn: set[str] = set()
        self._sent_at = -math.inf

    def report(self, done: float | None, total: float | None, message: str | None) -> None:
        """Take a report of the task that this thread is of; one of none is left out."""
        task = self._task()
        if task is not None:
            self._drawn.discard(task)
            self._take(task, done, total, message)

    def _take(
        self, task: str, done: float | None, total: float | None, message: str | None
    ) -> None:
        if self._output.forked:
            return
        with self._lock:
            before = self._latest.get(task) or TaskProgress(at=0.0)
            self._latest[task] = TaskProgress(
                done=_number(done, before.done),
                total=_number(total, before.total),
                message=_text(message, before.message),
                at=time.time(),
            )
            self._news.add(task)
        if self._events.held_here or self.send_due() is not None:
            self._output.announce_soon()

    def line(self, text: str) -> None:
        """Take how a line is that the task writes over and over; what it reports itself goes before it."""
        task = self._task()
        if task is not None and (task in self._drawn or task not in self._latest):
            self._drawn.add(task)
            self._take(task, None, None, text)

    def send_due(self) -> float | None:
        """Send what is to be sent by now; return in how many seconds there is more to send."""
        with self._lock:
            if not self._news:
                return None
            wait = self._sent_at + INTERVAL_SECONDS - time.monotonic()
            if wait > 0:
                return wait
            news = {task: self._latest[task] for task in self._news}
            self._news.clear()
            self._sent_at = time.monotonic()
        self._events.send(ProgressMade(run_id=self._run_id, progress=news))
        return None

    def begin(self, task: str) -> None:
        """A try of the task begins: what the one before reported is of the past."""
        if self._latest:
            with self._lock:
                self._latest.pop(task, None)
                self._news.discard(task)

    def told_in(self, task: str, record: TaskRecord) -> TaskRecord:
        """Return the record of a task with what it reported last."""
        if task not in self._latest:
            return record
        with self._lock:
            # Another try or iteration may have begun meanwhile.
            latest = self._latest.get(task)
            new = task in self._news
            self._news.discard(task)
        if latest is None:
            return record
        if new:
            made = ProgressMade(run_id=self._run_id, progress={task: latest})
            self._events.send(made, quietly=True)
        return replace(record, progress=latest)

    def _task(self) -> str | None:
        if (task := task_here()) is not None:
            return task if self._states.get(task) is EngineTaskState.RUNNING else None
        states = list(self._states.items())
        running = [name for name, state in states if state is EngineTaskState.RUNNING]
        # A thread of its own, as far as that can be told.
        return running[0] if len(running) == 1 else None


def _number(value: float | None, before: float | None) -> float | None:
    if value is None:
        return before
    number = value if type(value) is int else float(value)
    return number if abs(number) < 2**53 else None  # neither is NaN


def _text(value: object, before: str | None) -> str | None:
    return before if value is None else str(json_safe(str(value)))[:_MESSAGE_CHARACTERS]
