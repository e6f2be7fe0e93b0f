"""One call of a task's function: here, on an event loop, or in a process of its own."""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from pyoco.core.context import Context

from pyoco_server.model.flow.task_policy import EventLoop
from pyoco_server.worker.runner.engine.awaiting import Work, work_of
from pyoco_server.worker.runner.engine.cancel_signal import CancelSignal
from pyoco_server.worker.runner.engine.failure import TaskNotBegun, interrupted
from pyoco_server.worker.runner.engine.own_process import Relay, call_apart
from pyoco_server.worker.runner.pipe import end_copy


class Calls:
    """Calls the functions of one run's tasks, here; with a time limit in a copy of this process.

    Args:
        stopping: Tells of a cancel.
        relay: Takes what a copy prints, and what it took.
    """

    def __init__(self, stopping: CancelSignal, relay: Relay) -> None:
        self._stopping = stopping
        self._relay = relay
        self._lock = threading.Lock()
        self._loops: Any = None

    def call(
        self,
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
        *,
        limit: float | None,
        event_loop: EventLoop,
        context: Context,
    ) -> Any:
        """Return what the function returns, awaited where it has to be.

        Args:
            function: The task's.
            arguments: By name.
            limit: How long it may take, in seconds.
            event_loop: What awaits it.
            context: The run's, which it may change.

        Raises:
            TaskNotBegun: There is no process or thread for it.
            TaskTimeout: It took longer than ``limit``.
            TaskCancelled: It ended because the run was cancelled.
            Exception: What it raises.
        """
        if limit is not None:
            return call_apart(
                lambda: self._alone(function, arguments, event_loop),
                limit=limit,
                context=context,
                stopping=self._stopping,
                relay=self._relay,
                stop_at_cancel=_is_async(function),
            )
        result = call_here(function, arguments)
        work = work_of(result)
        if work is None:
            return result
        try:
            return self._await(work, event_loop)
        except TaskNotBegun as error:
            work.close()
            if _is_async(function):
                raise
            raise RuntimeError(error.strerror) from error  # what made the coroutine has begun

    def close(self) -> None:
        """End the event loops, and what is left on them; blocks for some seconds at most."""
        if self._loops is not None:
            self._loops.close()

    def _await(self, work: Work, event_loop: EventLoop) -> Any:
        with self._lock:
            if self._loops is None:
                # Few runs have any.
                from pyoco_server.worker.runner.engine.event_loops import EventLoops  # noqa: PLC0415

                self._loops = EventLoops()
        return self._loops.run(work, event_loop, self._stopping)

    def _alone(
        self, function: Callable[..., Any], arguments: Mapping[str, Any], event_loop: EventLoop
    ) -> Any:
        result = call_here(function, arguments)
        work = work_of(result)
        if work is None:
            return result
        from pyoco_server.worker.runner.engine.event_loops import run_alone  # noqa: PLC0415

        return run_alone(work, event_loop)


def _is_async(function: Callable[..., Any]) -> bool:
    """Whether what calls make has to be awaited, also of an object that can be called."""
    return any(
        inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
        for each in (function, getattr(function, "__call__", None))  # noqa: B004 - not whether there is one
    )


def call_here(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call a function; what would end the program is an error of its own, and a copy that it made ends.

    Raises:
        TaskInterrupted: It raised what is no `Exception`.
        Exception: What it raises.
    """
    process = os.getpid()
    try:
        result = function(**arguments)
    except Exception as error:
        end_copy(process, error)
        raise
    except BaseException as error:  # user code must not end the child
        end_copy(process, error)
        raise interrupted(error) from error
    end_copy(process)
    return result
