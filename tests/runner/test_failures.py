"""How a failure is told, and by which names policies know it; what has to be awaited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyoco_server.model.run import RunStatus, TaskState
from pyoco_server.worker.runner.protocol import CancelRun, Output
from runner.children import Flows, Told, flow_yaml

LIMITS: list[dict[str, Any]] = [{}, {"timeout_sec": 20}]
FUNCTIONS = ("raises", "raises_on_loop")


def of(function: str, **said: Any) -> dict[str, Any]:
    return {"callable": f"policy_tasks:{function}", **said}


async def run(flows: Flows, graph: str, params: Any = None, **tasks: Any) -> Told:
    return await flows.run_yaml(flow_yaml(graph, tasks), params=params or {})


TEXTS = {
    "attribute": "AttributeError: user_id",
    "blank": "ValueError",
    "broken": "Broken, whose text cannot be told: SystemExit",
    "key": "KeyError: 'user_id'",
    "lookup": "LookupError: user_id",
    "mute group": "ExceptionGroup (1 sub-exception): ValueError: no value",
    "none": "ValueError: None",
    "pipe": "no such pipe",
    "stop": "the task raised Stop, whose text cannot be told: ValueError",
    "stops": (
        "the task raised BaseExceptionGroup: both (2 sub-exceptions): "
        "KeyboardInterrupt; NonRetryable: no use"
    ),
    "text": "seconds must be from 0 up to 2592000, not '5'",
}


@pytest.mark.parametrize("limit", LIMITS)
async def test_an_error_says_what_it_is(flows: Flows, limit: Any) -> None:
    for kind, text in TEXTS.items():
        for function in FUNCTIONS:
            told = await run(flows, "a", a=of(function, inputs={"kind": kind}, **limit))
            assert told.finished.error == text
            assert told.finished.task_records["a"].error == text


# An error, what its policy says, and how often it is tried.
NAMES: list[tuple[str, dict[str, Any], int]] = [
    ("exit", {"retry_on": ["SystemExit"]}, 2),
    ("exit", {"not_on": ["SystemExit"]}, 1),
    ("exit", {"retry_on": ["OSError"]}, 1),
    ("stop", {"retry_on": ["policy_tasks.Stop"]}, 2),
    ("stops", {}, 1),
    ("pipe", {"retry_on": ["Broken.Pipe"]}, 2),
    ("pipe", {"not_on": ["policy_tasks.Broken.Pipe"]}, 1),
    ("timeout", {"retry_on": ["asyncio.TimeoutError"]}, 2),
    ("timeout", {"not_on": ["IOError"]}, 1),
    ("timeout", {"retry_on": ["socket.error"]}, 2),
    ("wire", {"retry_on": ["json.JSONDecodeError"]}, 2),
    ("wire", {"not_on": ["json.decoder.JSONDecodeError"]}, 1),
    ("yaml", {"retry_on": ["yaml.YAMLError"]}, 2),
    ("yaml", {"retry_on": ["json.YAMLError"]}, 1),
]


@pytest.mark.parametrize("limit", LIMITS)
async def test_a_policy_knows_an_error_by_each_of_its_names(
    flows: Flows, tmp_path: Path, limit: Any
) -> None:
    """As it is imported, as it was called before, and also where it is meant to end a program."""
    for index, (kind, said, calls) in enumerate(NAMES):
        for function in FUNCTIONS:
            path = tmp_path / f"{index} {function}"
            said |= {"retries": 1, "backoff": {"delay_sec": 0}}
            inputs = {"kind": kind, "path": str(path)}
            await run(flows, "a", a=of(function, inputs=inputs, **said, **limit))
            assert len(path.read_text().splitlines()) == calls, (kind, said)


async def test_no_retries_in_a_file_are_none(flows: Flows, tmp_path: Path) -> None:
    for graph in ("a", "repeat(count=1) { b: a }"):
        path = tmp_path / graph[0]
        told = await run(flows, graph, a=of("bold", retries=0, inputs={"path": str(path)}))
        assert len(path.read_text().splitlines()) == 1
        # What the file does not say is as Python says it.
        assert told.finished.status is RunStatus.COMPLETED


async def test_a_copy_of_a_task_has_what_the_file_says_of_it(flows: Flows, tmp_path: Path) -> None:
    path = tmp_path / "b"
    a = of("bold", retries=0, inputs={"path": str(tmp_path / "a")})
    b = {"use": "a", "timeout_sec": 20, "inputs": {"path": str(path)}}
    await run(flows, "a & b", a=a, b=b)
    assert len(path.read_text().splitlines()) == 1


@pytest.mark.parametrize("parallel", ["", ", parallel=3"])
async def test_a_loop_keeps_the_last_error_of_its_times(flows: Flows, parallel: str) -> None:
    task = of("only_evens", on_failure="isolate")
    graph = f"foreach(over=numbers, item=n{parallel}) {{ a }}"
    told = await run(flows, graph, {"numbers": [1, *[2] * 60]}, a=task)
    record = told.finished.task_records["a"]
    assert record.state is TaskState.FAILED
    assert record.error == "1 is odd"
    assert "ValueError: 1 is odd" in (record.traceback or "")
    assert record.iteration_counts == {"SUCCEEDED": 60, "FAILED": 1}


@pytest.mark.parametrize("source", ["text", "mapping", "nothing"])
async def test_what_is_no_list_is_named(flows: Flows, source: str) -> None:
    params = {"text": "abc", "mapping": {"a": 1}, "nothing": None}
    kind = {"text": "of type str", "mapping": "of type dict", "nothing": "None"}[source]
    told = await run(flows, f"foreach(over={source}, item=n) {{ a }}", params, a=of("square"))
    assert told.finished.error == (
        f"ForEach source must evaluate to a list or tuple. $ctx.params.{source} is {kind}"
    )
    told = await run(flows, f"repeat(count={source}) {{ a }}", params, a=of("square"))
    assert told.finished.error == (
        f"Repeat count must evaluate to an integer. $ctx.params.{source} is {kind}"
    )


@pytest.mark.parametrize("limit", LIMITS)
async def test_what_async_code_makes_is_awaited_to_its_end(flows: Flows, limit: Any) -> None:
    told = await run(flows, "a >> b", a=of("squares", **limit), b=of("forgetful", **limit))
    records = told.finished.task_records
    assert told.finished.error is None
    assert (records["a"].output, records["b"].output) == ([0, 1, 4], 10)


@pytest.mark.parametrize("limit", LIMITS)
async def test_a_cancel_ends_a_generator(flows: Flows, limit: Any) -> None:
    run_id = await flows.send("a", a=of("endless", **limit))
    await flows.hear(Output)
    await flows.runner.send(CancelRun(run_id=run_id))
    told = await flows.hear()
    assert told.finished.status is RunStatus.CANCELLED
    assert told.finished.tasks == {"a": TaskState.CANCELLED}
