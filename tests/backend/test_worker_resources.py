"""A worker without memory, threads or processes left."""

from __future__ import annotations

import errno
from pathlib import Path
from unittest import mock

import pytest
import trio

from backend.stage import ended, new_run, running, worker_options
from backend.test_worker_disk import unfit_slots
from pyoco_server.gateway.submitter import NewRun
from pyoco_server.model.run import RunStatus
from pyoco_server.worker import executor
from pyoco_server.worker.child import SlotChild
from pyoco_server.worker.tree import WorkerOptions

pytestmark = pytest.mark.nats

THREADLESS = """\
import os
import threading

real = threading.Thread.start


def start(self):
    if os.environ.get("PYOCO_RUN_ATTEMPT") == "1":
        raise RuntimeError("can't start new thread")
    real(self)


threading.Thread.start = start


def one():
    return 1


def killed():
    os.kill(os.getpid(), 9)
"""
PARALLEL = """\
flow: {graph: a & b}
tasks:
  a: {callable: "threadless:one"}
  b: {callable: "threadless:one"}
"""


def with_code(folder: Path) -> WorkerOptions:
    (folder / "threadless.py").write_text(THREADLESS)
    return worker_options(folder, slots=1, import_paths=(str(folder),))


def of_yaml(text: str) -> NewRun:
    plain = new_run("quick")
    return NewRun("main", plain.tag, workflow_yaml=text)


async def test_a_run_for_which_there_is_no_thread_goes_back_and_is_executed_later(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, worker=with_code(tmp_path)) as backend:
        with unfit_slots(backend) as unfit, trio.fail_after(60):
            run = await backend.submit(of_yaml(PARALLEL))
            assert await unfit.receive() == 0
            snapshot = await ended(backend, run.run_id)
    assert (snapshot.status, snapshot.attempt) == (RunStatus.COMPLETED, 2)
    assert [each.reason for each in snapshot.attempts] == ["no_threads"]


async def test_a_slot_for_which_there_is_no_process_rests_and_goes_on(tmp_path: Path) -> None:
    real = SlotChild._start
    refused = 0

    async def start(child: SlotChild) -> None:
        nonlocal refused
        refused += 1
        if refused <= 2:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        await real(child)

    async with running(tmp_path, worker=with_code(tmp_path)) as backend:
        first = await backend.submit(new_run("quick"))
        await ended(backend, first.run_id)
        with (
            unfit_slots(backend) as unfit,
            trio.fail_after(60),
            mock.patch.object(SlotChild, "_start", start),
        ):
            await backend.refresh_slots()
            assert await unfit.receive() == 0
            run = await backend.submit(new_run("quick"))
            snapshot = await ended(backend, run.run_id)
    assert (snapshot.status, snapshot.attempt, refused) == (RunStatus.COMPLETED, 1, 3)


@pytest.mark.parametrize(("kills", "reason"), [(1, "out_of_memory"), (0, "worker_crashed")])
async def test_a_child_that_the_kernel_killed_for_want_of_memory_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int, reason: str
) -> None:
    counts = iter([5, 5 + kills, *[5 + kills] * 10])
    monkeypatch.setattr(executor, "oom_kills", lambda: next(counts))
    async with running(tmp_path, worker=with_code(tmp_path)) as backend:
        yaml = 'flow: {graph: a}\ntasks: {a: {callable: "threadless:killed"}}\n'
        run = await backend.submit(of_yaml(yaml))
        snapshot = await ended(backend, run.run_id)
    assert (snapshot.status, snapshot.reason) == (RunStatus.FAILED, reason)
    assert (snapshot.error or "").startswith(f"{reason}: the child process was killed by SIGKILL")
