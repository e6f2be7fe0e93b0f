"""A backend over a real NATS node, in the test's own process."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import msgspec
import trio
from msgspec.structs import replace

from pyoco_server.backend import Backend, open_backend
from pyoco_server.gateway.new_run import NewRun
from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.consumer import Message, PullConsumer
from pyoco_server.jetstream.errors import NotFound
from pyoco_server.kernel.child import Child
from pyoco_server.kernel.supervisor import Supervisor
from pyoco_server.model.errors import NO_THREAD
from pyoco_server.model.run import RunSnapshot
from pyoco_server.settings import Settings
from pyoco_server.worker.tree import WorkerOptions

TAG = "hello"
FLOWS = """\
import os
import signal
import time

from pyoco.core.models import Flow
from pyoco.dsl.syntax import task

from pyoco_server import policy


@task
def quick(x=1):
    return x + 1


@task
def slow(seconds=60):
    time.sleep(seconds)
    return "slept"


@task
def steps(ctx, seconds=60):
    end = time.time() + seconds
    while time.time() < end and not ctx.is_cancelled:
        time.sleep(0.01)
    return "stepped"


@task
def broken():
    raise ValueError("it broke")


@task
def flaky(good=2):
    if int(os.environ["PYOCO_RUN_ATTEMPT"]) < good:
        raise ValueError("not yet")
    return "at last"


@task
def crash(good=0):
    if int(os.environ["PYOCO_RUN_ATTEMPT"]) != good:
        os.kill(os.getpid(), signal.SIGSEGV)
    return "survived"


@task
def stubborn(seconds=60):
    time.sleep(seconds)


@task
def large(size=1200000):
    return "x" * size


@task
@policy(retries=2, backoff={"delay_sec": 0})
def retried(path, seconds=0):
    with open(path, "a") as file:
        file.write("a try\\n")
    time.sleep(seconds)
    raise ValueError("it broke")


@task
def marked(path):
    with open(path, "a") as file:
        file.write("executed\\n")


TASKS = {
    task.task.name: task
    for task in (quick, slow, steps, broken, flaky, crash, stubborn, large, retried, marked)
}


def resolve(name):
    if name == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return Flow(name=name) >> TASKS[name]
"""


def settings_for(folder: Path, **changes: Any) -> Settings:
    return replace(
        Settings(state_dir=str(folder / "state"), worker_drain_timeout_sec=0.1), **changes
    )


def worker_options(folder: Path, **changes: Any) -> WorkerOptions:
    path = folder / "flows.py"
    path.write_text(FLOWS)
    defaults: dict[str, Any] = {
        "tags": (TAG,),
        "worker_id": "w1",
        "slots": 1,
        "flow_resolver": f"{path}:resolve",
        "output": lambda output, slot: None,
    }
    return WorkerOptions(**{**defaults, **changes})


@asynccontextmanager
async def running(
    folder: Path, *, worker: bool | WorkerOptions = True, **changes: Any
) -> AsyncIterator[Backend]:
    options = worker_options(folder) if worker is True else (worker or None)
    async with open_backend(
        settings_for(folder, **changes), nats="embedded", worker=options
    ) as backend:
        await backend.wait_ready(within=60)
        yield backend


def new_run(flow_name: str, **params: Any) -> NewRun:
    return NewRun(flow_name, tag=TAG, params=params)


def limited(
    flow_name: str,
    *,
    timeout_sec: float | None = None,
    max_attempts: int | None = None,
    retry_backoff_sec: float | None = 0.05,
    **params: Any,
) -> NewRun:
    return dataclasses.replace(
        new_run(flow_name, **params),
        timeout_sec=timeout_sec,
        max_attempts=max_attempts,
        retry_backoff_sec=retry_backoff_sec,
    )


async def until(
    backend: Backend, run_id: str, condition: Callable[[RunSnapshot], bool], within: float = 60
) -> RunSnapshot:
    with trio.fail_after(within):
        async with backend.watch(run_id) as states:
            async for state in states:
                if condition(state):
                    return state
    raise AssertionError(f"run {run_id} was deleted")


async def ended(backend: Backend, run_id: str, within: float = 60) -> RunSnapshot:
    return await until(backend, run_id, lambda state: state.status.terminal, within)


async def started(backend: Backend, run_id: str) -> RunSnapshot:
    return await until(backend, run_id, lambda state: "RUNNING" in state.tasks.values())


async def stop_as_at_the_end(backend: Backend, path: str) -> None:
    """Stop one actor as the end of the tree does: it handles what it was told, and takes nothing more."""
    for child in _children(backend.system._root):
        if child.record.path == path:
            await child.stop(for_good=True)
            return
    raise AssertionError(f"nothing stands at {path}")


def _children(supervisor: Supervisor) -> Iterator[Child]:
    for child in supervisor._children:
        yield child
        if isinstance(child.below, Supervisor):
            yield from _children(child.below)


class _Stored(msgspec.Struct):
    subject: str
    seq: int
    data: str


class _Got(msgspec.Struct):
    message: _Stored


class _State(msgspec.Struct):
    messages: int


class _Info(msgspec.Struct):
    state: _State


async def queued(backend: Backend, stream: str = "PYOCO_WORK") -> int:
    """How many messages a stream holds."""
    return (await call(backend.connection, f"STREAM.INFO.{stream}", answer=_Info)).state.messages


async def dead_letters(backend: Backend) -> list[dict[str, Any]]:
    """Every dead letter, oldest first."""
    import base64

    letters: list[dict[str, Any]] = []
    sequence = 0
    while True:
        body = {"seq": sequence + 1, "next_by_subj": "pyoco.dlq.>"}
        try:
            got = await call(backend.connection, "STREAM.MSG.GET.PYOCO_DLQ", body, answer=_Got)
        except NotFound:
            return letters
        sequence = got.message.seq
        letters.append(msgspec.json.decode(base64.b64decode(got.message.data)))


async def eventually(
    condition: Callable[[], Any], *, within: float = 60, what: str = "the condition"
) -> None:
    """Wait for an async condition that nothing announces."""
    with trio.move_on_after(within):
        while not await condition():
            await trio.sleep(0.02)
        return
    raise AssertionError(f"not within {within} s: {what}")


async def empty_queue(backend: Backend) -> None:
    """Wait until no job is queued or waits for its acknowledgement."""

    async def empty() -> bool:
        return await queued(backend) == 0

    await eventually(empty, what="an empty queue")


async def deliver(backend: Backend) -> Message:
    """Take the next job as a worker would."""
    consumer = PullConsumer(backend.connection, "PYOCO_WORK", f"pyoco_workers_{TAG}")
    try:
        (message,) = await consumer.fetch(1, expires=10)
        return message
    finally:
        consumer.close()


@contextmanager
def no_threads_for(module: ModuleType) -> Iterator[list[Any]]:
    """Have no thread be left for what code of a module asks for, directly or not; gathers what that is."""
    real = trio.to_thread.run_sync
    refused: list[Any] = []

    async def run_sync(function: Any, *args: Any, **said: Any) -> Any:
        if any(frame.filename == module.__file__ for frame in inspect.stack(0)):
            refused.append(function)
            raise RuntimeError(NO_THREAD)
        return await real(function, *args, **said)

    with mock.patch.object(trio.to_thread, "run_sync", run_sync):
        yield refused
