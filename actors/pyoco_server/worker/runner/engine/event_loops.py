"""Where a run's ``async def`` tasks are awaited: one event loop of each kind per run, on a thread of its own.

They share it, as they would in a program: a client or lock that one of them makes works in the next. A task
with a time limit has a process, and a loop in that.
"""

from __future__ import annotations

import asyncio
import errno
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from queue import SimpleQueue
from types import FrameType
from typing import Any, Final

from pyoco_server.model.flow.task_policy import EventLoop
from pyoco_server.worker.runner.engine.awaiting import Work, result_of
from pyoco_server.worker.runner.engine.cancel_signal import CancelSignal
from pyoco_server.worker.runner.engine.failure import TaskCancelled, TaskNotBegun, interrupted
from pyoco_server.worker.runner.engine.own_process import TaskStopped

_CLOSE_SECONDS: Final = 5.0


def run_alone(work: Work, kind: EventLoop) -> Any:
    """Await a coroutine on a loop of its own, on this thread; return its result.

    What the handler of SIGTERM raises unwinds it.
    """
    if kind == "asyncio":
        return asyncio.run(result_of(work))
    import trio  # noqa: PLC0415 - where a task asks for it

    stop = signal.getsignal(signal.SIGTERM)
    try:
        return trio.run(_on_trio, work)
    finally:
        signal.signal(signal.SIGTERM, stop)


async def _on_trio(work: Work) -> Any:
    import trio  # noqa: PLC0415 - where a task asks for it

    stop, token = signal.getsignal(signal.SIGTERM), trio.lowlevel.current_trio_token()

    def on_signal(number: int, frame: FrameType | None) -> None:
        # What is raised in trio itself would end that, and leave the coroutines as they are.
        if trio.lowlevel.currently_ki_protected():
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(scope.cancel)
        elif callable(stop):
            stop(number, frame)

    with trio.CancelScope() as scope:
        signal.signal(signal.SIGTERM, on_signal)
        return await result_of(work)
    raise TaskStopped("the task is to stop")


class EventLoops:
    """The loops of one run, each started when the first task needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loops: dict[EventLoop, _Loop] = {}

    def run(self, work: Work, kind: EventLoop, stopping: CancelSignal) -> Any:
        """Await a coroutine; return its result. Blocks this thread meanwhile.

        Raises:
            TaskNotBegun: There is no thread for its loop.
            TaskCancelled: The run was cancelled, and the coroutine with it.
            Exception: What it raises, or why its loop cannot start.
        """
        with self._lock:
            loop = self._loops.get(kind)
            if loop is None:
                loop = self._loops[kind] = _Asyncio() if kind == "asyncio" else _Trio()
        job = _Job(work)
        with stopping.calling(lambda: loop.cancel(job)):
            loop.start(job)
            job.done.get()
        if job.cancelled:
            raise TaskCancelled
        if job.error is not None:
            raise job.error
        return job.result

    def close(self) -> None:
        """End what tasks left on the loops, and these; blocks for some seconds at most."""
        for loop in self._loops.values():
            loop.close()


class _Job:
    """A coroutine on a loop, and what became of it."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.context = copy_context()
        self.done: SimpleQueue[None] = SimpleQueue()
        self.cancel: Callable[[], object] | None = None
        # Before it has started, too.
        self.to_cancel = False
        self.cancelled = False
        self.result: Any = None
        self.error: BaseException | None = None

    async def run(self) -> None:
        """Await it; its error is raised where the task was called, for some would end the loop."""
        try:
            self.result = await result_of(self.work)
        except BaseException as error:
            self.cancelled = self.to_cancel
            self.error = error if isinstance(error, Exception) else interrupted(error)
            if self.cancelled and not isinstance(error, Exception):
                raise
        finally:
            self.done.put(None)


class _Loop(ABC):
    """A loop on a thread of its own."""

    def __init__(self, name: str) -> None:
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._ready = threading.Event()
        self._failed: Exception | None = None
        try:
            self._thread.start()
        except RuntimeError as error:
            raise TaskNotBegun(errno.EAGAIN, str(error)) from error
        self._ready.wait()
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            if self._ready.is_set():
                raise
            self._failed = error if isinstance(error, Exception) else interrupted(error)
            self._ready.set()

    @abstractmethod
    def _serve(self) -> None:
        """Tell that it is ready, and serve until it is closed."""

    @abstractmethod
    def _soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have the loop call a function; from any thread."""

    @abstractmethod
    def _begin(self, job: _Job) -> None:
        """On the loop: start a job, in the context of the task."""

    @abstractmethod
    def _stop(self) -> None:
        """On the loop: end all that is left, and itself."""

    def start(self, job: _Job) -> None:
        self._soon(self._begin, job)

    def cancel(self, job: _Job) -> None:
        with suppress(RuntimeError):  # it has ended, and the job with it
            self._soon(self._cancel, job)

    def close(self) -> None:
        with suppress(RuntimeError):  # what a task left on it has ended it
            self._soon(self._stop)
        self._thread.join(_CLOSE_SECONDS)

    def _cancel(self, job: _Job) -> None:
        job.to_cancel = True
        if job.cancel is not None:
            job.cancel()


class _Asyncio(_Loop):
    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        super().__init__("asyncio tasks")

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_closed())

    async def _until_closed(self) -> None:
        self._ready.set()
        await self._closing.wait()

    def _soon(self, function: Callable[..., object], *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(function, *arguments)

    def _begin(self, job: _Job) -> None:
        task = self._loop.create_task(job.run(), context=job.context)
        # After its first step: before, it would be over without having begun.
        job.cancel = lambda: self._loop.call_soon(task.cancel)
        if job.to_cancel:
            job.cancel()

    def _stop(self) -> None:
        self._closing.set()


class _Trio(_Loop):
    def __init__(self) -> None:
        self._token: Any = None
        self._nursery: Any = None
        super().__init__("trio tasks")

    def _serve(self) -> None:
        import trio  # noqa: PLC0415 - where a task asks for it

        trio.run(self._until_closed)

    async def _until_closed(self) -> None:
        import trio  # noqa: PLC0415 - where a task asks for it

        async with trio.open_nursery() as self._nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._ready.set()
            await trio.sleep_forever()

    def _soon(self, function: Callable[..., object], *arguments: Any) -> None:
        self._token.run_sync_soon(function, *arguments)

    def _begin(self, job: _Job) -> None:
        import trio  # noqa: PLC0415 - where a task asks for it

        scope = trio.CancelScope()
        job.cancel = scope.cancel
        if job.to_cancel:
            scope.cancel()

        async def run() -> None:
            with scope:
                await job.run()

        context: Context = job.context
        context.run(self._nursery.start_soon, run)

    def _stop(self) -> None:
        self._nursery.cancel_scope.cancel()
