"""The pyoco engine, told to report on each task as it goes.

Facts of pyoco 0.8's `Engine` that this rests on: every task goes through ``_execute_task``, in a
pool thread where `run` leaves a flow without switch or loop to ``_run_flow``; a record has its final
values only when that method is over, not yet when the trace is told; without a log capture it
buffers nothing of what tasks print; between two tries it tells nobody; and it lets what is no
`Exception` through, which would leave a task RUNNING.
"""

from __future__ import annotations

import functools
import inspect
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from copy import copy
from typing import Any
from weakref import WeakKeyDictionary

from pyoco.core.context import Context
from pyoco.core.engine import Engine
from pyoco.core.log_capture import RunLogCapture
from pyoco.core.models import Flow, RunContext, RunStatus, Task, TaskState
from pyoco.trace.backend import TraceBackend

from pyoco_server.worker.runner.pipe import end_copy

_SIGNATURES: WeakKeyDictionary[Callable[..., Any], inspect.Signature] = WeakKeyDictionary()


class TaskInterrupted(Exception):
    """A task raised what is meant to end a program or thread, e.g. ``SystemExit``."""


class TaskObserver(ABC):
    """Who is told; by the threads that execute the tasks."""

    @abstractmethod
    def flow_started(self) -> None:
        """The flow's tasks are known."""

    @abstractmethod
    def executing(self, name: str) -> AbstractContextManager[None]:
        """Surround all tries of a task."""

    @abstractmethod
    def task_running(self, name: str) -> None:
        """A try of the task begins, with its inputs."""

    @abstractmethod
    def task_ended(self, name: str) -> None:
        """The task's record has its final values."""


class ObservedEngine(Engine):
    """An engine that tells an observer of the start, each try and the end of every task."""

    def __init__(self, observer: TaskObserver) -> None:
        super().__init__(trace_backend=_Silence())
        self._observer = observer
        # Which task a thread executes, for what is saved from there; a task's own threads have none.
        self._executing = threading.local()

    def run(
        self,
        flow: Flow,
        params: dict[str, Any] | None = None,
        run_context: RunContext | None = None,
    ) -> Context:
        """Execute a flow, as the engine's own method does but for the capture of what is printed.

        A flow whose tasks follow each other, each without a time limit, needs no pool of threads.
        """
        run_context = run_context or RunContext()
        run_context.flow_name, run_context.params = flow.name, params or {}
        for task in flow.tasks:
            run_context.tasks[task.name] = TaskState.PENDING
            run_context.ensure_task_record(task.name)
        context = Context(params=params or {}, run_context=run_context)
        self._observer.flow_started()
        line = _line(flow)
        try:
            if line is None:
                self._run_flow(flow, context, run_context, RunLogCapture())
            else:
                self._run_line(line, context, run_context)
        finally:
            vars(context).pop("save_artifact", None)  # which holds the context itself, see below
        return context

    def _run_line(self, line: Sequence[Task], context: Context, run: RunContext) -> None:
        """Execute tasks one after the other, with the outcome that the engine's own loop has."""
        for task in line:
            if run.status is not RunStatus.RUNNING:
                self._mark_pending_tasks_cancelled(run)
                run.status = RunStatus.CANCELLED
                return
            try:
                self._execute_task(task, context)
            except Exception:
                run.status = RunStatus.FAILED
                raise
        if run.status is RunStatus.RUNNING:
            run.status = RunStatus.COMPLETED

    def _execute_task(
        self,
        task: Task,
        ctx: Context,
        log_capture: RunLogCapture | None = None,  # noqa: ARG002 - left out, see above
    ) -> None:
        self._tell_artifacts_apart(ctx)
        with self._observer.executing(task.name):
            # The flow may be one that its resolver keeps, so its task is left as it is.
            watched = copy(task)
            watched.func = self._watched(task)
            try:
                super()._execute_task(watched, ctx, None)
            except Exception:
                assert ctx.run_context is not None
                # Not yet so where the engine itself stumbled, e.g. over an error without a text.
                ctx.run_context.tasks[task.name] = TaskState.FAILED
                self._observer.task_ended(task.name)
                raise
            self._observer.task_ended(task.name)

    def _tell_artifacts_apart(self, ctx: Context) -> None:
        """Have ``save_artifact`` note in the record of the task that calls it what it saved.

        The engine itself puts what all tasks save into one dictionary of the run.
        """
        if "save_artifact" in vars(ctx):
            return
        save = ctx.save_artifact

        @functools.wraps(save)
        def save_artifact(name: str, data: Any) -> str:
            path = save(name, data)
            task = getattr(self._executing, "task", None)
            if task is not None and ctx.run_context is not None:
                record = ctx.run_context.ensure_task_record(task)
                record.artifacts[str(name)] = {"type": ctx.artifacts[name]["type"]}
            return path

        ctx.save_artifact = save_artifact  # type: ignore[method-assign]

    def _watched(self, task: Task) -> Callable[..., Any]:
        function = task.func

        # `wraps` keeps the signature, by which the engine decides what to pass.
        @functools.wraps(function)
        def try_once(*args: Any, **kwargs: Any) -> Any:
            self._observer.task_running(task.name)
            self._executing.task = task.name
            process = os.getpid()
            try:
                result = function(*args, **kwargs)
            except Exception as error:
                end_copy(process, error)
                raise
            except BaseException as error:  # user code must not end the child
                end_copy(process, error)
                text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                raise TaskInterrupted(f"the task raised {text}") from error
            else:
                end_copy(process)
                return result
            finally:
                self._executing.task = None

        with suppress(TypeError, ValueError):  # the engine finds out by itself
            try_once.__signature__ = _signature(function)  # type: ignore[attr-defined]
        return try_once


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a function; to find it takes as long as the rest of a short task.

    Raises:
        TypeError: It cannot be kept.
        ValueError: It has none.
    """
    known = _SIGNATURES.get(function)
    if known is None:
        known = _SIGNATURES[function] = inspect.signature(function)
    return known


def _line(flow: Flow) -> list[Task] | None:
    """The tasks of a flow in their order, where there is but one; None where the engine has to decide."""
    if flow.has_control_flow():
        return None
    after: dict[Task | None, Task] = {}
    for task in flow.tasks:
        plain = task.timeout_sec is None and task.fail_policy == "stop"
        before = next(iter(task.dependencies), None)
        if not plain or len(task.dependencies) > 1 or before in after:
            return None
        after[before] = task
    line: list[Task] = []
    while (following := after.get(line[-1] if line else None)) is not None:
        line.append(following)
    return line if line and len(line) == len(flow.tasks) else None


class _Silence(TraceBackend):
    """Tells nothing: all that is to be told comes from the engine above."""

    def on_flow_start(self, flow_name: str, run_id: str | None = None) -> None:
        pass

    def on_flow_end(self, flow_name: str) -> None:
        pass

    def on_node_start(self, node_name: str) -> None:
        pass

    def on_node_end(self, node_name: str, duration_ms: float) -> None:
        pass

    def on_node_error(self, node_name: str, error: Exception) -> None:
        pass
