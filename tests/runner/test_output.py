"""What tasks print reaches the worker: soon, in order, tagged, and bounded."""

from __future__ import annotations

import resource
from itertools import pairwise

import pytest
import trio

from pyoco_server.model.run import RunStatus, TaskState
from pyoco_server.worker.runner.handle import Exited, RunnerProcess
from pyoco_server.worker.runner.options import RunnerOptions
from pyoco_server.worker.runner.protocol import FlowFinished, Limits, Output, TaskChanged
from runner.children import CODE, Flows, a_child


def say(text: str, seconds: float = 0.0) -> dict[str, object]:
    return {"function": "say", "inputs": {"text": text, "seconds": seconds}}


@pytest.mark.parametrize("graph", ["a & b", "repeat(count=1) { a >> b }"])
async def test_each_task_has_its_own_output_by_stream(flows: Flows, graph: str) -> None:
    run_id = await flows.send(graph, a=say("of a"), b=say("of b"))
    told = await flows.hear()
    assert told.finished.status is RunStatus.COMPLETED
    for task in "ab":
        assert told.text(task, "stdout") == f"of {task}\n"
        assert told.text(task, "stderr") == f"of {task}\n"
    assert {output.run_id for output in told.outputs()} == {run_id}


async def test_output_comes_before_the_end_of_its_task(flows: Flows) -> None:
    told = await flows.run("a", a=say("of a"))
    kinds = [
        event.record.state if isinstance(event, TaskChanged) else "output"
        for event in told.events
        if isinstance(event, TaskChanged | Output)
    ]
    assert kinds[0] is TaskState.RUNNING
    assert kinds[-1] is TaskState.SUCCEEDED
    assert set(kinds[1:-1]) == {"output"}


async def test_output_comes_while_the_task_runs(flows: Flows) -> None:
    await flows.send("a", a="forever")
    told = await flows.hear(Output)
    assert isinstance(told.last, Output)
    assert told.last.text.startswith("here for good")


async def test_bytes_that_are_printed(flows: Flows) -> None:
    assert (await flows.run("a", a="write_bytes")).text("a") == "bytes of é\n"


async def test_what_is_written_past_the_streams_is_output_of_no_task(flows: Flows) -> None:
    run_id = await flows.send("a", a="write_raw")
    told = await flows.hear()
    assert told.text(None, "stderr").splitlines() == [
        "raw one",
        "raw two",
        "from a process",
        "to our stdout",
    ]
    assert {output.run_id for output in told.outputs()} == {run_id}
    assert told.finished.task_records["a"].output == ""


async def test_a_fork_prints_but_has_no_part_in_the_protocol(flows: Flows) -> None:
    told = await flows.run("a", a="fork")
    assert told.text(None, "stderr") == "from a fork\n"
    assert told.finished.status is RunStatus.COMPLETED


async def test_twenty_megabytes_of_lines_arrive_whole_and_gather_nowhere() -> None:
    options = RunnerOptions(
        extra_sys_path=(CODE,), limits=Limits(output_characters=100 * 1024 * 1024)
    )
    async with a_child(options) as runner:
        flows = Flows(runner)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        talk = {"function": "talk", "inputs": {"lines": 100_000, "width": 110}}
        await flows.send("a & b", a=talk, b=talk)
        expected = dict.fromkeys("ab", 0)
        left = dict.fromkeys("ab", "")
        largest = total = 0
        with trio.fail_after(60):
            while not isinstance(event := await runner.next_event(), FlowFinished | Exited):
                if isinstance(event, Output) and event.task:
                    *lines, left[event.task] = (left[event.task] + event.text).split("\n")
                    for line in lines:
                        assert line.startswith(f"{expected[event.task]:08} ")
                        expected[event.task] += 1
                    total += len(event.text)
                    largest = max(largest, len(event.text))
        assert isinstance(event, FlowFinished)
        assert event.status is RunStatus.COMPLETED
        assert expected == {"a": 100_000, "b": 100_000}
        assert total > 21_000_000
        assert largest <= 2 * 16_384
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 32 * 1024  # KiB


async def test_output_beyond_its_limit_is_left_out_and_that_is_told(flows: Flows) -> None:
    options = RunnerOptions(extra_sys_path=(CODE,), limits=Limits(output_characters=10_000))
    async with a_child(options) as runner:
        flows = Flows(runner)
        for _ in range(2):
            told = await flows.run("a", a={"function": "talk", "inputs": {"lines": 50_000}})
            text = told.text("a")
            assert told.finished.status is RunStatus.COMPLETED
            assert len(text) < 10_200
            assert text.endswith(
                "more than 10000 characters were printed; the rest is left out …\n"
            )


async def test_a_worker_that_does_not_listen_holds_up_the_printing(flows: Flows) -> None:
    # Far more than the pipe and the child's buffer hold.
    await flows.send("a", a={"function": "talk", "inputs": {"lines": 20_000}})
    await flows.hear(TaskChanged)
    await trio.sleep(2.0)  # a busy machine takes a part of it to fill them
    told = await flows.hear()
    assert told.finished.status is RunStatus.COMPLETED
    ats = [output.at for output in told.outputs()]
    assert max(after - before for before, after in pairwise(ats)) > 0.3


@pytest.mark.parametrize("limit", [None, 30])
async def test_a_signal_handler_that_raises_in_the_middle_of_a_message_breaks_none(
    flows: Flows, monkeypatch: pytest.MonkeyPatch, limit: float | None
) -> None:
    """The worker is slow to read, so that the task waits in the middle of one when the signal comes."""
    read = RunnerProcess._read

    async def slowly(runner: RunnerProcess) -> None:
        await trio.sleep(0.004)
        await read(runner)

    await flows.run("a", a="one")
    monkeypatch.setattr(RunnerProcess, "_read", slowly)
    for number in range(8):
        inputs = {"seconds": 0.02 + 0.0017 * number}
        late = {"function": "print_until_late", "inputs": inputs, "timeout_sec": limit}
        told = await flows.run("a", a=late)
        assert told.finished.status is RunStatus.COMPLETED, told.finished.error
        assert told.finished.task_records["a"].output == "ok"
        assert told.text("a").endswith("done\n")
