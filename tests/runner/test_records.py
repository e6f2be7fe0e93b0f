"""What is sent of results: JSON of bounded size."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyoco.core.models import Flow
from pyoco.core.models import TaskRecord as EngineRecord

from pyoco_server.model.json_text import encode_json
from pyoco_server.model.result import FOLDER
from pyoco_server.model.run import RunStatus, TaskRecord, TaskState
from pyoco_server.worker.runner.condition import Condition
from pyoco_server.worker.runner.engine.task_record import LiveRecord
from pyoco_server.worker.runner.execution import Execution
from pyoco_server.worker.runner.flows import Plugins
from pyoco_server.worker.runner.meter import Meter
from pyoco_server.worker.runner.options import RunnerOptions
from pyoco_server.worker.runner.output import OutputPump
from pyoco_server.worker.runner.pipe import EventPipe
from pyoco_server.worker.runner.protocol import (
    CancelRun,
    Execute,
    FlowFinished,
    FromChild,
    Limits,
    TaskChanged,
)
from pyoco_server.worker.runner.records import RecordBook, ResultFiles
from runner.children import CODE, WITHIN_SECONDS, Flows, a_child

VALUES = st.recursive(
    st.none() | st.integers() | st.floats() | st.text() | st.binary() | st.sets(st.integers()),
    lambda values: st.lists(values) | st.dictionaries(st.text() | st.integers(), values),
    max_leaves=8,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), VALUES, st.dictionaries(st.text(), VALUES, max_size=3)),
        max_size=6,
    )
)
def test_the_records_of_a_run_stay_within_their_limits(
    ends: list[tuple[str, Any, dict[str, Any]]],
) -> None:
    value_limit, total_limit, marker = 100, 300, 100
    limits = Limits(value_bytes=value_limit, values_bytes=total_limit)
    book = RecordBook(limits, None, {})
    records = {}
    for at, (name, output, inputs) in enumerate(ends):
        record = EngineRecord(inputs=inputs, output=output, ended_at=float(at))
        records[name] = book.ended(name, record, TaskState.SUCCEEDED)
    sizes = [
        len(encode_json(value))
        for record in records.values()
        for value in (record.output, *record.inputs.values())
    ]
    assert all(size <= max(value_limit, marker) for size in sizes)
    kept = [size for size in sizes if size <= value_limit]
    assert sum(kept) <= total_limit + marker * len(kept)


def test_a_value_is_looked_at_once_for_each_end_of_its_task() -> None:
    book = RecordBook(Limits(value_bytes=100, values_bytes=100), None, {})
    record = EngineRecord(output=[1], ended_at=1.0)
    first = book.ended("a", record, TaskState.SUCCEEDED)
    record.output.append(2)
    assert book.ended("a", record, TaskState.FAILED).output == first.output == [1]
    record.ended_at = 2.0
    assert book.ended("a", record, TaskState.SUCCEEDED).output == [1, 2]


async def test_what_was_told_of_a_task_is_not_told_again_at_the_end(flows: Flows) -> None:
    each = {"function": "large", "inputs": {"size": 50}}
    run_id = await flows.send("a >> b >> c >> d", a=each, b=each, c="until_cancelled", d=each)
    told: dict[str, TaskRecord] = {}
    with trio.fail_after(WITHIN_SECONDS):
        while not isinstance(event := await flows.runner.next_event(), FlowFinished):
            if isinstance(event, TaskChanged):
                told[event.name] = event.record
                if event.name == "c" and event.record.state is TaskState.RUNNING:
                    await flows.runner.send(CancelRun(run_id=run_id))
    finished = event
    assert finished.tasks.keys() == set("abcd")
    outputs = {name: record.output for name, record in told.items()}
    assert outputs == {"a": "x" * 50, "b": "x" * 50, "c": "done waiting"}
    assert {name: record.state for name, record in finished.task_records.items()} == {
        "d": TaskState.CANCELLED
    }


class SlowPipe(EventPipe):
    """Takes its time, sends nothing, and notes how many threads would at the same time."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.sending = self.most = 0

    def send(self, message: FromChild, *, quietly: bool = False) -> None:
        assert isinstance(message, TaskChanged)
        self.sending += quietly
        self.most = max(self.most, self.sending)
        time.sleep(0.01)
        self.sending -= quietly

    def ring(self) -> None:
        pass


def test_what_is_told_of_a_task_at_the_same_time_is_sent_in_the_order_in_which_it_is_kept() -> None:
    pipe, limits = SlowPipe(), Limits()
    execution = Execution(
        Execute(run_id="r", attempt=1, flow_name="main"),
        limits=limits,
        resolver=lambda name: Flow(name=name),
        plugins=Plugins(limits, ()),
        output=OutputPump(pipe, 0),
        events=pipe,
        condition=cast("Condition", None),
        meter=cast("Meter", None),
    )
    iterations = [
        threading.Thread(target=execution.task_running, args=("a", LiveRecord(started_at=number)))
        for number in range(8)
    ]
    for each in iterations:
        each.start()
    for each in iterations:
        each.join()
    assert pipe.most == 1


async def test_what_json_cannot_carry_is_its_repr(flows: Flows) -> None:
    output = (await flows.run("odd", odd="odd")).finished.task_records["odd"].output
    assert output == {
        "when": "{1, 2}",
        "raw": "b'\\x00\\xff'",
        "not": "nan",
        "text": "\\ud800",
        "5": "<class 'object'>",
    }


def test_nothing_of_an_earlier_result_stays_where_there_is_no_room_for_the_later(
    tmp_path: Path,
) -> None:
    files = ResultFiles(str(tmp_path), most_bytes=100, total_bytes=150)
    files.keep("a", b"x" * 90)
    files.keep("a", b"x" * 200)
    files.keep("b", b"x" * 100)
    assert [each.stat().st_size for each in (tmp_path / FOLDER).iterdir()] == [100]


async def test_a_result_of_ten_megabytes_is_replaced_by_its_size(flows: Flows) -> None:
    told = await flows.run(
        "large >> double >> small",
        large={"function": "large", "inputs": {"size": 10_000_000}},
        double={"function": "double", "inputs": {"n": "$node.large.output"}},
        small={"function": "add", "inputs": {"left": "$node.large.output", "right": "y"}},
    )
    finished = told.finished
    assert finished.status is RunStatus.COMPLETED
    text = "<10000002 bytes of JSON, left out: at most 262144 are kept here>"
    assert finished.task_records["large"].output == text
    assert finished.task_records["small"].inputs == {"left": text, "right": "y"}


async def test_the_results_of_a_run_have_a_limit_together() -> None:
    limits = Limits(value_bytes=1000, values_bytes=2500)
    async with a_child(RunnerOptions(extra_sys_path=(CODE,), limits=limits)) as runner:
        each = {"function": "large", "inputs": {"size": 900}}
        told = await Flows(runner).run("a >> b >> c", a=each, b=each, c=each)
        outputs = [record.output for record in told.finished.task_records.values()]
        assert [output[:3] for output in outputs] == ["xxx", "xxx", "<90"]


async def test_results_and_inputs_leave_room_for_all_records_of_a_run() -> None:
    limits = Limits(snapshot_bytes=100_000)
    async with a_child(RunnerOptions(extra_sys_path=(CODE,), limits=limits)) as runner:
        each = {"function": "large", "inputs": {"size": 40_000}}
        pair = {"function": "add", "inputs": {"left": "$node.a.output", "right": "small"}}
        told = await Flows(runner).run("a >> b >> c >> d", a=each, b=each, c=each, d=pair)
        records = told.finished.task_records
        assert [str(records[name].output)[:3] for name in "abc"] == ["xxx", "xxx", "<40"]
        assert str(records["d"].inputs["left"]).startswith("<40")
        assert records["d"].inputs["right"] == "small"
        assert len(encode_json(records)) < 100_000


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("miss_a_key", "KeyError: 'user_id'"),
        ("fail_an_assertion", "AssertionError"),
        ("raise_a_number", "ValueError: 5"),
        ("fail", "no good: \\ud800"),
    ],
)
async def test_an_error_that_is_a_mere_value_says_of_which_kind(
    flows: Flows, function: str, error: str
) -> None:
    await flows.send("a", a=function)
    finished = (await flows.hear()).finished
    assert finished.error == finished.task_records["a"].error == error


@pytest.mark.parametrize(
    ("graph", "more"),
    [
        ("a", {"retries": 1, "backoff": {"delay_sec": 0}}),
        ("a", {"retries": 1, "backoff": {"delay_sec": 0}, "timeout_sec": 30}),
        ("a", {"on_failure": "isolate"}),
        ("repeat(count=1) { a }", {}),
        ("repeat(count=2) { a }", {"timeout_sec": 30, "on_failure": "isolate"}),
        ("a", {"callable": "sample_tasks:miss_a_key_later"}),
    ],
)
async def test_a_missing_key_says_so_wherever_it_is_told(
    flows: Flows, graph: str, more: dict[str, Any]
) -> None:
    await flows.send(graph, a={"callable": "sample_tasks:miss_a_key", **more})
    finished = (await flows.hear()).finished
    record = finished.task_records["a"]
    told = [
        record.error,
        *(each.error for each in (*(record.tries or ()), *(record.iterations or ()))),
    ]
    if finished.status is RunStatus.FAILED:
        told.append(finished.error)
    assert set(told) == {"KeyError: 'user_id'"}
    assert "in miss_a_key" in (record.traceback or "")
