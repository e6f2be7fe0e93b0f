"""One task of a run: its tries by its policy, and what its record says of them."""

from __future__ import annotations

import functools
import random
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Final

from pyoco.core.context import Context
from pyoco.core.models import RunContext, RunStatus, Task, TaskState

from pyoco_server.model.flow.task_policy import ENGINE_BACKOFF, TaskPolicy
from pyoco_server.model.run import IterationRecord, TryRecord, shrink_error
from pyoco_server.worker.runner.engine.arguments import bind, save_outputs
from pyoco_server.worker.runner.engine.calls import Calls
from pyoco_server.worker.runner.engine.cancel_signal import CancelSignal
from pyoco_server.worker.runner.engine.failure import Failure, TaskCancelled, failure_of
from pyoco_server.worker.runner.engine.policies import policy_of
from pyoco_server.worker.runner.engine.task_record import (
    MAX_ITERATIONS,
    MAX_TRIES,
    TASK,
    LiveRecord,
)

_ERROR_BYTES: Final = 300
# A wait that is shorter is over before anybody could read of it.
_TOLD_SECONDS: Final = 0.5


class TaskObserver(ABC):
    """Who is told; by the threads that execute the tasks."""

    @abstractmethod
    def flow_started(self) -> None:
        """The flow's tasks are known."""

    @abstractmethod
    def executing(self, name: str) -> AbstractContextManager[None]:
        """Surround all tries of a task."""

    @abstractmethod
    def task_running(self, name: str, record: LiveRecord) -> None:
        """A try of the task begins or has failed, with what is known so far."""

    @abstractmethod
    def task_ended(self, name: str, record: LiveRecord) -> None:
        """The task's record has its final values."""

    @abstractmethod
    def task_skipped(self, name: str, record: LiveRecord) -> None:
        """The task will not be executed."""


class RunCancelled(Exception):
    """The run was cancelled; nothing further is started."""


class Tasks:
    """Executes tasks of one run and keeps their states and records in its engine's `RunContext`.

    Args:
        run: The run.
        observer: Is told.
        stopping: Ends waits when the run is cancelled.
        calls: Calls their functions.
        clock: The time, in unix seconds.
    """

    def __init__(
        self,
        run: RunContext,
        observer: TaskObserver,
        stopping: CancelSignal,
        calls: Calls,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._run = run
        self._observer = observer
        self._stopping = stopping
        self._calls = calls
        self._clock = clock
        # What is kept of loops, by the names of tasks; iterations may end at the same time.
        self._lock = threading.Lock()
        self._loops: dict[str, _Iterations] = {}

    @property
    def cancelled(self) -> bool:
        """Whether nothing further is to be started."""
        return self._run.status in {RunStatus.CANCELLING, RunStatus.CANCELLED}

    def execute(self, task: Task, context: Context) -> bool:
        """Execute a task; return whether it succeeded. Where it is `cancelled` meanwhile, it may have not.

        Raises:
            Exception: It failed, and its failure ends the run.
        """
        policy = policy_of(task)
        loop = context.loop
        record = LiveRecord(state=TaskState.RUNNING, started_at=self._clock())
        self._run.tasks[task.name] = TaskState.RUNNING
        self._run.task_records[task.name] = record
        _tell_artifacts_apart(context)
        in_hand = TASK.set((task.name, record))
        try:
            with self._observer.executing(task.name):
                error = self._tries(task, policy, context, record)
                succeeded = record.state is TaskState.SUCCEEDED
                with self._lock:
                    if loop is not None:
                        kept = self._loops.setdefault(task.name, _Iterations())
                        kept.note(record, loop.path or "")
                    elif task.name in self._loops:
                        self._loops[task.name].show(record)
                    self._run.task_records[task.name] = record
                    self._run.tasks[task.name] = record.state
                self._observer.task_ended(task.name, record)
        finally:
            TASK.reset(in_hand)
        if error is not None and policy.on_failure != "isolate":
            raise error
        return succeeded

    def give_output(self, name: str, output: object) -> None:
        """Have the record of a task show what its iterations returned together."""
        record = self._run.ensure_task_record(name)
        if record.output is not output and isinstance(record, LiveRecord):
            self._run.task_records[name] = given = replace(record, output=output)
            self._observer.task_ended(name, given)

    def skip(self, task: Task) -> None:
        """Note that a task will not be executed, unless it was."""
        record = self._run.ensure_task_record(task.name)
        if self._run.tasks.get(task.name) is TaskState.PENDING and isinstance(record, LiveRecord):
            record.skipped = True
            self._observer.task_skipped(task.name, record)

    def _tries(
        self, task: Task, policy: TaskPolicy, context: Context, record: LiveRecord
    ) -> BaseException | None:
        """Try a task until it succeeds, or may be tried no more; return the last error."""
        started_at = record.started_at or 0.0
        number = 1
        while True:
            began = self._clock() if number > 1 else started_at
            if self.cancelled and number > 1:
                self._cancel(record)
                return None
            error: BaseException | None = None
            output: Any = None
            try:
                output = self._once(task, policy, context, record)
            except TaskCancelled:
                self._cancel(record)
                return None
            except Exception as caught:  # noqa: BLE001 - user code may raise anything
                error = caught
            failure = None if error is None else failure_of(error)
            record.ended_at = self._clock()
            record.duration_ms = (record.ended_at - started_at) * 1000
            if number > 1 or policy.retries:
                _note_try(record, number, began, record.ended_at, failure)
            if failure is None:
                record.state, record.output = TaskState.SUCCEEDED, output
                record.error = record.traceback = None
                return None
            record.error, record.traceback = failure.text, failure.traceback
            if not policy.next_try(number, failure.kinds):
                record.state = TaskState.FAILED
                return error
            del error
            if self._wait(task, policy, record, number, failure):
                self._cancel(record)
                return None
            number += 1

    def _once(self, task: Task, policy: TaskPolicy, context: Context, record: LiveRecord) -> Any:
        arguments = bind(task, context)
        record.inputs = {name: value for name, value in arguments.items() if name != "ctx"}
        self._observer.task_running(task.name, record)
        output = self._calls.call(
            task.func,
            arguments,
            limit=policy.timeout_sec,
            event_loop=policy.event_loop or "asyncio",
            context=context,
        )
        context.set_result(task.name, output)
        if task.outputs:
            save_outputs(task, context, output)
        return output

    def _wait(
        self, task: Task, policy: TaskPolicy, record: LiveRecord, failed: int, failure: Failure
    ) -> bool:
        """Wait for the next try; return whether the run was cancelled meanwhile."""
        seconds = failure.retry_after
        if seconds is None:
            seconds = (policy.backoff or ENGINE_BACKOFF).wait(failed, random.random())  # noqa: S311
        if seconds >= _TOLD_SECONDS:
            self._observer.task_running(task.name, record)
        return self._stopping.wait(seconds)

    def _cancel(self, record: LiveRecord) -> None:
        record.state = TaskState.CANCELLED
        record.ended_at = self._clock()
        record.duration_ms = (record.ended_at - (record.started_at or 0.0)) * 1000


def _note_try(
    record: LiveRecord, number: int, began: float, ended: float, failure: Failure | None
) -> None:
    if record.tries is None:
        record.tries = deque(maxlen=MAX_TRIES)
    error = None if failure is None else shrink_error(failure.text, _ERROR_BYTES)
    record.tries.append(TryRecord(number=number, started_at=began, ended_at=ended, error=error))


class _Iterations:
    """What is kept of a task's times in loops."""

    def __init__(self) -> None:
        self._last: deque[IterationRecord] = deque(maxlen=MAX_ITERATIONS)
        self._counts: dict[str, int] = {}

    def note(self, record: LiveRecord, path: str) -> None:
        """Take one in, and have its record tell of all so far; the worst state of them is the task's."""
        state = record.state.value
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
        for worst in (TaskState.CANCELLED, TaskState.FAILED):
            if worst.value in self._counts:
                record.state = worst
                break

    def show(self, record: LiveRecord) -> None:
        """Have a record tell of all so far."""
        record.iterations, record.iteration_counts = tuple(self._last), dict(self._counts)


def _tell_artifacts_apart(context: Context) -> None:
    """Have ``save_artifact`` note in the record of the task that calls it what it saved.

    The engine itself puts what all tasks save into one dictionary of the run.
    """
    if "save_artifact" in vars(context):
        return
    save = context.save_artifact

    @functools.wraps(save)
    def save_artifact(name: str, data: Any) -> str:
        path = save(name, data)
        task = TASK.get()
        if task is not None:
            task[1].artifacts[str(name)] = {"type": context.artifacts[name]["type"]}
        return path

    context.save_artifact = save_artifact  # type: ignore[method-assign]
