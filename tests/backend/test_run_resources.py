"""What a run may take of its machine, and what is told of what it took."""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from backend.stage import TAG, dead_letters, ended, eventually, running
from pyoco_server.backend import Backend
from pyoco_server.gateway.new_run import NewRun
from pyoco_server.model.run import RunSnapshot, RunStatus, Usage
from pyoco_server.worker import resource_watch
from pyoco_server.worker.runner import kin
from pyoco_server.worker.tree import WorkerOptions
from runner.children import flow_yaml

pytestmark = pytest.mark.nats
MB = 1024 * 1024

TASKS = """\
import os
import signal
import subprocess
import sys
import time

ALLOCATE = "import sys, time; x = bytearray(int(sys.argv[1]) << 20); time.sleep(float(sys.argv[2]))"


def allocate(mb, seconds=20):
    x = bytearray(mb << 20)
    time.sleep(seconds)
    return len(x)


def allocate_beside(mb, count):
    command = [sys.executable, "-c", ALLOCATE, str(mb), "20"]
    processes = [subprocess.Popen(command, start_new_session=True) for _ in range(count)]
    for process in processes:
        process.wait()


def fork(mb, count):
    x = bytearray(os.urandom(1 << 20) * mb)
    for _ in range(count):
        if not os.fork():
            time.sleep(0.5)
            os._exit(0)
    time.sleep(0.5)
    return len(x)


def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def burn_deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    burn(60)


def burn_beside():
    code = "while True: pass"
    subprocess.run([sys.executable, "-c", code], start_new_session=True)


def burn_and_fail():
    burn(0.3)
    raise ValueError("no")


def burn_and_crash():
    x = bytearray(100 << 20)
    burn(0.3)
    os.kill(os.getpid(), 9)


def one():
    return 1


def until(path):
    end = time.monotonic() + 60
    while not os.path.exists(path):
        assert time.monotonic() < end
        time.sleep(0.01)


KEPT = []


def keep(mb):
    KEPT.append(os.urandom(mb << 20))
    return os.getpid()
"""

HEAVY = """\
import os

DATA = os.urandom(60 << 20)


def pid():
    return os.getpid()
"""


@asynccontextmanager
async def a_worker(folder: Path, **changes: Any) -> AsyncIterator[Backend]:
    (folder / "hungry.py").write_text(TASKS)
    options = WorkerOptions(tags=(TAG,), slots=1, import_paths=(str(folder),))
    async with running(folder, worker=options, **changes) as backend:
        yield backend


async def run(backend: Backend, task: str, inputs: Any = None, **limits: Any) -> RunSnapshot:
    callable_ = task if ":" in task else f"hungry:{task}"
    text = flow_yaml("a", {"a": {"callable": callable_, "inputs": inputs or {}}})
    new = dataclasses.replace(NewRun("main", TAG, workflow_yaml=text), **limits)
    accepted = await backend.submit(new)
    return await ended(backend, accepted.run_id)


async def letter_of(backend: Backend, reason: str) -> None:
    async def is_there() -> bool:
        return [letter["reason"] for letter in await dead_letters(backend)] == [reason]

    await eventually(is_there)


def taken(snapshot: RunSnapshot) -> tuple[int, float]:
    assert isinstance(snapshot.usage, Usage)
    assert snapshot.usage.peak_memory_bytes is not None
    assert snapshot.usage.cpu_sec is not None
    return snapshot.usage.peak_memory_bytes, snapshot.usage.cpu_sec


@pytest.mark.parametrize(
    ("task", "inputs"),
    [("allocate", {"mb": 400}), ("allocate_beside", {"mb": 70, "count": 3})],
)
async def test_a_run_over_its_memory_ends_with_the_peak(
    tmp_path: Path, task: str, inputs: dict[str, int]
) -> None:
    async with a_worker(tmp_path) as backend:
        snapshot = await run(backend, task, inputs, memory_mb=180)
        assert (snapshot.status, snapshot.reason) == (RunStatus.FAILED, "out_of_memory")
        peak, _ = taken(snapshot)
        assert peak > 180 * MB
        assert (snapshot.error or "") == (
            f"out_of_memory: the processes of the attempt had {peak / MB:.0f} MB of memory, "
            "and may have 180 MB"
        )
        await letter_of(backend, "out_of_memory")
        # The next run has what it may have.
        assert (await run(backend, "allocate", {"mb": 250, "seconds": 0.2})).status == "COMPLETED"


async def test_memory_that_processes_share_counts_once(tmp_path: Path) -> None:
    async with a_worker(tmp_path) as backend:
        snapshot = await run(backend, "fork", {"mb": 100, "count": 5}, memory_mb=300)
    assert snapshot.status is RunStatus.COMPLETED, snapshot.error


@pytest.mark.parametrize(
    ("task", "inputs"), [("burn", {"seconds": 60}), ("burn_beside", {}), ("burn_deaf", {})]
)
async def test_a_run_over_its_processor_time_ends(
    tmp_path: Path, task: str, inputs: dict[str, int]
) -> None:
    async with a_worker(tmp_path) as backend:
        snapshot = await run(backend, task, inputs, cpu_sec=0.9)
        assert (snapshot.status, snapshot.reason) == (RunStatus.FAILED, "cpu_limit")
        assert (snapshot.error or "").startswith("cpu_limit: the attempt took ")
        assert (snapshot.error or "").endswith(" s of processor time, and may take 0.9 s")
        await letter_of(backend, "cpu_limit")
        # What runs before it took is not its own.
        for _ in range(3):
            assert (await run(backend, "burn", {"seconds": 0.5}, cpu_sec=0.9)).status == "COMPLETED"


async def test_a_worker_bounds_the_runs_that_do_not_and_those_that_ask_for_more(
    tmp_path: Path,
) -> None:
    async with a_worker(tmp_path, worker_memory_mb=150, worker_cpu_sec=0.4) as backend:
        for asked, may in ((None, 150), (1000, 150), (120, 120)):
            snapshot = await run(backend, "allocate", {"mb": 300}, memory_mb=asked)
            assert (snapshot.error or "").endswith(f"may have {may} MB")
        snapshot = await run(backend, "burn", {"seconds": 60}, cpu_sec=100.0)
        assert (snapshot.error or "").endswith("may take 0.4 s")


async def test_what_an_attempt_took_is_of_this_attempt(tmp_path: Path) -> None:
    async with a_worker(tmp_path) as backend:
        small, _ = taken(await run(backend, "one"))
        peak, cpu = taken(await run(backend, "allocate", {"mb": 150, "seconds": 0}))
        assert 150 * MB < peak < 150 * MB + small + 20 * MB
        peak, _ = taken(await run(backend, "one"))
        assert peak < small + 20 * MB
        _, cpu = taken(await run(backend, "burn", {"seconds": 0.3}))
        assert 0.29 < cpu < 0.6
        _, cpu = taken(await run(backend, "one"))
        assert cpu < 0.2


@pytest.mark.parametrize("ending", ["burn_and_fail", "burn_and_crash"])
async def test_each_attempt_has_its_own(tmp_path: Path, ending: str) -> None:
    async with a_worker(tmp_path) as backend:
        await run(backend, "burn", {"seconds": 0.3})  # by the same child
        snapshot = await run(backend, ending, max_attempts=2, retry_backoff_sec=0.0)
    assert (snapshot.status, snapshot.attempt) == (RunStatus.FAILED, 2)
    (first,) = snapshot.attempts
    for peak, cpu in ((first.peak_memory_bytes, first.cpu_sec), taken(snapshot)):
        assert peak is not None
        assert cpu is not None
        assert (peak > 100 * MB) is (ending == "burn_and_crash")
        assert 0.29 < cpu < 0.6


async def test_a_run_that_is_stopped_has_it_too(tmp_path: Path) -> None:
    async with a_worker(tmp_path) as backend:
        snapshot = await run(backend, "burn", {"seconds": 60}, timeout_sec=2.0)
    assert snapshot.reason == "timeout"
    assert taken(snapshot)[1] > 0.05


async def test_what_earlier_runs_kept_is_none_of_the_memory_of_a_run(tmp_path: Path) -> None:
    async with a_worker(tmp_path) as backend:
        await run(backend, "keep", {"mb": 150})
        snapshot = await run(backend, "burn", {"seconds": 0.3}, memory_mb=120)
    assert snapshot.status is RunStatus.COMPLETED, snapshot.error


async def test_a_child_goes_on_for_runs_with_limits_that_need_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "heavy.py").write_text(HEAVY)
    async with a_worker(tmp_path, worker_memory_mb=200) as backend:

        async def pid(task: str, inputs: Any = None) -> object:
            return (await run(backend, task, inputs)).task_records["a"].output

        heavy = {await pid("heavy:pid") for _ in range(3)}
        assert len(heavy) == 1, "what it imported is its own"
        keeping = [await pid("keep", {"mb": mb}) for mb in (1, 40, 1)]
        assert keeping[0] not in heavy, "it is not another flow's"
        assert keeping[0] == keeping[1] != keeping[2]


async def test_a_look_that_takes_long_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as long, the whole worker stood still, twenty times a second."""
    seen, moved = tmp_path / "seen", threading.Event()
    looks: list[tuple[float, bool, float]] = []

    def memory_of(_pids: set[int], _enough: int) -> int:
        began = time.monotonic()
        moved.clear()
        others_go_on = moved.wait(5)
        time.sleep(0.02)
        looks.append((began, others_go_on, time.monotonic()))
        if len(looks) == 3:
            seen.touch()
        return 0

    async def move() -> None:
        while True:
            moved.set()
            await trio.sleep(0.001)

    monkeypatch.setattr(resource_watch, "memory_of", memory_of)
    async with a_worker(tmp_path) as backend, trio.open_nursery() as nursery:
        nursery.start_soon(move)
        snapshot = await run(backend, "until", {"path": str(seen)}, memory_mb=500)
        nursery.cancel_scope.cancel()
    assert snapshot.status is RunStatus.COMPLETED, snapshot.error
    assert all(others_go_on for _, others_go_on, _ in looks)
    for (began, _, ended_at), (again, _, _) in pairwise(looks):
        assert again - ended_at > 9 * (ended_at - began)


async def test_a_worker_without_descriptors_looks_at_a_run_once_it_has_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its slot crashed, and the attempt counted."""
    find = kin.descendants
    missing = 3

    def descendants(pid: int) -> set[int]:
        nonlocal missing
        if missing:
            missing -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return find(pid)

    async with a_worker(tmp_path) as backend:
        await run(backend, "burn", {"seconds": 0.5})  # before, by the same child
        monkeypatch.setattr(kin, "descendants", descendants)
        snapshot = await run(
            backend, "burn", {"seconds": 0.3}, memory_mb=500, cpu_sec=0.6, max_attempts=1
        )
    assert missing == 0
    assert (snapshot.status, snapshot.attempt) == (RunStatus.COMPLETED, 1), snapshot.error
