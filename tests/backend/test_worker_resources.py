"""A worker without memory, threads or processes left."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trio

from backend.stage import ended, eventually, new_run, no_threads_for, running, worker_options
from backend.test_worker_disk import unfit_slots
from pyoco_server.backend import Backend
from pyoco_server.gateway.new_run import NewRun
from pyoco_server.jetstream.errors import Unavailable
from pyoco_server.model import decisions
from pyoco_server.model.run import RunStatus
from pyoco_server.process import spawn_owned
from pyoco_server.worker import executor, housekeeper
from pyoco_server.worker.attempt import Attempt
from pyoco_server.worker.child import SlotChild
from pyoco_server.worker.runner import catalog
from pyoco_server.worker.tree import WorkerOptions
from runner.test_imports import GOOD, plug_in

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
ONE = 'flow: {graph: a}\ntasks: {a: {callable: "threadless:one"}}\n'
# For the guardian, and so for the children that it makes.
SCARCE = """\
import errno
import faulthandler
import os
import threading
from pathlib import Path

SCARCE = Path({!r})
fork, start, watch = os.fork, threading.Thread.start, faulthandler.dump_traceback_later


def is_scarce(what):
    return SCARCE.exists() and SCARCE.read_text() == what


def fork_if_there_is_room():
    if is_scarce("fork"):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
    return fork()


def start_if_there_is_room(self):
    if is_scarce("thread"):
        raise RuntimeError("can't start new thread")
    start(self)


def watch_if_there_is_room(*args, **said):
    if is_scarce("watchdog"):
        raise RuntimeError("unable to start watchdog thread")
    watch(*args, **said)


os.fork, threading.Thread.start = fork_if_there_is_room, start_if_there_is_room
faulthandler.dump_traceback_later = watch_if_there_is_room
"""
PLAIN = """def one():
    return 1


async def later():
    return 1
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
            new = replace(of_yaml(PARALLEL), max_attempts=1)
            run = await backend.submit(new)
            assert await unfit.receive() == 0
            await eventually(lambda: rests_for_want_of_threads(backend))
            snapshot = await ended(backend, run.run_id)
            await eventually(lambda: working(backend))
    assert (snapshot.status, snapshot.attempt) == (RunStatus.COMPLETED, 2)
    assert [each.reason for each in snapshot.attempts] == ["no_threads"]
    assert snapshot.uncounted_attempts == 1


async def test_it_goes_back_as_no_attempt_although_nats_does_not_answer_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run FAILED, for it had had its one attempt, with nothing executed."""
    release = Attempt.release
    failures = [Unavailable("the connection broke")]

    async def unavailable(self: Attempt, *why: str, counts: bool = True) -> decisions.Finish:
        if failures:
            raise failures.pop()
        return await release(self, *why, counts=counts)

    monkeypatch.setattr(Attempt, "release", unavailable)
    async with running(tmp_path, worker=with_code(tmp_path)) as backend:
        run = await backend.submit(replace(of_yaml(PARALLEL), max_attempts=1))
        snapshot = await ended(backend, run.run_id)
    assert (snapshot.status, snapshot.uncounted_attempts) == (RunStatus.COMPLETED, 1)
    assert failures == []


async def resting(backend: Backend) -> list[str]:
    """Why slots of workers take no runs."""
    record = await backend.worker(backend.worker_id or "")
    return [slot.resting for slot in record.slots if slot.resting] if record is not None else []


async def rests_for_want_of_threads(backend: Backend) -> bool:
    return await resting(backend) == ["the worker had no threads or processes left"]


async def working(backend: Backend) -> bool:
    return await resting(backend) == []


@pytest.mark.parametrize("where", ["fork", "thread"])
async def test_a_slot_whose_next_child_finds_no_room_rests_and_goes_on(
    tmp_path: Path, where: str
) -> None:
    """For a run of another tenant it takes another child."""
    (tmp_path / "sitecustomize.py").write_text(SCARCE.format(str(tmp_path / "scarce")))
    options = replace(with_code(tmp_path), env={"PYTHONPATH": str(tmp_path)})
    async with running(tmp_path, worker=options) as backend:
        await ended(backend, (await backend.submit(of_yaml(ONE))).run_id)
        with unfit_slots(backend) as unfit, trio.fail_after(60):
            (tmp_path / "scarce").write_text(where)
            new = replace(of_yaml(ONE), tenant_id="b", max_attempts=1)
            run = await backend.submit(new)
            assert await unfit.receive() == 0
            await eventually(lambda: resting(backend))
            (tmp_path / "scarce").unlink()
            snapshot = await ended(backend, run.run_id)
    assert snapshot.status is RunStatus.COMPLETED


@pytest.mark.parametrize(
    ("where", "task"),
    [
        ("watchdog", '{callable: "another:one"}'),
        ("fork", '{callable: "plain:one", timeout_sec: 30, retries: 1}'),
        ("fork", '{callable: "plain:one", timeout_sec: 30, on_failure: isolate}'),
        ("thread", '{callable: "plain:later"}'),
    ],
)
async def test_a_run_whose_first_task_finds_no_room_goes_back_and_is_executed_later(
    tmp_path: Path, where: str, task: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SCARCE.format(str(tmp_path / "scarce")))
    for name in ("plain", "another"):
        (tmp_path / f"{name}.py").write_text(PLAIN)
    options = replace(with_code(tmp_path), env={"PYTHONPATH": str(tmp_path)})
    async with running(tmp_path, worker=options) as backend:
        yaml = 'flow: {graph: a}\ntasks: {a: {callable: "plain:one"}}\n'
        await ended(backend, (await backend.submit(of_yaml(yaml))).run_id)
        with unfit_slots(backend) as unfit, trio.fail_after(60):
            (tmp_path / "scarce").write_text(where)
            new = of_yaml(f"flow: {{graph: a}}\ntasks: {{a: {task}}}\n")
            run = await backend.submit(replace(new, max_attempts=1))
            assert await unfit.receive() == 0
            (tmp_path / "scarce").unlink()
            snapshot = await ended(backend, run.run_id)
    assert snapshot.status is RunStatus.COMPLETED
    assert {each.reason for each in snapshot.attempts} == {"no_threads"}
    record = snapshot.task_records["a"]
    assert record.output == 1
    assert [each.number for each in record.tries or ()] == ([1] if "retries" in task else [])


@pytest.mark.parametrize("error", [errno.EAGAIN, errno.EMFILE])
async def test_a_run_whose_plug_ins_cannot_be_looked_at_goes_back_and_is_executed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    plug_in(tmp_path, "good", GOOD)
    refused = False

    def spawn(*args: Any, **said: Any) -> Any:
        nonlocal refused
        if not refused:
            refused = True
            raise OSError(error, os.strerror(error))
        return spawn_owned(*args, **said)

    monkeypatch.setattr(catalog, "spawn_owned", spawn)
    async with running(tmp_path, worker=with_code(tmp_path)) as backend:
        with unfit_slots(backend) as unfit, trio.fail_after(60):
            new = replace(of_yaml("flow: {graph: greet}\n"), max_attempts=1)
            run = await backend.submit(new)
            assert await unfit.receive() == 0
            await eventually(lambda: resting(backend))
            snapshot = await ended(backend, run.run_id)
    assert (snapshot.status, snapshot.attempt) == (RunStatus.COMPLETED, 2)
    assert [each.reason for each in snapshot.attempts] == ["no_threads"]
    assert snapshot.uncounted_attempts == 1


async def test_a_slot_for_which_there_is_no_process_rests_and_goes_on(tmp_path: Path) -> None:
    real = SlotChild._start
    refused = 0

    async def start(child: SlotChild, *, worn: bool) -> None:
        nonlocal refused
        refused += 1
        if refused <= 2:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        await real(child, worn=worn)

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


async def test_a_worker_without_threads_has_its_folder_all_the_same_and_removes_it(
    tmp_path: Path,
) -> None:
    left = tmp_path / "state" / "work" / "left"
    left.mkdir(parents=True)
    with no_threads_for(housekeeper) as refused:
        async with running(tmp_path) as backend:
            run = await backend.submit(new_run("quick"))
            assert (await ended(backend, run.run_id)).status is RunStatus.COMPLETED
    assert len(refused) == 3
    assert list(left.parent.iterdir()) == []


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
