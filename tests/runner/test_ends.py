"""How runs and children end: cancelled, stopped, crashed, killed, orphaned."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from pyoco_server.model.run import RunStatus, TaskState
from pyoco_server.worker.runner.guarded import Guardian
from pyoco_server.worker.runner.handle import Exited, open_runner
from pyoco_server.worker.runner.options import RunnerOptions
from pyoco_server.worker.runner.protocol import (
    CancelRun,
    Execute,
    FlowFinished,
    Output,
    Ready,
    Stop,
    TaskChanged,
)
from runner.children import CODE, WITHIN_SECONDS, Flows, a_child


def started(name: str) -> Callable[[object], bool]:
    return lambda event: isinstance(event, TaskChanged) and event.name == name


async def gone(pid: int) -> None:
    """Wait until there is no such process, or only its remains."""
    with trio.fail_after(WITHIN_SECONDS):
        while True:
            try:
                stat = await trio.Path(f"/proc/{pid}/stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                return
            if stat.rpartition(")")[2].split()[0] == "Z":
                return
            await trio.sleep(0.01)


@pytest.mark.parametrize("graph", ["a >> b", "repeat(count=1) { a >> b }"])
async def test_a_cancelled_run_starts_no_further_task(flows: Flows, graph: str) -> None:
    run_id = await flows.send(graph, a="until_cancelled", b="one")
    await flows.hear(started("a"))
    await flows.runner.send(CancelRun(run_id="another"))
    await flows.runner.send(CancelRun(run_id=run_id))
    finished = (await flows.hear()).finished
    assert (finished.status, finished.error) == (RunStatus.CANCELLED, None)
    assert finished.tasks == {"a": TaskState.SUCCEEDED, "b": TaskState.CANCELLED}
    assert finished.task_records["b"].state is TaskState.CANCELLED


async def test_a_cancel_during_the_last_task_is_kept(flows: Flows) -> None:
    run_id = await flows.send("a", a="until_cancelled")
    await flows.hear(started("a"))
    await flows.runner.send(CancelRun(run_id=run_id))
    finished = (await flows.hear()).finished
    assert (finished.status, finished.tasks) == (
        RunStatus.CANCELLED,
        {"a": TaskState.SUCCEEDED},
    )


async def test_a_run_that_is_cancelled_before_it_starts(flows: Flows) -> None:
    await flows.send("a", a={"function": "say", "inputs": {"text": "x", "seconds": 0.3}})
    run_id = await flows.send("b", b="one")
    await flows.runner.send(CancelRun(run_id=run_id))
    assert (await flows.hear()).finished.status is RunStatus.COMPLETED
    finished = (await flows.hear()).finished
    assert (finished.run_id, finished.status) == (run_id, RunStatus.CANCELLED)
    assert finished.tasks == {"b": TaskState.CANCELLED}


async def test_a_child_that_crashes_leaves_its_last_words(flows: Flows) -> None:
    await flows.send("a", a="crash")
    told = await flows.hear()
    assert told.exited.signal == "SIGSEGV"
    assert told.exited.returncode == -signal.SIGSEGV
    assert "Segmentation fault" in told.exited.stderr_tail
    assert "in crash" in told.exited.text
    assert told.text("a") == "last words\n"
    assert await flows.runner.next_event() is told.exited
    await flows.runner.send(CancelRun(run_id="x"))


async def test_a_child_that_exits_in_a_task(flows: Flows) -> None:
    await flows.send("a", a="vanish")
    exited = (await flows.hear()).exited
    assert (exited.returncode, exited.signal) == (7, None)
    assert exited.text == "the child process exited with 7"


async def test_a_child_that_is_killed_from_outside(flows: Flows) -> None:
    await flows.send("a", a="forever")
    await flows.hear(Output)
    os.kill(flows.runner.pid, signal.SIGKILL)
    assert (await flows.hear()).exited.signal == "SIGKILL"


async def test_a_signal_without_a_name(flows: Flows) -> None:
    os.kill(flows.runner.pid, signal.SIGRTMIN + 5)
    assert (await flows.hear()).exited.signal == f"signal {signal.SIGRTMIN + 5}"


async def test_what_the_flow_started_goes_with_the_child(flows: Flows, tmp_path: Path) -> None:
    left = {"function": "leave_process_behind", "inputs": {"path": str(tmp_path / "pid")}}
    await flows.send("a", a=left)
    assert (await flows.hear()).exited.returncode == 9
    await gone(int((tmp_path / "pid").read_text()))


async def test_an_idle_child_stops_at_once(flows: Flows) -> None:
    await flows.hear(Ready)
    with trio.fail_after(WITHIN_SECONDS):
        await flows.runner.stop(WITHIN_SECONDS)
        exited = (await flows.hear()).exited
    assert (exited.returncode, exited.signal) == (0, None)
    await flows.runner.stop(0)


async def test_a_run_is_cancelled_when_its_child_is_stopped(flows: Flows) -> None:
    await flows.send("a >> b", a="until_cancelled", b="one")
    await flows.hear(started("a"))
    await flows.runner.stop(WITHIN_SECONDS)
    told = await flows.hear()
    assert told.finished.status is RunStatus.CANCELLED
    assert (await flows.hear()).exited.returncode == 0


async def test_a_child_that_does_not_stop_in_time_is_killed(flows: Flows) -> None:
    await flows.send("a", a="forever")
    await flows.hear(Output)
    with trio.fail_after(WITHIN_SECONDS):
        await flows.runner.stop(0.05)
    assert (await flows.hear()).exited.signal == "SIGKILL"


async def test_a_child_that_talks_to_nobody_is_stopped_all_the_same(flows: Flows) -> None:
    await flows.send("a", a={"function": "talk", "inputs": {"lines": 1_000_000}})
    await flows.hear(Output)
    await trio.sleep(0.1)  # the pipe is full by now, or will be
    with trio.fail_after(WITHIN_SECONDS):
        await flows.runner.stop(0.05)
    assert isinstance((await flows.hear(Exited)).last, Exited)


async def test_stopping_while_another_task_listens(flows: Flows) -> None:
    heard: list[object] = []
    printed = trio.Event()

    async def listen() -> None:
        while not isinstance(event := await flows.runner.next_event(), Exited):
            if isinstance(event, Output):
                printed.set()
        heard.append(event)

    with trio.fail_after(WITHIN_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await flows.send("a", a="forever")
            await printed.wait()
            await flows.runner.stop(0)
    assert isinstance(heard[-1], Exited)


async def test_a_cancelled_stop_kills(flows: Flows) -> None:
    await flows.send("a", a="forever")
    await flows.hear(Output)
    with trio.move_on_after(0.05):
        await flows.runner.stop(WITHIN_SECONDS)
    assert (await flows.hear()).exited.signal == "SIGKILL"


async def test_a_child_is_stopped_where_no_descriptor_is_left(
    flows: Flows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    await flows.send("a", a="forever")
    await flows.hear(Output)
    monkeypatch.setattr(os, "dup", refuse)
    await flows.runner.stop(0)
    with pytest.raises(ProcessLookupError):
        os.kill(flows.runner.pid, 0)
    assert (await flows.hear()).exited.signal == "SIGKILL"


async def test_cancelling_a_listener_loses_nothing(flows: Flows) -> None:
    await flows.send("a", a={"function": "talk", "inputs": {"lines": 30_000}})
    text = ""
    finished = False
    with trio.fail_after(WITHIN_SECONDS):
        while not finished:
            with trio.move_on_after(0.002):
                while not finished:
                    event = await flows.runner.next_event()
                    if isinstance(event, Output):
                        text += event.text
                    finished = isinstance(event, FlowFinished)
    assert [int(line[:8]) for line in text.splitlines()] == list(range(30_000))


async def test_a_child_that_speaks_nonsense_is_killed(flows: Flows) -> None:
    await flows.send("a", a="speak_nonsense")
    exited = (await flows.hear(Exited)).exited
    assert exited.signal == "SIGKILL"
    assert "a frame of" in exited.text


async def test_an_interpreter_that_is_not_there() -> None:
    async with a_child(RunnerOptions(python="/nowhere/python")) as runner:
        exited = (await Flows(runner).hear()).exited
    assert exited.returncode == 1
    assert "FileNotFoundError" in exited.text


async def test_a_child_that_does_not_understand_its_worker_says_so(flows: Flows) -> None:
    await flows.hear(Ready)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "pyoco_server.worker.runner.handle.frame", lambda message: b"\x00\x00\x00\x02{}"
        )
        await flows.runner.send(Stop())
    exited = (await flows.hear()).exited
    assert exited.returncode == 70
    assert "not a message of a worker" in exited.stderr_tail


PARENT = """
import os, sys, trio
from pyoco_server.worker.runner.guarded import Guardian
from pyoco_server.worker.runner.handle import open_runner
from pyoco_server.worker.runner.options import RunnerOptions
from pyoco_server.worker.runner.protocol import Execute, Output, Ready
async def main():
    guardian = Guardian(sys.executable, os.environ)
    runner = await open_runner(RunnerOptions(extra_sys_path=(sys.argv[1],)), guardian)
    yaml = "flow: {graph: a}\\ntasks: {a: {callable: 'sample_tasks:forever'}}"
    await runner.send(Execute(run_id="r", attempt=1, flow_name="f", workflow_yaml=yaml))
    while not isinstance(await runner.next_event(), Output):
        pass
    print(runner.pid, flush=True)
    await trio.sleep_forever()
trio.run(main)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_dies_with_its_worker_in_the_middle_of_a_run(how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, CODE], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.send_signal(how)
    trio.run(gone, child)


async def test_a_large_request_is_taken(flows: Flows) -> None:
    await flows.runner.send(
        Execute(
            run_id="r",
            attempt=1,
            flow_name="f",
            params={"x": "y" * 2_000_000},
            workflow_yaml="flow: {graph: a}\ntasks: {a: {callable: 'sample_tasks:one'}}",
        )
    )
    assert (await flows.hear()).finished.status is RunStatus.COMPLETED


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def children() -> str:
    return "".join(task.read_text() for task in Path("/proc/self/task").glob("*/children"))


async def test_a_child_leaves_no_descriptors_behind() -> None:
    before = descriptors()
    for _ in range(3):
        async with a_child(RunnerOptions()) as runner:
            await Flows(runner).hear(Ready)
        assert descriptors() == before


async def test_a_start_that_is_cancelled_leaves_no_child_and_no_descriptors() -> None:
    options = RunnerOptions()
    before = descriptors(), children()
    with trio.CancelScope() as scope:
        scope.cancel()
        await open_runner(options, Guardian(options.python, options.variables))
    assert scope.cancelled_caught
    assert (descriptors(), children()) == before
