"""A slot's child process in memory: does what the params of a run say."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import trio

from pyoco_server.model.run import RunStatus, TaskRecord, TaskState
from pyoco_server.worker.runner.handle import Exited
from pyoco_server.worker.runner.protocol import (
    CancelRun,
    ChildMessage,
    Execute,
    FlowFinished,
    FlowStarted,
    Ready,
    TaskChanged,
)


@dataclass
class Began:
    """Task code that began, and maybe ended."""

    run_id: str
    attempt: int
    pid: int
    at: float
    ended: float | None = None


class FakeRunner:
    """What `open_runner` gives, as far as `SlotChild` uses it.

    Params of a run: ``seconds`` that it takes; ``end``: "ok", "raise", or "crash"; ``stubborn``: it does not
    look for a cancel.

    Args:
        nursery: Where the flow runs.
        pid: Its process id.
        now: The clock.
        told: Every execution.
    """

    def __init__(
        self, nursery: trio.Nursery, pid: int, now: Callable[[], float], told: list[Began]
    ) -> None:
        self._nursery = nursery
        self.pid = pid
        self._now = now
        self._told = told
        self._send, self._receive = trio.open_memory_channel[ChildMessage | Exited](1000)
        self._cancelled = trio.Event()
        self._scope = trio.CancelScope()
        self.alive = True
        self._last: ChildMessage | Exited = Ready()
        self._say(self._last)

    async def next_event(self) -> ChildMessage | Exited:
        with suppress(trio.EndOfChannel):
            self._last = await self._receive.receive()
        return self._last

    def has_ended(self) -> bool:
        return not self.alive

    def _say(self, message: ChildMessage | Exited) -> None:
        if self.alive:
            self._send.send_nowait(message)

    def _exit(self, code: int, signal: str | None) -> None:
        if self.alive:
            self._say(Exited(code, signal, ""))
            self.alive = False
            self._scope.cancel()
            self._send.close()

    async def stop(self, grace: float) -> None:
        await trio.lowlevel.checkpoint()
        self._exit(0, None)

    def terminate(self) -> None:
        self._exit(-15, "SIGTERM")

    def kill(self) -> None:
        self._exit(-9, "SIGKILL")

    def tell(self, message: Any, spawn: Any) -> None:
        if not self.alive:
            return
        if isinstance(message, Execute):
            self._cancelled = trio.Event()
            self._nursery.start_soon(self._execute, message)
        elif isinstance(message, CancelRun):
            self._cancelled.set()

    async def _execute(self, execute: Execute) -> None:
        run_id, params = execute.run_id, execute.params
        self._scope = trio.CancelScope()
        with self._scope:
            self._say(FlowStarted(run_id=run_id, tasks={"t": TaskState.PENDING}))
            began = Began(run_id, execute.attempt, self.pid, self._now())
            self._told.append(began)
            self._change(run_id, TaskState.RUNNING)
            cancelled = False
            with trio.move_on_after(params["seconds"]):
                if params.get("stubborn"):
                    await trio.sleep_forever()
                await self._cancelled.wait()
                cancelled = True
            began.ended = self._now()
            if cancelled:
                self._end(run_id, RunStatus.CANCELLED, TaskState.CANCELLED)
            elif params["end"] == "crash":
                self._exit(-11, "SIGSEGV")
            elif params["end"] == "raise":
                self._end(run_id, RunStatus.FAILED, TaskState.FAILED, error="it broke")
            else:
                self._end(run_id, RunStatus.COMPLETED, TaskState.SUCCEEDED)

    def _change(self, run_id: str, state: TaskState) -> None:
        record = TaskRecord(state=state)
        self._say(TaskChanged(run_id=run_id, name="t", record=record, at=self._now()))

    def _end(
        self, run_id: str, status: RunStatus, state: TaskState, error: str | None = None
    ) -> None:
        self._change(run_id, state)
        record = TaskRecord(state=state)
        self._say(
            FlowFinished(
                run_id=run_id,
                status=status,
                error=error,
                reason="execution_error" if error else None,
                tasks={"t": state},
                task_records={"t": record},
            )
        )


def runner_factory(
    nursery: trio.Nursery, now: Callable[[], float], told: list[Began], made: list[FakeRunner]
) -> Callable[[Any, Any], Any]:
    """What takes the place of `open_runner` in `pyoco_server.worker.spare`."""
    pids = itertools.count(1)

    async def open_runner(options: Any, guardian: Any) -> FakeRunner:
        await trio.lowlevel.checkpoint()
        runner = FakeRunner(nursery, next(pids), now, told)
        made.append(runner)
        return runner

    return open_runner
