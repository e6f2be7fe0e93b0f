"""One task of a run: its tries by its policy, and what its record says of them."""

from __future__ import annotations

import functools
import random
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from msgspec import structs
from pyoco.core.context import Context
from pyoco.core.models import RunContext, RunStatus, Task, TaskState

from pyoco_server.model.flow.task_policy import ENGINE_BACKOFF, TaskPolicy
from pyoco_server.model.run import TryRecord, shrink_error
from pyoco_server.worker.runner.engine.arguments import bind, save_outputs
from pyoco_server.worker.runner.engine.calls import Calls
from pyoco_server.worker.runner.engine.cancel_signal import CancelSignal
from pyoco_server.worker.runner.engine.failure import (
    Failure,
    TaskCancelled,
    TaskNotBegun,
    failure_of,
)
from pyoco_server.worker.runner.engine.policies import policy_of
from pyoco_server.worker.runner.engine.task_record import MAX_TRIES, TASK, IterationBook, LiveRecord

# A wait that is shorter is over before anybody could read of it.
_TOLD_SECONDS: Final = 0.5
# Of the tries of a task, so many are stored, with so much of their errors.
_STORED_TRIES: Final = 3
_STORED_ERROR_BYTES: Final = 200

LOST_TRY: Final = "its worker was lost or stopped during this try"
"""The error of a try that was begun in an earlier attempt of the run, and of which no more is known."""


class TaskObserver(ABC):
    """Who is told; by the threads that execute the tasks."""

    @abstractmethod
    def flow_started(self) -> None:
        """The flow's tasks are known."""

    @abstractmethod
    def task_running(self, name: str, record: LiveRecord) -> None:
        """A try of the task begins or has failed, with what is known so far."""

    @abstractmethod
    def try_begins(self, key: str, tries: Sequence[TryRecord]) -> bool:
        """A try begins, the last of these, of a task that may be tried again: wait until that is stored.

        Returns:
            Whether it may begin; else the run was cancelled meanwhile.
        """

    @abstractmethod
    def try_ended(self, key: str, tries: Sequence[TryRecord]) -> None:
        """The last of these tries has failed, or the task has succeeded and there are none to count on."""

    @abstractmethod
    def iteration_ended(self, name: str, record: LiveRecord) -> None:
        """An iteration of the task has ended, and others go on: with what is known so far."""

    @abstractmethod
    def task_ended(self, name: str, record: LiveRecord) -> None:
        """The task's record has its final values: it has ended, or will not be executed."""


class NoTryLeft(Exception):
    """The task was tried as often as it may be, in attempts of the run that were lost or given back."""


class RunCancelled(Exception):
    """The run was cancelled; nothing further is started."""


class Tasks:
    """Executes tasks of one run and keeps their states and records in its engine's `RunContext`.

    Args:
        run: The run, with its params.
        observer: Is told.
        stopping: Ends waits when the run is cancelled.
        calls: Calls their functions.
        tries_before: The last tries in attempts that were lost or given back, by task, iteration and time.
        begun: Takes the names of those whose code has begun.
    """

    def __init__(
        self,
        run: RunContext,
        observer: TaskObserver,
        stopping: CancelSignal,
        calls: Calls,
        *,
        tries_before: Mapping[str, Sequence[TryRecord]] | None = None,
        begun: dict[str, bool] | None = None,
    ) -> None:
        self.run = run
        self._observer = observer
        self._stopping = stopping
        self._calls = calls
        # What is kept of loops, by the names of tasks; iterations may end at the same time.
        self._lock = threading.Lock()
        self._loops: dict[str, IterationBook] = {}
        self._tries_before = tries_before or {}
        self._begun = {} if begun is None else begun
        # How often each task that may be tried again was executed, by task and iteration.
        self._times: dict[str, int] = {}

    @property
    def cancelled(self) -> bool:
        """Whether nothing further is to be started."""
        status = self.run.status
        return status is RunStatus.CANCELLING or status is RunStatus.CANCELLED

    def begin(self, names: Sequence[str]) -> None:
        """Take note of the flow's tasks, none of which has started."""
        for name in names:
            self.run.tasks[name] = TaskState.PENDING
            self.run.task_records[name] = LiveRecord()
        self._observer.flow_started()

    def execute(self, task: Task, context: Context) -> bool:
        """Execute a task; return whether it succeeded. Where it is `cancelled` meanwhile, it may have not.

        Raises:
            Exception: It failed, and its failure ends the run.
        """
        policy = policy_of(task)
        loop = context.loop
        record = LiveRecord(state=TaskState.RUNNING, started_at=time.time())
        if loop is not None:
            with self._lock:
                self._loops.setdefault(task.name, IterationBook()).running += 1
        self.run.tasks[task.name] = TaskState.RUNNING
        self.run.task_records[task.name] = record
        in_hand = TASK.set((task.name, record))
        try:
            error = self._tries(task, policy, context, record)
            succeeded = record.state is TaskState.SUCCEEDED
            if loop is None:
                if task.name in self._loops:
                    self._loops[task.name].show(record)
                self._end(task.name, record)
            else:
                # While it is told, so that no begin of another iteration is told before.
                with self._lock:
                    book = self._loops[task.name]
                    book.running -= 1
                    book.note(record, loop.path or "")
                    if book.running:
                        self._observer.iteration_ended(task.name, record)
                    else:
                        self._end(task.name, record)
        finally:
            TASK.reset(in_hand)
        if error is not None and policy.on_failure != "isolate":
            raise error
        return succeeded

    def _end(self, name: str, record: LiveRecord) -> None:
        self.run.task_records[name] = record
        self.run.tasks[name] = record.state
        self._observer.task_ended(name, record)

    def give_output(self, name: str, output: object) -> None:
        """Have a task's record show what its iterations returned together, unless some go on or may come."""
        with self._lock:
            record, state = self.run.ensure_task_record(name), self.run.tasks.get(name)
            if not isinstance(record, LiveRecord) or record.output is output:
                return
            may_come = state is TaskState.PENDING and not record.skipped
            if state is not TaskState.RUNNING and not may_come:
                self._end(name, replace(record, output=output))

    def skip(self, task: Task) -> None:
        """Note that a task will not be executed, unless it was or that is known."""
        record = self.run.ensure_task_record(task.name)
        pending = self.run.tasks.get(task.name) is TaskState.PENDING
        if pending and isinstance(record, LiveRecord) and not record.skipped:
            self._end(task.name, replace(record, skipped=True))

    def _tries(
        self, task: Task, policy: TaskPolicy, context: Context, record: LiveRecord
    ) -> BaseException | None:
        """Try a task until it succeeds, or may be tried no more; return the last error."""
        started_at = record.started_at or 0.0
        kept = self._kept_tries(task, context, record) if policy.retries else None
        number = first = 1 if kept is None else kept.count + 1
        if number > (policy.retries or 0) + 1:
            return self._none_left(record, number - 1)
        while True:
            began = time.time() if number > first else started_at
            if self.cancelled and number > first:
                self._cancel(record)
                return None
            error: BaseException | None = None
            output: Any = None
            try:
                begins = None if kept is None else functools.partial(kept.begin, number, began)
                output = self._once(task, policy, context, record, begins)
            except TaskCancelled:
                self._cancel(record)
                return None
            except TaskNotBegun as caught:
                if not self._begun:  # another attempt may have all of it
                    if kept is not None:
                        kept.take_back()
                    raise
                error = caught
            except Exception as caught:  # noqa: BLE001 - user code may raise anything
                error = caught
            failure = None if error is None else failure_of(error)
            record.end(time.time())
            if kept is not None:
                noted = record.note_try(number, began, None if failure is None else failure.text)
                kept.end(None if failure is None else noted)
            if failure is None:
                record.state, record.output = TaskState.SUCCEEDED, output
                record.error = record.traceback = None
                return None
            record.error, record.traceback = failure.text, failure.traceback
            if not policy.next_try(number, failure.kinds):
                record.state = TaskState.FAILED
                return error
            del error
            self._wait(task, policy, record, number, failure)
            number += 1

    def _kept_tries(self, task: Task, context: Context, record: LiveRecord) -> _KeptTries:
        """What is stored of the tries of a task at this time of it; its record tells of them."""
        key = task.name if context.loop is None else f"{task.name} {context.loop.path}"
        with self._lock:
            times = self._times[key] = self._times.get(key, 0) + 1
        if times > 1:
            key += f" #{times}"
        before = [_as_lost(each) for each in self._tries_before.get(key, ())]
        if before:
            record.tries = deque(before, maxlen=MAX_TRIES)
        return _KeptTries(self._observer, key, before)

    def _none_left(self, record: LiveRecord, tries: int) -> NoTryLeft:
        assert record.tries
        last = record.tries[-1].error
        record.error = f"no try is left after {tries} tries in earlier attempts of the run: {last}"
        record.state = TaskState.FAILED
        record.end(time.time())
        return NoTryLeft(record.error)

    def _once(
        self,
        task: Task,
        policy: TaskPolicy,
        context: Context,
        record: LiveRecord,
        begins: Callable[[], None] | None,
    ) -> Any:
        arguments = bind(task, context)
        record.inputs = {name: value for name, value in arguments.items() if name != "ctx"}
        self._observer.task_running(task.name, record)
        if begins is not None:
            begins()
        first = task.name not in self._begun
        self._begun[task.name] = True
        try:
            output = self._calls.call(
                task.func,
                arguments,
                limit=policy.timeout_sec,
                event_loop=policy.event_loop or "asyncio",
                context=context,
            )
        except TaskNotBegun:
            if first:
                self._begun.pop(task.name, None)
            raise
        context.set_result(task.name, output)
        if task.outputs:
            save_outputs(task, context, output)
        return output

    def _wait(
        self, task: Task, policy: TaskPolicy, record: LiveRecord, failed: int, failure: Failure
    ) -> None:
        """Wait for the next try, or until the run is cancelled."""
        seconds = failure.retry_after
        if seconds is None:
            seconds = (policy.backoff or ENGINE_BACKOFF).wait(failed, random.random())  # noqa: S311
        if seconds >= _TOLD_SECONDS:
            self._observer.task_running(task.name, record)
        self._stopping.wait(seconds)

    def _cancel(self, record: LiveRecord) -> None:
        record.state = TaskState.CANCELLED
        record.end(time.time())


class _KeptTries:
    """The tries of a task, as they are stored: an attempt that follows a lost one goes on counting.

    Args:
        observer: Has them stored.
        key: Whose they are.
        before: The last ones in earlier attempts of the run.
    """

    def __init__(self, observer: TaskObserver, key: str, before: Sequence[TryRecord]) -> None:
        self._observer = observer
        self._key = key
        self._tries: deque[TryRecord] = deque(before, maxlen=_STORED_TRIES)

    @property
    def count(self) -> int:
        """How many were begun."""
        return self._tries[-1].number if self._tries else 0

    def begin(self, number: int, began: float) -> None:
        """Have a try stored that begins.

        Raises:
            TaskCancelled: It may not, for the run was cancelled.
        """
        self._tries.append(TryRecord(number=number, started_at=began))
        if not self._observer.try_begins(self._key, self._tries):
            raise TaskCancelled

    def take_back(self) -> None:
        """Tell that the last one has not begun."""
        self._tries.pop()
        self._observer.try_ended(self._key, self._tries)

    def end(self, failed: TryRecord | None) -> None:
        """Tell how the last one ended: it failed so, or succeeded."""
        if failed is None:
            self._tries.clear()
        else:
            if self.count == failed.number:  # else it had not come to begin
                self._tries.pop()
            error = shrink_error(failed.error or "", _STORED_ERROR_BYTES)
            self._tries.append(structs.replace(failed, error=error))
        self._observer.try_ended(self._key, self._tries)


def _as_lost(before: TryRecord) -> TryRecord:
    """A try of an earlier attempt, as this one knows of it."""
    return before if before.ended_at is not None else structs.replace(before, error=LOST_TRY)
