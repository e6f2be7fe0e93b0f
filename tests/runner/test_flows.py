"""Flows of every form, executed by a real child."""

from __future__ import annotations

from typing import Any

import pytest

from pyoco_server.model.run import RunStatus, TaskState
from pyoco_server.worker.runner.options import RunnerOptions
from pyoco_server.worker.runner.protocol import FlowStarted, Ready
from runner.children import CODE, Flows, a_child, flow_yaml

QUICKSTART = """\
version: 1
flow:
  graph: add_one >> to_text
  defaults: {x: 1}
tasks:
  add_one: {callable: "pyoco_server._workflow_test_tasks:add_one"}
  to_text: {callable: "pyoco_server._workflow_test_tasks:to_text"}
"""


async def test_the_quickstart_flow(flows: Flows) -> None:
    told = await flows.run_yaml(QUICKSTART, params={"x": 1})
    finished = told.finished
    assert finished.status is RunStatus.COMPLETED
    assert (finished.reason, finished.error) == (None, None)
    assert finished.tasks == {"add_one": TaskState.SUCCEEDED, "to_text": TaskState.SUCCEEDED}
    record = finished.task_records["to_text"]
    assert (record.output, record.inputs) == ("v=2", {"add_one": 2})
    assert None not in (record.started_at, record.ended_at, record.duration_ms)
    ready, started = told.events[:2]
    assert isinstance(ready, Ready)
    assert isinstance(started, FlowStarted)
    assert started.tasks == {"add_one": TaskState.PENDING, "to_text": TaskState.PENDING}
    for name in ("add_one", "to_text"):
        assert told.states(name) == [TaskState.RUNNING, TaskState.SUCCEEDED]


async def test_a_flow_is_executed_in_the_child_that_the_worker_knows(flows: Flows) -> None:
    finished = (await flows.run("a", a={"callable": "os:getpid"})).finished
    assert finished.task_records["a"].output == flows.runner.pid


async def test_parallel_tasks_run_at_the_same_time(flows: Flows) -> None:
    meet = {"function": "meet", "inputs": {"parties": 3}}
    told = await flows.run("(a & b & c) >> d", **dict.fromkeys("abc", meet), d="one")
    assert told.finished.status is RunStatus.COMPLETED
    assert list(told.finished.tasks) == ["a", "b", "c", "d"]


async def test_tasks_beside_each_other_take_the_threads_that_there_are(flows: Flows) -> None:
    one = {"callable": "crowded:one"}
    told = await flows.run("a & b & c", a=one, b=one, c=one)
    assert told.finished.status is RunStatus.COMPLETED, told.finished.error
    assert {each.output for each in told.finished.task_records.values()} == {"task_0"}


async def test_an_any_join_does_not_wait_for_all(flows: Flows) -> None:
    told = await flows.run("(slow | quick) >> first", slow="slow", quick="one", first="first_of")
    assert told.finished.status is RunStatus.COMPLETED
    assert told.finished.task_records["first"].output == ["quick"]


async def test_inputs_refer_to_results_and_a_task_outside_of_the_graph_runs_too(
    flows: Flows,
) -> None:
    inputs = {"left": "$node.a.output", "right": "$ctx.params.more"}
    yaml = flow_yaml(
        "(a & b) >> sum",
        {"a": "one", "b": "two", "sum": {"function": "add", "inputs": inputs}, "loose": "two"},
    )
    told = await flows.run_yaml(yaml, params={"more": 41})
    assert told.finished.task_records["sum"].output == 42
    assert told.finished.tasks["loose"] is TaskState.SUCCEEDED


@pytest.mark.parametrize(
    ("graph", "params", "outputs"),
    [
        ("count >> repeat(count=3) { again: count }", {}, {"count": 1, "again": 4}),
        ("foreach(over=numbers, item=n) { item }", {"numbers": [5, 6]}, {"item": 6}),
        ("until(cond='{{ $ctx.results.count >= 4 }}', max_iter=9) { count }", {}, {"count": 4}),
        (
            "switch(on=mode) { fast: one; slow: two; default: count }",
            {"mode": "slow"},
            {"two": 2, "one": None},
        ),
    ],
)
async def test_the_language_of_the_engine(
    flows: Flows, graph: str, params: dict[str, object], outputs: dict[str, object]
) -> None:
    yaml = flow_yaml(graph, {"one": "one", "two": "two", "count": "count", "item": "item"})
    told = await flows.run_yaml(yaml, params=params)
    assert told.finished.status is RunStatus.COMPLETED, told.finished.error
    records = told.finished.task_records
    assert {name: records[name].output for name in outputs} == outputs


async def test_pipes_and_copies_of_tasks(flows: Flows) -> None:
    yaml = flow_yaml(
        "pipe(both) >> after: one",
        {"one": "one", "copy": {"use": "base"}, "base": {"function": "double", "inputs": {"n": 4}}},
        "pipes:\n  both: one >> copy\n",
    )
    told = await flows.run_yaml(yaml)
    assert told.finished.status is RunStatus.COMPLETED, told.finished.error
    assert told.finished.task_records["copy"].output == 8
    assert list(told.finished.tasks) == ["one", "copy", "after"]


async def test_a_task_object_keeps_its_retries_and_each_try_shows(flows: Flows) -> None:
    told = await flows.run("flaky", flaky="flaky")
    assert told.finished.status is RunStatus.COMPLETED
    assert told.states("flaky") == [*[TaskState.RUNNING] * 3, TaskState.SUCCEEDED]
    errors = [event.record.error for event in told.events if hasattr(event, "record")]
    assert errors[:3] == [None, "try 1", "try 2"]
    assert told.finished.task_records["flaky"].output == "try 3 worked"


@pytest.mark.parametrize(
    ("step", "more"),
    [
        ("fail", {}),
        ("fail", {"retries": 1, "backoff": {"delay_sec": 0}}),
        ("repeat(count=2) { fail }", {}),
    ],
)
async def test_a_failing_task_fails_the_run_with_its_text_and_traceback(
    flows: Flows, step: str, more: dict[str, Any]
) -> None:
    fail = {"function": "fail", **more}
    told = await flows.run(f"one >> {step} >> two", one="one", fail=fail, two="two")
    finished = told.finished
    assert (finished.status, finished.reason) == (RunStatus.FAILED, "execution_error")
    assert finished.error == "no good: \\ud800"
    assert finished.tasks == {
        "one": TaskState.SUCCEEDED,
        "fail": TaskState.FAILED,
        "two": TaskState.PENDING,
    }
    record = finished.task_records["fail"]
    assert (record.state, record.error) == (TaskState.FAILED, "no good: \\ud800")
    for each in (*(record.tries or ()), *(record.iterations or ())):
        assert each.error == record.error
    assert "in fail" in (record.traceback or "")
    assert "ValueError" in (record.traceback or "")


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("leave", "the task raised SystemExit: 3"),
        ("interrupt", "the task raised KeyboardInterrupt"),
    ],
)
@pytest.mark.parametrize("graph", ["task", "repeat(count=1) { task }"])
async def test_what_would_end_a_program_fails_the_task(
    flows: Flows, function: str, error: str, graph: str
) -> None:
    told = await flows.run(graph, task=function)
    assert told.finished.status is RunStatus.FAILED
    assert told.finished.error == error
    assert told.finished.tasks == {"task": TaskState.FAILED}
    assert (await flows.run("one", one="one")).finished.status is RunStatus.COMPLETED


@pytest.mark.parametrize(
    ("callable_", "why"),
    [
        ("sample_tasks:missing", "has no attribute 'missing'"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("sample_tasks:NOT_A_FUNCTION", "is no function but 3"),
    ],
)
async def test_a_callable_that_is_not_there_fails_the_run_and_is_named(
    flows: Flows, callable_: str, why: str
) -> None:
    told = await flows.run("one >> bad", one="one", bad={"callable": callable_})
    finished = told.finished
    assert (finished.status, finished.reason) == (RunStatus.FAILED, "execution_error")
    assert "task 'bad'" in (finished.error or "")
    assert callable_ in (finished.error or "")
    assert why in (finished.error or "")
    assert told.states("one") == []


async def test_a_task_that_nobody_knows_and_a_file_that_is_no_flow(flows: Flows) -> None:
    told = await flows.run("one >> stranger", one="one")
    assert "task 'stranger' has no `callable`" in (told.finished.error or "")
    told = await flows.run("one >> copy", one="one", copy={"use": "stranger"})
    assert "task 'stranger' (used by task 'copy')" in (told.finished.error or "")
    told = await flows.run_yaml("flow: {graph: 'import os'}")
    assert told.finished.status is RunStatus.FAILED
    assert "flow.graph" in (told.finished.error or "")


async def test_tasks_of_discovery_modules() -> None:
    options = RunnerOptions(extra_sys_path=(CODE,), env={"PYOCO_DISCOVERY_MODULES": "sample_tasks"})
    async with a_child(options) as runner:
        told = await Flows(runner).run("flaky >> again", again={"use": "flaky"})
        assert told.finished.status is RunStatus.COMPLETED
        assert told.finished.task_records["flaky"].output == "try 3 worked"


async def test_a_flow_that_nobody_knows(flows: Flows) -> None:
    told = await flows.run_yaml(None, flow_name="nobody")
    assert (told.finished.status, told.finished.reason) == (RunStatus.FAILED, "flow_not_found")
    assert told.finished.error == "flow_not_found: 'nobody'"


@pytest.mark.parametrize("spec", ["sample_tasks:resolve", f"{CODE}/sample_tasks.py:resolve"])
async def test_flows_of_a_resolver(spec: str) -> None:
    async with a_child(RunnerOptions(flow_resolver=spec, extra_sys_path=(CODE,))) as runner:
        flows = Flows(runner)
        for _ in range(2):
            told = await flows.run_yaml(None, flow_name="kept")
            assert told.finished.status is RunStatus.COMPLETED
        told = await flows.run_yaml(None, flow_name="unknown")
        assert told.finished.error == "flow_not_found: 'unknown'"
        told = await flows.run_yaml(None, flow_name="wrong")
        assert "must return a pyoco Flow" in (told.finished.error or "")
        told = await flows.run_yaml(None, flow_name="broken")
        assert (told.finished.reason, told.finished.error) == (
            "execution_error",
            "the resolver broke",
        )


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("resolve", "it takes module:function"),
        ("nowhere/flows.py:resolve", "there is no Python file"),
        ("sample_tasks:nothing", "AttributeError"),
        ("sample_tasks:NOT_A_FUNCTION", "is no function"),
    ],
)
async def test_a_resolver_that_is_not_there_is_told_by_its_runs(spec: str, why: str) -> None:
    async with a_child(RunnerOptions(flow_resolver=spec, extra_sys_path=(CODE,))) as runner:
        flows = Flows(runner)
        finished = (await flows.run_yaml(None, flow_name="any")).finished
        assert finished.reason == "execution_error"
        assert why in (finished.error or "")
        assert (await flows.run("one", one="one")).finished.status is RunStatus.COMPLETED
