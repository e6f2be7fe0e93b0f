"""The processes of a run end with it, however it ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from isolation.families import alive_with, appeared, gone, parent_of
from isolation.lives import Lives, lives
from isolation.ways import WAYS
from pyoco_server.model.run import RunStatus
from pyoco_server.worker.runner.handle import RunnerProcess
from pyoco_server.worker.runner.options import RunnerOptions
from pyoco_server.worker.runner.protocol import CancelRun, FlowFinished, Output
from runner.children import Flows


@pytest.fixture
async def slot(tmp_path: Path) -> AsyncIterator[Lives]:
    async with lives(tmp_path / "0") as slot:
        yield slot


def spawning(way: str, mark: str, *, stay: bool) -> dict[str, object]:
    return {"callable": f"spawns:{way}", "inputs": {"mark": mark, "stay": stay}}


@pytest.mark.parametrize("way", [way for way in WAYS if way != "run"])
async def test_they_end_with_a_run_that_ends_by_itself(
    slot: Lives, way: str, tmp_path: Path
) -> None:
    mark = str(tmp_path)
    told = await slot.run(spawning(way, mark, stay=False))
    assert told.finished.status is RunStatus.COMPLETED, told.finished.error
    assert "processes" in (told.finished.worn or "")
    assert alive_with(mark) == []


@pytest.mark.parametrize("how", ["terminate", "kill", "stop", "crash"])
@pytest.mark.parametrize("way", ["run", "bare_daemon", "deaf", "multiprocessing_task"])
async def test_they_end_with_a_child_that_is_ended(
    slot: Lives, way: str, how: str, tmp_path: Path
) -> None:
    mark = str(tmp_path)
    flows = await slot.begin(spawning(way, mark, stay=True))
    await flows.hear(Output)
    await appeared(mark)
    runner = slot.child.runner
    if how == "crash":
        os.kill(runner.pid, signal.SIGKILL)
    elif how == "stop":
        await runner.stop(0)
    else:
        getattr(runner, how)()
    await flows.hear(())
    assert alive_with(mark) == [], "gone before the slot is told"


async def test_a_cancel_leaves_none(slot: Lives, tmp_path: Path) -> None:
    mark = str(tmp_path)
    flows = await slot.begin(spawning("until_cancelled", mark, stay=True))
    await flows.hear(Output)
    await slot.child.runner.send(CancelRun(run_id=slot.job.run_id))
    assert (await slot.end(flows)).finished.status is RunStatus.CANCELLED
    assert alive_with(mark) == []


async def test_a_run_whose_guardian_is_killed_goes_on_and_its_child_is_replaced(
    slot: Lives, tmp_path: Path
) -> None:
    flows = await slot.begin(spawning("until_told", str(tmp_path), stay=True))
    await flows.hear(Output)
    pid = slot.pid
    guardian = parent_of(pid)
    os.kill(guardian, signal.SIGKILL)
    await gone(guardian)
    (tmp_path / "told").touch()
    told = await slot.end(flows)
    assert told.finished.status is RunStatus.COMPLETED
    assert told.finished.worn == "it has lost its guardian"
    await gone(pid)
    assert slot.pid != pid
    assert alive_with(str(tmp_path)) == []
    assert (await slot.run("count")).finished.worn is None


async def test_a_child_that_lost_its_guardian_is_killed_with_all_that_it_started(
    slot: Lives, tmp_path: Path
) -> None:
    mark = str(tmp_path)
    flows = await slot.begin(spawning("bare_daemon", mark, stay=True))
    await flows.hear(Output)
    runner = slot.child.runner
    os.kill(parent_of(runner.pid), signal.SIGKILL)
    with trio.move_on_after(0.2):
        await runner.next_event()
    runner.kill()
    exited = (await flows.hear(())).exited
    assert exited.signal == "SIGKILL"
    assert alive_with(mark) == []


@pytest.mark.parametrize("way", ["end", "time limit", "kill", "crash"])
async def test_shared_memory_ends_with_its_run(slot: Lives, way: str) -> None:
    limit = {"timeout_sec": 0.5} if way == "time limit" else {}
    inputs = {"stay": way != "end"}
    flows = await slot.begin({"callable": "spawns:share_memory", "inputs": inputs, **limit})
    event = (await flows.hear(Output)).last
    assert isinstance(event, Output)
    memory = Path("/dev/shm") / event.text.strip()
    if way == "kill":
        slot.child.runner.kill()
    elif way == "crash":
        os.kill(slot.pid, signal.SIGKILL)
    await slot.end(flows)
    assert not memory.exists()


NOT_YET = """\
import os, sys, time, types
from pyoco_server.worker.runner import kin, libc

libc.adopt_orphans()
held, watched = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(watched)
    time.sleep(0.3)  # in which it would become another program
    os.read(held, 1)
    open({done!r}, "w").close()
    os._exit(0)
tracking = types.ModuleType("tracking.resource_tracker")
tracking._resource_tracker = types.SimpleNamespace(_fd=watched, _pid=pid)
sys.modules[tracking.__name__] = tracking
kin.end_children()
"""


async def test_a_tracker_that_was_made_a_moment_ago_ends_by_itself(tmp_path: Path) -> None:
    done = tmp_path / "done"
    with trio.fail_after(60):
        await trio.run_process([sys.executable, "-c", NOT_YET.format(done=str(done))])
    assert done.exists()


HELD = """\
import os

kill = os.kill


def kill_what_the_kernel_does_not_hold(pid, number):
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            if MARK in file.read():
                return
    except FileNotFoundError:
        pass
    kill(pid, number)


os.kill = kill_what_the_kernel_does_not_hold
"""


async def test_what_the_kernel_holds_of_one_child_holds_back_the_ends_of_no_others(
    tmp_path: Path,
) -> None:
    mark = str(tmp_path)
    (tmp_path / "sitecustomize.py").write_text(f"MARK = {mark!r}\n{HELD}")
    options = RunnerOptions(env={"PYTHONPATH": str(tmp_path)})
    others: list[RunnerProcess] = []
    async with lives(tmp_path / "0", env=options.env) as slot, trio.open_nursery() as nursery:

        async def end_another(within: float) -> bool:
            other = await slot.spare.take(options)
            others.append(other)
            other.kill()
            with trio.move_on_after(within):
                await Flows(other).hear(())
                return True
            return False

        async def end_others() -> None:
            """More often than the guardian gives up waiting."""
            while True:
                await end_another(0.5)

        flows = await slot.begin(spawning("bare_daemon", mark, stay=True))
        await flows.hear(Output)
        await appeared(mark)
        try:
            nursery.start_soon(end_others)
            slot.child.runner.kill()
            with trio.fail_after(30):
                await flows.hear(())
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                assert await end_another(3), "it is waited for once"
        finally:
            for line in alive_with(mark):
                os.kill(int(line.partition(":")[0]), signal.SIGKILL)
            with trio.CancelScope(shield=True):
                for other in others:
                    await other.stop(0)


STARTS_ON = """\
import subprocess, sys, threading, time
from pyoco_server.worker.runner import kin, libc

def end():
    time.sleep(0.2)
    kin.end_all()

libc.adopt_orphans()
threading.Thread(target=end, daemon=True).start()
while True:
    argv = [sys.executable, "-S", "-c", "import time; time.sleep(600)", {mark!r}]
    subprocess.run(argv, start_new_session=True)  # as soon as one was killed, there is the next
"""


async def test_a_process_ends_with_all_that_it_starts_while_it_is_ended(tmp_path: Path) -> None:
    mark = str(tmp_path)
    for _ in range(3):
        code = STARTS_ON.format(mark=mark)
        with trio.fail_after(60):
            await trio.run_process([sys.executable, "-c", code], check=False)
        assert alive_with(f"time.sleep(600) {mark}") == []


@pytest.mark.parametrize("way", ["return", "raise", "exit", "in C"])
async def test_a_forked_copy_ends_when_it_returns_and_says_nothing(
    slot: Lives, way: str, tmp_path: Path
) -> None:
    told = await slot.run({"callable": "spawns:wait_for_copy", "inputs": {"way": way}})
    assert told.finished.status is RunStatus.COMPLETED, told.finished.error
    assert told.finished.task_records["a"].output == {
        "code": 0 if way in ("return", "in C") else 1,
        "bytes": "",
    }
    assert [type(event) for event in told.events].count(FlowFinished) == 1


@pytest.mark.parametrize("how", ["terminate and kill", "stop", "cancel the wait"])
async def test_a_child_that_has_stopped_itself_and_its_guardian_is_ended(
    slot: Lives, how: str
) -> None:
    flows = await slot.begin("stop_itself_and_its_guardian")
    runner = slot.child.runner
    await flows.hear(Output)
    if how == "terminate and kill":
        runner.terminate()
        runner.kill()
    else:
        with trio.move_on_after(0.1 if how == "cancel the wait" else 20):
            await runner.stop(0.2)
    assert (await slot.end(flows)).exited.signal in ("SIGKILL", "SIGTERM")
    assert (await slot.run("count")).finished.status is RunStatus.COMPLETED
