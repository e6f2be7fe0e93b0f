"""Memory and threads that run out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyoco_server.model.run import RunStatus
from pyoco_server.worker.runner import meter
from pyoco_server.worker.runner.options import RunnerOptions
from runner.children import Flows, a_child

TASKS = """\
import subprocess
import sys
import threading
from pathlib import Path


def touch(mb):
    return len(bytearray(mb << 20))


def touch_beside(mb):
    subprocess.run([sys.executable, "-c", f"bytearray({mb} << 20)"], check=True)


def takes():
    return bytes(1 << 60)


def score():
    return Path("/proc/self/oom_score_adj").read_text().strip()


def wrapped():
    raise RuntimeError("can't start new thread")


def one():
    return 1
"""


def test_a_process_that_has_ended_since_it_was_looked_at_has_no_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It counted with all that it had shared with others, which were counted with their shares."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    had, resident = {ended.pid: 1 << 40}, meter._resident
    monkeypatch.setattr(meter, "_resident", lambda pid: had.pop(pid, None) or resident(pid))
    assert 0 < meter.memory_of({os.getpid(), ended.pid}, enough=0) < 1 << 40
    assert had == {}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "hungry.py").write_text(TASKS)
    (tmp_path / "threadless.py").write_text(
        TASKS + '\n\ndef start(self):\n    raise RuntimeError("can\'t start new thread")\n'
        "\nthreading.Thread.start = start\n"
    )
    return tmp_path


async def test_a_memory_error_is_told_as_such_with_the_peak(place: Path) -> None:
    async with a_child(RunnerOptions(extra_sys_path=(str(place),))) as runner:
        flows = Flows(runner)
        finished = (await flows.run("a", a={"callable": "hungry:takes"})).finished
        assert (finished.status, finished.reason) == (RunStatus.FAILED, "out_of_memory")
        assert (finished.error or "").startswith("out_of_memory: ")
        assert "MB at most" in (finished.error or "")
        score = (await flows.run("a", a={"callable": "hungry:score"})).finished
        assert score.task_records["a"].output == "500"


async def test_the_peak_of_a_run_is_none_of_an_earlier_one(place: Path) -> None:
    """What was in a process that a run had started was left out, from the child's second such run on."""
    async with a_child(RunnerOptions(extra_sys_path=(str(place),))) as runner:
        flows = Flows(runner)

        async def peak_mb(task: str, mb: int, **said: object) -> float:
            task_of_run = {"callable": f"hungry:{task}", "inputs": {"mb": mb}, **said}
            finished = (await flows.run("a", a=task_of_run)).finished
            assert finished.error is None
            assert finished.usage is not None
            return (finished.usage.peak_memory_bytes or 0) / 2**20

        first, second = [await peak_mb("touch", mb, timeout_sec=60) for mb in (200, 150)]
        assert 150 < second < 200 < first
        assert await peak_mb("touch_beside", 400) > 400
        assert await peak_mb("touch_beside", 150) == 0, "nobody knows it"
        assert 0 < await peak_mb("touch", 1) < 150


async def test_no_thread_is_told_apart_from_a_task_that_raises(place: Path) -> None:
    async with a_child(RunnerOptions(extra_sys_path=(str(place),))) as runner:
        flows = Flows(runner)
        finished = (await flows.run("a", a={"callable": "hungry:wrapped"})).finished
        assert finished.reason == "execution_error"
        one = {"callable": "threadless:one"}
        finished = (await flows.run("(a & b) >> c", a=one, b=one, c=one)).finished
        assert (finished.reason, finished.error) == ("no_threads", "can't start new thread")


def test_the_kernel_tells_of_processes_that_it_killed() -> None:
    assert meter.oom_kills() >= 0
    assert f"\noom_kill {meter.oom_kills()}\n" in Path("/proc/vmstat").read_text()
