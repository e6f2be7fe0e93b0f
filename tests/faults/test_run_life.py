"""Faults 1 to 7, 12 and 14 of pyoco-server 0.5.1: what happened to runs between submission and end.

Each test sets up what was seen there; 5, 10 and 11 are about whole processes and in `test_processes`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from backend.stage import (
    TAG,
    empty_queue,
    ended,
    new_run,
    running,
    until,
    worker_options,
)
from pyoco_server.backend import open_backend
from pyoco_server.gateway.new_run import NewRun
from pyoco_server.jetstream.consumer import Message
from pyoco_server.model.run import RunSnapshot, RunStatus, TaskState
from pyoco_server.store.runs import RunStore, StoredRun
from pyoco_server.worker.claiming import claim_run
from pyoco_server.worker.tree import WorkerOptions

TASKS = """\
import ctypes
import os
import signal
import time
from pathlib import Path


def executed():
    with Path(__file__).with_name("executed").open("a") as file:
        file.write(os.environ["PYOCO_RUN_ID"] + "\\n")


def nap(seconds=0.0):
    executed()
    time.sleep(seconds)


def big(size=1_200_000):
    executed()
    return "x" * size


def hold(seconds=0.0):
    # Unlike CDLL, PyDLL does not let go of the interpreter's lock for the call.
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))


def segfault():
    ctypes.string_at(0)


def leave():
    os._exit(0)


def out_of_memory():
    # What the kernel does to the process that it chooses.
    os.kill(os.getpid(), signal.SIGKILL)
"""


def worker(folder: Path, **changes: Any) -> WorkerOptions:
    (folder / "faulty.py").write_text(TASKS)
    return worker_options(folder, import_paths=(str(folder),), **changes)


def flow(*tasks: str, **params: Any) -> NewRun:
    """A run of these functions of `TASKS`, one after the other."""
    names = [f"{task}_{number}" for number, task in enumerate(tasks)]
    lines = [f"  {name}:\n    callable: faulty:{name.rpartition('_')[0]}" for name in names]
    graph = " >> ".join(names)
    text = f"flow:\n  graph: {graph}\ntasks:\n" + "\n".join(lines) + "\n"
    return NewRun("flow", TAG, params=params, workflow_yaml=text)


def executions(folder: Path) -> list[str]:
    """The run of each call of `nap` and `big`."""
    file = folder / "executed"
    return file.read_text().split() if file.exists() else []


class Written:
    """Every snapshot that was stored, by gateway and worker, in the order of the bucket."""

    def __init__(self) -> None:
        self._stored: list[StoredRun] = []

    def note(self, stored: StoredRun) -> None:
        self._stored.append(stored)

    def of(self, run_id: str) -> list[RunSnapshot]:
        mine = [stored for stored in self._stored if stored.snapshot.run_id == run_id]
        return [stored.snapshot for stored in sorted(mine, key=lambda stored: stored.revision)]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    history = Written()

    def noting(write: Callable[..., Awaitable[StoredRun]]) -> Callable[..., Awaitable[StoredRun]]:
        async def noted(*args: Any, **more: Any) -> StoredRun:
            after = await write(*args, **more)
            history.note(after)
            return after

        return noted

    for name in ("create", "replace"):
        monkeypatch.setattr(RunStore, name, noting(getattr(RunStore, name)))
    return history


async def test_fault_1_a_cancel_while_running_is_kept(tmp_path: Path, written: Written) -> None:
    """Eight of eight cancels were overwritten by the worker's snapshots, and the runs COMPLETED."""
    options = worker(tmp_path, slots=4)
    async with running(tmp_path, worker=options, run_heartbeat_interval_sec=0.05) as backend:

        async def cancel_after(tasks: int) -> None:
            run_id = (await backend.submit(flow(*["nap"] * 40, seconds=0.05))).run_id

            def so_far(state: RunSnapshot) -> bool:
                return list(state.tasks.values()).count(TaskState.SUCCEEDED) >= tasks

            await until(backend, run_id, so_far)
            assert (await backend.cancel(run_id)).status is RunStatus.CANCELLING
            end = await ended(backend, run_id)
            assert end.status is RunStatus.CANCELLED
            assert list(end.tasks.values()).count(TaskState.SUCCEEDED) < 40
            seen = [snapshot.status for snapshot in written.of(run_id)]
            assert set(seen[seen.index(RunStatus.CANCELLING) :]) <= {"CANCELLING", "CANCELLED"}

        async with trio.open_nursery() as nursery:
            for tasks in range(8):
                nursery.start_soon(cancel_after, tasks)


async def test_fault_2_a_cancel_leaves_an_end_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read the run, the run ended, and it wrote CANCELLING over the end, for ever."""
    async with running(tmp_path, worker=worker(tmp_path)) as backend:
        accepted = await backend.submit(flow("nap", seconds=2.0))
        real = RunStore.get

        async def get(self: RunStore, run_id: str) -> StoredRun:
            stored = await real(self, run_id)
            monkeypatch.undo()  # once
            assert not stored.snapshot.status.terminal
            await ended(backend, run_id)
            return stored

        monkeypatch.setattr(RunStore, "get", get)
        answer = await backend.cancel(accepted.run_id)
        assert answer.status is RunStatus.COMPLETED
        assert await backend.get(accepted.run_id) == answer


async def test_fault_3_a_cancelled_run_that_waited_is_not_executed(tmp_path: Path) -> None:
    """The first write of a worker discarded the cancel, and the tasks ran."""
    async with running(tmp_path, worker=False) as backend:
        accepted = await backend.submit(flow("nap"))
        assert (await backend.cancel(accepted.run_id)).status is RunStatus.CANCELLING
        async with open_backend(
            backend.settings_with_node(), gateway=False, worker=worker(tmp_path)
        ):
            other = await backend.submit(flow("nap"))
            assert (await ended(backend, other.run_id)).status is RunStatus.COMPLETED
        assert (await ended(backend, accepted.run_id)).status is RunStatus.CANCELLED
        assert executions(tmp_path) == [other.run_id]


async def test_fault_3_also_when_a_worker_has_its_job_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered, go_on = trio.Event(), trio.Event()

    async def claim(*args: Any, **facts: Any) -> Any:
        delivered.set()
        await go_on.wait()
        return await claim_run(*args, **facts)

    monkeypatch.setattr("pyoco_server.worker.executor.claim_run", claim)
    async with running(tmp_path, worker=worker(tmp_path)) as backend:
        accepted = await backend.submit(flow("nap"))
        with trio.fail_after(60):
            await delivered.wait()
        await backend.cancel(accepted.run_id)
        go_on.set()
        assert (await ended(backend, accepted.run_id)).status is RunStatus.CANCELLED
        other = await backend.submit(flow("nap"))
        await ended(backend, other.run_id)
        assert executions(tmp_path) == [other.run_id]


async def test_fault_4_a_finished_run_is_not_executed_again(
    tmp_path: Path, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message was delivered again: COMPLETED, RUNNING, COMPLETED."""
    real = Message.ack_soon
    acks = 0

    def ack_soon(self: Message) -> None:
        nonlocal acks
        acks += 1
        if acks > 1:
            real(self)

    monkeypatch.setattr(Message, "ack_soon", ack_soon)
    options = worker(tmp_path)
    async with running(tmp_path, worker=options, consumer_ack_wait_sec=0.5) as backend:
        accepted = await backend.submit(flow("nap"))
        end = await ended(backend, accepted.run_id)

        await empty_queue(backend)
        assert acks >= 2, "it was delivered again"
        assert executions(tmp_path) == [accepted.run_id]
        assert written.of(accepted.run_id)[-1] == end


@pytest.mark.parametrize("setting", [262_144, 0])
async def test_fault_6_a_result_too_large_for_nats_is_one_attempt(
    tmp_path: Path, setting: int
) -> None:
    """A heartbeat was written with the result and died on the server's limit: five attempts in 22 s."""
    async with running(
        tmp_path,
        worker=worker(tmp_path),
        max_run_snapshot_bytes=setting,
        run_heartbeat_interval_sec=0.05,
        consumer_ack_wait_sec=3.0,
        ack_progress_interval_sec=0.2,
    ) as backend:
        accepted = await backend.submit(flow("big", "big", "nap", seconds=0.5))
        end = await ended(backend, accepted.run_id)
        assert (end.status, end.attempt) == (RunStatus.COMPLETED, 1)
        assert set(end.tasks.values()) == {TaskState.SUCCEEDED}
        assert executions(tmp_path) == [accepted.run_id] * 3


async def test_fault_12_every_snapshot_of_a_run_names_its_worker(
    tmp_path: Path, written: Written
) -> None:
    """`worker_id` was there in the first write of the worker only."""
    async with running(
        tmp_path, worker=worker(tmp_path), run_heartbeat_interval_sec=0.05
    ) as backend:
        accepted = await backend.submit(flow("nap", "nap", "nap", seconds=0.2))
        await ended(backend, accepted.run_id)
        snapshots = written.of(accepted.run_id)
        assert len(snapshots) >= 5
        assert [snapshot.worker_id for snapshot in snapshots] == [None] + ["w1"] * (
            len(snapshots) - 1
        )


async def test_fault_14_code_that_holds_the_gil_does_not_cost_the_lease(
    tmp_path: Path, written: Written
) -> None:
    """User code ran in the worker's process, and no heartbeat and no ack came while it held the lock."""
    async with running(
        tmp_path,
        worker=worker(tmp_path),
        consumer_ack_wait_sec=2.0,
        ack_progress_interval_sec=0.2,
        run_heartbeat_interval_sec=0.1,
    ) as backend:
        gaps: list[float] = []
        # Ten times the interval, in the best of some: this machine may be busy.
        while len(gaps) < 5 and min(gaps, default=9.0) >= 1.0:
            accepted = await backend.submit(flow("hold", seconds=2.5))
            end = await ended(backend, accepted.run_id)
            assert (end.status, end.attempt) == (RunStatus.COMPLETED, 1)
            beats = [snapshot.heartbeat_at or 0.0 for snapshot in written.of(accepted.run_id)[1:]]
            assert beats[-1] - beats[0] > 2.5
            gaps.append(max(after - before for before, after in pairwise(beats)))
        assert min(gaps) < 1.0, gaps


@pytest.mark.parametrize("crash", ["segfault", "leave", "out_of_memory"])
async def test_fault_14_a_crash_of_task_code_fails_its_run_and_not_the_worker(
    tmp_path: Path, crash: str
) -> None:
    async with running(tmp_path, worker=worker(tmp_path)) as backend:
        accepted = await backend.submit(flow("nap", crash))
        end = await ended(backend, accepted.run_id)
        assert (end.status, end.reason) == (RunStatus.FAILED, "worker_crashed")
        assert end.tasks == {"nap_0": TaskState.SUCCEEDED, f"{crash}_1": TaskState.FAILED}
        after = await ended(backend, (await backend.submit(new_run("quick"))).run_id)
        assert after.status is RunStatus.COMPLETED
        assert after.worker_instance_id == end.worker_instance_id
