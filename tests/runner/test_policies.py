"""What a flow says of its tasks is what happens: tries, time limits, isolation, ``async def``."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from pyoco_server.model.flow.file import parse_flow_yaml
from pyoco_server.model.flow.structure import structure
from pyoco_server.model.run import RunStatus, TaskState, TryRecord
from pyoco_server.worker.runner.engine.tries import LOST_TRY
from pyoco_server.worker.runner.protocol import (
    CancelRun,
    FlowFinished,
    FlowStarted,
    Output,
    TaskChanged,
    TriesTold,
    TryStored,
)
from runner.children import Flows, Told, flow_yaml

FAILED, PENDING, SUCCEEDED = TaskState.FAILED, TaskState.PENDING, TaskState.SUCCEEDED


def of(function: str, **said: Any) -> dict[str, Any]:
    return {"callable": f"policy_tasks:{function}", **said}


async def run(flows: Flows, graph: str, **tasks: Any) -> Told:
    """Run tasks, with ``params`` and what the file says ``extra``."""
    params, extra = tasks.pop("params", {}), tasks.pop("extra", "")
    return await flows.run_yaml(flow_yaml(graph, tasks, extra), params=params)


def lines(path: Path | str) -> list[str]:
    return Path(path).read_text().splitlines()


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def took(finished: FlowFinished, name: str) -> float:
    return (finished.task_records[name].duration_ms or 0) / 1000


async def gone(pid: int) -> None:
    with trio.fail_after(10):
        while alive(pid):
            await trio.sleep(0.01)


# Time limits -------------------------------------------------------------------------------------


async def test_a_task_over_its_time_is_failed_and_its_code_stopped(
    flows: Flows, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    slow = of("sleeper", timeout_sec=0.5, inputs={"mark": str(mark), "seconds": 60})
    told = await run(flows, "slow >> after", slow=slow, after=of("square"))
    finished = told.finished
    assert finished.status is RunStatus.FAILED
    assert finished.error == "timeout: the task did not end within 0.5 s and was stopped"
    assert finished.tasks == {"slow": FAILED, "after": PENDING}
    assert finished.task_records["slow"].error == finished.error
    assert 0.5 <= took(finished, "slow") < 30
    assert mark.read_text() == "cleaned up"


async def test_code_that_does_not_listen_is_killed_with_what_it_started(
    flows: Flows, tmp_path: Path
) -> None:
    functions = ("stubborn", "busy", "start_and_hang")
    tasks = {
        name: of(name, timeout_sec=1, on_failure="isolate", inputs={"mark": str(tmp_path / name)})
        for name in functions
    }
    told = await run(flows, " & ".join(functions), **tasks)
    assert told.finished.status is RunStatus.COMPLETED
    assert told.finished.tasks == dict.fromkeys(functions, FAILED)
    for name in functions:
        await gone(int((tmp_path / name).read_text()))


@pytest.mark.parametrize("own_handler", [False, True])
async def test_what_it_started_ends_with_code_that_ends_when_it_is_asked(
    flows: Flows, tmp_path: Path, own_handler: bool
) -> None:
    inputs = {"mark": str(tmp_path / "mark"), "own_handler": own_handler}
    said = {"timeout_sec": 0.5, "retries": 1, "backoff": {"delay_sec": 0}, "inputs": inputs}
    told = await run(flows, "a", a=of("start_and_wait", **said))
    record = told.finished.task_records["a"]
    assert [each.number for each in record.tries or ()] == [1, 2]
    assert (told.finished.error, record.output) == (None, False), "it goes on beside the next try"


async def test_what_threads_print_is_not_mixed_into_the_result(flows: Flows) -> None:
    talkative = of("talkative", timeout_sec=30)
    told = await run(flows, "talkative >> length", talkative=talkative, length=of("length"))
    assert told.finished.error is None
    assert told.finished.task_records["length"].output == 3_000_000


async def test_a_task_that_prints_without_end_is_stopped_at_its_limit(flows: Flows) -> None:
    for _ in range(5):
        told = await run(flows, "flood", flood=of("flood", timeout_sec=0.2))
        assert told.finished.error is not None
        assert told.finished.error.startswith("timeout: the task did not end within 0.2 s")


async def test_a_limit_holds_in_loops_and_branches_and_beside_others(flows: Flows) -> None:
    slow = of("sleeper", timeout_sec=0.2, on_failure="isolate")
    told = await run(
        flows,
        "switch(on=mode) { a: repeat(count=2) { slow >> after }; default: other }",
        params={"mode": "a", "n": 1},
        slow=slow,
        after=of("square"),
        other=of("square"),
    )
    finished = told.finished
    assert finished.status is RunStatus.COMPLETED, finished.error
    assert finished.tasks == {"slow": FAILED, "after": PENDING, "other": PENDING}
    record = finished.task_records["slow"]
    assert record.iteration_counts == {"FAILED": 2}
    assert [each.path for each in record.iterations or ()] == ["repeat[0]", "repeat[1]"]
    assert finished.task_records["after"].skipped is True
    assert finished.task_records["other"].skipped is True
    told = await run(flows, "a & b & c", params={"n": 3}, a=slow, b=slow, c=of("square"))
    assert told.finished.tasks == {"a": FAILED, "b": FAILED, "c": SUCCEEDED}


async def test_what_a_task_with_a_limit_does_is_as_without(flows: Flows, tmp_path: Path) -> None:
    told = await run(
        flows,
        "(change & chatty) >> look",
        params={"items": [1, 2]},
        change=of("change", timeout_sec=20),
        chatty=of("chatty", timeout_sec=20),
        look=of("look"),
    )
    records = told.finished.task_records
    assert told.finished.status is RunStatus.COMPLETED, told.finished.error
    assert records["change"].output == 2
    assert records["change"].artifacts == {"made.txt": {"type": "str"}}
    assert records["look"].output is True
    assert (told.text("chatty"), told.text("chatty", "stderr")) == ("to out\n", "to err\n")


async def test_what_comes_of_a_process_that_fails(flows: Flows) -> None:
    errors = {
        "unpicklable": "cannot be handed over",
        "not_made_anew": "cannot be handed over: TypeError: NotMadeAnew.__init__() missing 1",
        "die": "the process of the task was ended by SIGKILL",
        "die_beside_a_copy": "the process of the task was ended by SIGKILL",
        "die_of_no_name": f"the process of the task was ended by signal {signal.SIGRTMIN + 5}",
        "own_error": "odd",
    }
    for function, error in errors.items():
        told = await run(flows, "a", a=of(function, timeout_sec=20))
        assert told.finished.status is RunStatus.FAILED
        assert error in (told.finished.error or "")
        record = told.finished.task_records["a"]
        assert record.error == told.finished.error
        assert record.traceback
        assert "pyoco_server/worker" not in record.traceback
    longest = of("square", timeout_sec=2_592_000)
    told = await run(flows, "a", params={"n": 2}, a=longest)
    assert told.finished.task_records["a"].output == 4


async def test_a_limit_costs_little(flows: Flows) -> None:
    """At most 30 ms a task: the best of many, for the machine is busy with other things as well."""
    chain = [f"t{number}" for number in range(20)]

    async def best(**said: Any) -> float:
        tasks = {name: of("square", **said) for name in chain}
        told = await run(flows, " >> ".join(chain), params={"n": 1}, **tasks)
        assert told.finished.status is RunStatus.COMPLETED, told.finished.error
        return min(took(told.finished, name) for name in chain) * 1000

    without, limited = await best(), await best(timeout_sec=30)
    for _ in range(4):
        if limited - without < 30:
            break
        limited = min(limited, await best(timeout_sec=30))
    print(f"{without:.2f} ms a task without, {limited:.2f} ms with a limit")
    assert limited - without < 30


# Tries -------------------------------------------------------------------------------------------


async def test_each_try_is_a_record(flows: Flows, tmp_path: Path) -> None:
    path = str(tmp_path / "calls")
    told = await run(
        flows,
        "a",
        a=of(
            "note",
            retries=4,
            backoff={"kind": "linear", "delay_sec": 0.05, "jitter": 0},
            inputs={"path": path, "fail": 2},
        ),
    )
    record = told.finished.task_records["a"]
    assert (told.finished.status, record.output, record.error) == (RunStatus.COMPLETED, 3, None)
    tries = record.tries or []
    assert [(each.number, each.error) for each in tries] == [
        (1, "no line"),
        (2, "no line"),
        (3, None),
    ]
    times = [float(line.split()[1]) for line in lines(path)]
    assert times[1] - times[0] >= 0.05
    assert times[2] - times[1] >= 0.1
    for each in tries:
        assert (each.started_at or 0) <= (each.ended_at or 0)
    told_tries = [
        len(event.record.tries or ()) for event in told.events if isinstance(event, TaskChanged)
    ]
    assert told_tries == [0, 1, 2, 3]


HOW_OFTEN: list[tuple[dict[str, Any], str, int]] = [
    ({"retries": 2}, "ValueError", 3),
    ({"retries": 2, "retry_on": ["OSError"]}, "ConnectionError", 3),
    ({"retries": 2, "retry_on": "builtins.OSError"}, "ConnectionError", 3),
    ({"retries": 2, "retry_on": ["OSError"]}, "ValueError", 1),
    ({"retries": 2, "not_on": ["ValueError"]}, "ValueError", 1),
    ({"retries": 2, "not_on": ["OSError"]}, "ConnectionError", 1),
    ({"retries": 2}, "NonRetryable", 1),
    ({"retries": 1, "retry_on": ["OSError"]}, "RetryAfter", 2),
    ({}, "RetryAfter", 1),
    ({"fail_policy": "retry"}, "ValueError", 4),
    ({"fail_policy": "retry", "retries": 1}, "ValueError", 2),
    ({"fail_policy": "retry", "retries": 0}, "ValueError", 1),
    ({"fail_policy": "stop"}, "ValueError", 1),
]


@pytest.mark.parametrize("limit", [{}, {"timeout_sec": 20}])
@pytest.mark.parametrize("function", ["fail_beside", "fail_beside_on_trio"])
async def test_an_error_in_a_group_is_that_of_the_task(
    flows: Flows, tmp_path: Path, function: str, limit: Any
) -> None:
    cases: list[tuple[dict[str, Any], str, int, str]] = [
        ({"retry_on": ["OSError"]}, "ConnectionError", 3, "ConnectionError: no line"),
        ({"not_on": ["OSError"]}, "ConnectionError", 1, "ConnectionError: no line"),
        ({}, "NonRetryable", 1, "NonRetryable: no use"),
    ]
    for index, (said, error, calls, text) in enumerate(cases):
        path = tmp_path / str(index)
        inputs = {"path": str(path), "error": error}
        said |= {"retries": 2, "backoff": {"delay_sec": 0}}
        told = await run(flows, "a", a=of(function, inputs=inputs, **said, **limit))
        assert len(lines(path)) == calls, said
        assert (told.finished.error or "").endswith(f"(1 sub-exception): {text}")


async def test_what_an_error_of_the_flow_lacks_is_left_out(flows: Flows) -> None:
    told = await run(flows, "a", a=of("own_retry_after", retries=1, backoff={"delay_sec": 0}))
    assert (told.finished.error or "").startswith("OwnRetryAfter")
    assert told.finished.tasks == {"a": FAILED}
    assert len(told.finished.task_records["a"].tries or []) == 2
    told = await run(flows, "a", a=of("told_with_kinds"))
    assert told.finished.error == (
        "all failed (4 sub-exceptions): KeyError: 'user_id'; OSError: a; OSError: b; and 1 more"
    )


@pytest.mark.parametrize("limit", [{}, {"timeout_sec": 20}])
async def test_how_often_a_task_is_tried(flows: Flows, tmp_path: Path, limit: Any) -> None:
    for index, (said, error, calls) in enumerate(HOW_OFTEN):
        path = tmp_path / str(index)
        inputs = {"path": str(path), "fail": 99, "error": error}
        backoff = {"backoff": {"delay_sec": 0}}
        told = await run(flows, "a", a=of("note", inputs=inputs, **backoff, **said, **limit))
        assert told.finished.status is RunStatus.FAILED
        called = lines(path)
        assert len(called) == calls, (said, error)
        if error == "RetryAfter" and calls == 2:
            assert float(called[1].split()[1]) - float(called[0].split()[1]) >= 0.2


async def test_python_says_it_as_a_file_does_and_the_file_goes_before(
    flows: Flows, tmp_path: Path
) -> None:
    inputs = {"path": str(tmp_path / "1")}
    told = await run(flows, "a", a=of("said_in_python", inputs=inputs))
    assert told.finished.task_records["a"].output == 3
    inputs = {"path": str(tmp_path / "2")}
    told = await run(flows, "a", a=of("said_in_python", retries=1, inputs=inputs))
    assert told.finished.status is RunStatus.FAILED
    inputs = {"path": str(tmp_path / "3"), "error": "ValueError"}
    told = await run(flows, "a", a=of("said_in_python", inputs=inputs))
    assert len(lines(inputs["path"])) == 1
    told = await run(flows, "a", a=of("short_of_time"))
    assert (told.finished.status, told.finished.tasks) == (RunStatus.COMPLETED, {"a": FAILED})
    told = await run(flows, "a", a=of("engine_retry", inputs={"path": str(tmp_path / "4")}))
    assert told.finished.task_records["a"].output == 3
    inputs = {"path": str(tmp_path / "5")}
    told = await run(
        flows, "repeat(count=1) { b: a }", a=of("said_in_python", retries=5, inputs=inputs)
    )
    assert told.finished.task_records["b"].output == 3


async def test_a_cancel_ends_a_wait_for_the_next_try(flows: Flows, tmp_path: Path) -> None:
    path = str(tmp_path / "calls")
    run_id = await flows.send_yaml(
        flow_yaml(
            "a >> b",
            {
                "a": of(
                    "note", retries=5, backoff={"delay_sec": 600}, inputs={"path": path, "fail": 9}
                ),
                "b": of("square"),
            },
        )
    )
    # It is told while it waits.
    told = await flows.hear(lambda event: isinstance(event, TaskChanged) and event.record.tries)
    assert told.states("a") == [TaskState.RUNNING] * 2
    await flows.runner.send(CancelRun(run_id=run_id))
    finished = (await flows.hear()).finished
    assert finished.status is RunStatus.CANCELLED
    assert finished.tasks == {"a": TaskState.CANCELLED, "b": TaskState.CANCELLED}


# Tries of earlier attempts -----------------------------------------------------------------------

LOST = TryRecord(number=1, started_at=1.0)
BROKE = TryRecord(number=2, started_at=2.0, ended_at=3.0, error="it broke")


def noting(path: Path, **said: Any) -> dict[str, Any]:
    return of("note", backoff={"delay_sec": 0}, inputs={"path": str(path), "fail": 9}, **said)


async def test_an_attempt_goes_on_counting(flows: Flows, tmp_path: Path) -> None:
    path = tmp_path / "calls"
    text = flow_yaml("a", {"a": noting(path, retries=3)})
    told = await flows.run_yaml(text, tries_before={"a": (LOST, BROKE)})
    record = told.finished.task_records["a"]
    assert (told.finished.error, len(lines(path))) == ("no line", 2)
    tries = [(each.number, each.error) for each in record.tries or ()]
    assert tries == [(1, LOST_TRY), (2, "it broke"), (3, "no line"), (4, "no line")]
    begun = [[each.number for each in told.tries] for told in flows.tries if told.begins]
    assert begun == [[1, 2, 3], [2, 3, 4]]


@pytest.mark.parametrize(("before", "why"), [((LOST,), LOST_TRY), ((LOST, BROKE), "it broke")])
async def test_a_task_without_a_try_left_fails_by_its_policy(
    flows: Flows, tmp_path: Path, before: tuple[TryRecord, ...], why: str
) -> None:
    path = tmp_path / "calls"
    for on_failure, status in (("stop", RunStatus.FAILED), ("isolate", RunStatus.COMPLETED)):
        task = noting(path, retries=len(before), on_failure=on_failure)
        text = flow_yaml("a >> b", {"a": task, "b": of("square")})
        again = replace(before[-1], number=len(before) + 1)
        told = await flows.run_yaml(text, tries_before={"a": (*before, again)})
        finished = told.finished
        record = finished.task_records["a"]
        assert (finished.status, finished.tasks) == (status, {"a": FAILED, "b": PENDING})
        assert (record.error or "").startswith(f"no try is left after {again.number} tries")
        assert (record.error or "").endswith(why)
        assert [each.number for each in record.tries or ()] == list(range(1, again.number + 1))
        if on_failure == "stop":
            assert finished.error == record.error
    assert not path.exists()
    assert flows.tries == []


async def test_each_iteration_has_tries_of_its_own(flows: Flows, tmp_path: Path) -> None:
    path = tmp_path / "calls"
    task = noting(path, retries=1, on_failure="isolate")
    before = {"a repeat[1]": (LOST,), "a repeat[2]": (LOST, BROKE), "b": (LOST,)}
    text = flow_yaml("repeat(count=3) { a }", {"a": task})
    told = await flows.run_yaml(text, tries_before=before)
    assert told.finished.status is RunStatus.COMPLETED
    assert len(lines(path)) == 2 + 1 + 0
    errors = [each.error or "" for each in told.finished.task_records["a"].iterations or ()]
    assert errors[:2] == ["no line", "no line"]
    assert errors[2].startswith("no try is left")


async def test_each_time_that_a_task_is_executed_has_tries_of_its_own(
    flows: Flows, tmp_path: Path
) -> None:
    inputs = {"path": str(tmp_path / "calls"), "fail": 1}
    task = of("note", retries=1, backoff={"delay_sec": 0}, inputs=inputs)
    text = flow_yaml("repeat(count=1) { a } >> repeat(count=1) { a }", {"a": task})
    told = await flows.run_yaml(text, tries_before={"a repeat[0] #2": (LOST,)})
    assert told.finished.status is RunStatus.COMPLETED, told.finished.error
    begun = [(told.key, told.tries[-1].number) for told in flows.tries if told.begins]
    assert begun == [("a repeat[0]", 1), ("a repeat[0]", 2), ("a repeat[0] #2", 2)]


async def test_a_try_waits_until_it_is_stored(flows: Flows, tmp_path: Path) -> None:
    path = tmp_path / "calls"
    text = flow_yaml("a", {"a": noting(path, retries=1)})
    run_id = await flows.send_yaml(text)
    event = None
    while not isinstance(event, TriesTold):
        event = await flows.runner.next_event()
    assert (event.key, event.begins, [each.number for each in event.tries]) == ("a", True, [1])
    await flows.runner.send(TryStored(run_id=run_id, key="b"))
    with trio.move_on_after(0.3):
        await flows.hear()
    assert not path.exists()
    await flows.runner.send(CancelRun(run_id=run_id))
    finished = (await flows.hear()).finished
    assert (finished.status, finished.tasks) == (RunStatus.CANCELLED, {"a": TaskState.CANCELLED})
    assert not path.exists()


async def test_what_is_not_tried_again_is_not_waited_for(flows: Flows, tmp_path: Path) -> None:
    task = of("note", inputs={"path": str(tmp_path / "calls")})
    told = await run(flows, "a >> b", a=task, b={**task, "retries": 1})
    assert told.finished.status is RunStatus.COMPLETED
    assert [(told.key, len(told.tries)) for told in flows.tries] == [("b", 1), ("b", 0)]


# Isolation ---------------------------------------------------------------------------------------


async def test_an_isolated_failure_skips_what_waits_for_it_and_no_more(
    flows: Flows, tmp_path: Path
) -> None:
    fail = of("own_error", on_failure="isolate")
    fine = of("square")
    told = await run(
        flows,
        "a >> b >> c\nd >> e\n(c | e) >> f\n(a & d) >> g",
        params={"n": 2},
        a=fail,
        **dict.fromkeys("bcdefg", fine),
    )
    finished = told.finished
    assert finished.status is RunStatus.COMPLETED, finished.error
    assert finished.tasks == {
        "a": FAILED,
        **dict.fromkeys("bcg", PENDING),
        **dict.fromkeys("def", SUCCEEDED),
    }
    skipped = {name for name, record in finished.task_records.items() if record.skipped is True}
    assert skipped == {"b", "c", "g"}


async def test_a_trigger_of_the_file(flows: Flows) -> None:
    for said in ({"trigger": "any"}, {"trigger_policy": "ANY"}):
        told = await run(
            flows,
            "(a & b) >> c",
            params={"n": 2},
            a=of("own_error", on_failure="isolate"),
            b=of("square"),
            c=of("any_result", **said),
        )
        assert told.finished.task_records["c"].output == ["b"]
    told = await run(
        flows,
        "(a | b) >> c",
        params={"n": 2},
        a=of("sleeper", inputs={"seconds": 0.3}),
        b=of("square"),
        c=of("any_result", trigger="all"),
    )
    assert told.finished.task_records["c"].output == ["a", "b"]


async def test_a_trigger_of_a_task_that_another_uses(flows: Flows) -> None:
    tasks = {
        "a": of("own_error", on_failure="isolate"),
        "b": of("square"),
        "c": {"use": "d"},
        "d": {"use": "e", "trigger": "any"},
        "e": of("any_result", trigger="all"),
    }
    text = flow_yaml("(a & b) >> (c & d & e)", tasks)
    told = await flows.run_yaml(text, params={"n": 2})
    (started,) = [event for event in told.events if isinstance(event, FlowStarted)]
    assert started.structure is not None
    graph = parse_flow_yaml(text.encode(), max_bytes=10_000).graph
    assert set(structure(graph).edges) == set(started.structure.edges)
    any_of = {edge.target for edge in started.structure.edges if edge.kind == "any"}
    assert any_of == {"c", "d"}
    assert [told.finished.tasks[name] for name in "cde"] == [SUCCEEDED, SUCCEEDED, PENDING]


# async def ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [{}, {"timeout_sec": 20}])
async def test_a_coroutine_is_awaited(flows: Flows, limit: Any) -> None:
    outputs = {"wait_for_it": 10, "indirect": 10, "partial": 70, "on_trio": 200}
    for function, output in outputs.items():
        told = await run(flows, "a", a=of(function, **limit))
        assert told.finished.status is RunStatus.COMPLETED, told.finished.error
        assert told.finished.task_records["a"].output == output
        assert told.text("a")


async def test_coroutines_of_a_run_share_a_loop(flows: Flows) -> None:
    told = await run(flows, "a & b & c", **dict.fromkeys("abc", of("meet_on_loop")))
    assert told.finished.status is RunStatus.COMPLETED, told.finished.error
    assert {record.output for record in told.finished.task_records.values()} == {1}
    told = await run(flows, "a", a=of("async_fail"))
    assert told.finished.error == "KeyError: 'user_id'"
    assert "in async_fail" in (told.finished.task_records["a"].traceback or "")
    told = await run(flows, "a", a=of("async_exit"))
    assert told.finished.error == "the task raised SystemExit: 3"
    told = await run(flows, "a", a=of("async_block", timeout_sec=0.2))
    assert (told.finished.error or "").startswith("timeout: ")
    told = await run(flows, "a", a=of("wait_for_it"))
    assert told.finished.worn is None


@pytest.mark.parametrize(
    "first", [of("leave_an_exit"), of("leave_an_exit_to_trio", event_loop="trio")]
)
async def test_what_ends_a_loop_behind_its_tasks_fails_no_run(
    flows: Flows, first: dict[str, Any]
) -> None:
    told = await run(flows, "a >> b", a=first, b=of("outlive_loops"))
    assert told.finished.status is RunStatus.COMPLETED, told.finished.error
    assert told.finished.tasks == {"a": SUCCEEDED, "b": SUCCEEDED}


async def test_a_loop_that_cannot_start_fails_its_task_and_is_tried_anew(flows: Flows) -> None:
    task = of("on_trio_that_comes_late", retries=1, backoff={"delay_sec": 0}, event_loop="trio")
    told = await run(flows, "a", a=task)
    record = told.finished.task_records["a"]
    errors = [each.error for each in record.tries or ()]
    assert errors == ["import of trio halted; None in sys.modules", None]
    assert (told.finished.status, record.output) == (RunStatus.COMPLETED, 200)


@pytest.mark.parametrize("limit", [{}, {"timeout_sec": 60}])
async def test_a_cancel_cancels_coroutines(flows: Flows, limit: Any) -> None:
    for function in ("async_forever", "trio_forever", "waits"):
        run_id = await flows.send_yaml(
            flow_yaml("a >> b", {"a": of(function, **limit), "b": of("square")})
        )
        await flows.hear(Output)
        await flows.runner.send(CancelRun(run_id=run_id))
        told = await flows.hear()
        assert told.finished.status is RunStatus.CANCELLED
        assert told.finished.tasks == {"a": TaskState.CANCELLED, "b": TaskState.CANCELLED}
        # What waits for it was told to be skipped.
        assert told.states("b") == []
        assert told.finished.task_records["b"].skipped is not True


async def test_a_task_with_a_limit_sees_a_cancel(flows: Flows) -> None:
    run_id = await flows.send_yaml(flow_yaml("a", {"a": of("until_cancelled", timeout_sec=60)}))
    await flows.hear(Output)
    await flows.runner.send(CancelRun(run_id=run_id))
    finished = (await flows.hear()).finished
    assert (finished.status, finished.tasks) == (RunStatus.CANCELLED, {"a": SUCCEEDED})


@pytest.mark.parametrize("function", ["async_forever", "trio_forever", "trio_block"])
async def test_a_coroutine_with_a_limit_cleans_up(
    flows: Flows, tmp_path: Path, function: str
) -> None:
    """On trio, what waited was left where it was."""
    mark = tmp_path / "mark"
    said = {"inputs": {"mark": str(mark)}}
    told = await run(flows, "a", a=of(function, timeout_sec=1, **said))
    assert told.finished.error == "timeout: the task did not end within 1 s and was stopped"
    assert mark.read_text() == "cleaned up"
    if function == "trio_block":  # it says nothing
        return
    mark.unlink()
    run_id = await flows.send_yaml(flow_yaml("a", {"a": of(function, timeout_sec=60, **said)}))
    await flows.hear(Output)
    await flows.runner.send(CancelRun(run_id=run_id))
    assert (await flows.hear()).finished.status is RunStatus.CANCELLED
    assert mark.read_text() == "cleaned up"


# Loops -------------------------------------------------------------------------------------------


async def test_a_loop_passes_its_variable_and_collects(flows: Flows) -> None:
    outputs = {", collect=list": [1, 4, 9], ", collect=first": 1, ", collect=last": 9, "": 9}
    for parallel in ("", ", parallel=3"):
        for collect, output in outputs.items():
            await _loops(flows, parallel + collect, output)


async def _loops(flows: Flows, words: str, output: object) -> None:
    told = await run(
        flows,
        f"foreach(over=numbers, item=n{words}) {{ square }} >> after",
        params={"numbers": [1, 2, 3]},
        square=of("square"),
        after=of("any_result"),
    )
    finished = told.finished
    assert finished.status is RunStatus.COMPLETED, finished.error
    record = finished.task_records["square"]
    assert record.output == output
    assert record.iteration_counts == {"SUCCEEDED": 3}
    assert {each.path for each in record.iterations or ()} == {
        f"foreach:n[{index}]" for index in range(3)
    }


async def test_what_is_collected_is_the_result_of_the_task(flows: Flows) -> None:
    told = await run(
        flows,
        "foreach(over=numbers, item=n, collect=list) { square >> two_step } >> total",
        params={"numbers": [1, 2, 3]},
        square=of("square"),
        two_step=of("two_step"),
        total=of("total"),
    )
    records = told.finished.task_records
    assert (records["two_step"].output, records["total"].output) == ([2, 5, 10], 14)


@pytest.mark.parametrize("parallel", ["", ", parallel=2"])
async def test_a_list_is_collected_where_nothing_was_executed(flows: Flows, parallel: str) -> None:
    loop = f"foreach(over=rows, item=row, collect=list{parallel})"
    taken = "switch(on='{{ $ctx.row }}') { a: square; b: other: square }"
    for rows, output, other in (([], [], []), (["a", "a"], [4, 4], [None, None])):
        told = await run(
            flows,
            f"{loop} {{ {taken} }} >> total",
            params={"rows": rows, "n": 2},
            square=of("square"),
            total=of("total"),
        )
        finished = told.finished
        assert finished.status is RunStatus.COMPLETED, finished.error
        records = finished.task_records
        assert (records["square"].output, records["other"].output) == (output, other)
        assert records["total"].output == sum(output)
        assert records["other"].skipped is True
    inner = f"foreach(over='{{{{ $ctx.row }}}}', item=n, collect=flatten{parallel}) {{ square }}"
    told = await run(
        flows, f"{loop} {{ {inner} }}", params={"rows": [[], [1, 2]]}, square=of("square")
    )
    assert told.finished.task_records["square"].output == [[], [1, 4]]


@pytest.mark.parametrize("inner", ["{}", "repeat(count=1, collect=list) {{ {} }}"])
async def test_a_task_is_skipped_when_no_iteration_is_left_that_may_execute_it(
    flows: Flows, inner: str
) -> None:
    taken = "switch(on='{{ $ctx.row }}') { a: square; b: late: square; default: never: square }"
    told = await run(
        flows,
        f"foreach(over=rows, item=row) {{ {inner.format(taken)} }}",
        params={"rows": ["a", "a", "b"], "n": 2},
        square=of("square"),
    )
    finished = told.finished
    assert finished.status is RunStatus.COMPLETED, finished.error
    skipped = {
        name: [
            event.record.skipped is True
            for event in told.events
            if isinstance(event, TaskChanged) and event.name == name
        ]
        for name in ("late", "never")
    }
    # What the inner loop collects is told as well.
    collected = inner != "{}"
    assert told.states("late") == [TaskState.RUNNING, SUCCEEDED, *[SUCCEEDED] * collected]
    assert not any(skipped["late"])
    assert skipped["never"] == [True, *[True] * collected]
    assert finished.task_records["never"].skipped is True


async def test_loops_in_loops_keep_to_the_tasks_at_the_same_time(flows: Flows) -> None:
    loop = "foreach(over=rows, item=n, collect=list, parallel=4)"
    told = await run(
        flows,
        f"{loop} {{ {loop} {{ most_at_the_same_time }} }}",
        params={"rows": [1, 2, 3, 4]},
        extra="runtime: {parallel_tasks: 2}\n",
        most_at_the_same_time=of("most_at_the_same_time"),
    )
    output: Any = told.finished.task_records["most_at_the_same_time"].output
    assert max(each for row in output for each in row) <= 2


async def test_items_run_beside_each_other_where_the_flow_says_so(flows: Flows) -> None:
    told = await run(
        flows,
        "foreach(over=numbers, item=n, collect=list, parallel=2) { together }",
        params={"numbers": [1, 2, 3, 4]},
        together=of("together"),
    )
    assert told.finished.task_records["together"].output == [1, 2, 3, 4]
    told = await run(
        flows,
        "foreach(over=rows, item=row, collect=list, parallel=4)"
        " { foreach(over='{{ $ctx.row }}', item=n, collect=list, parallel=4) { square } }",
        params={"rows": [[1, 2], [3, 4], [5]] * 8},
        extra="runtime: {parallel_tasks: 3}\n",
        square=of("square"),
    )
    assert told.finished.status is RunStatus.COMPLETED, told.finished.error
    assert told.finished.task_records["square"].output == [[1, 4], [9, 16], [25]] * 8


async def test_an_isolated_iteration_leaves_the_others(flows: Flows) -> None:
    fail = of("one_of", on_failure="isolate")
    loop = "foreach(over=numbers, item=n, index=index, collect=list) { one_of >> after } >> end >> last"
    for trigger, state in (({}, PENDING), ({"trigger": "any"}, SUCCEEDED)):
        told = await run(
            flows,
            loop,
            params={"numbers": [1, 2, 3]},
            one_of=fail,
            after=of("any_result"),
            end=of("any_result", **trigger),
            last=of("any_result"),
        )
        finished = told.finished
        assert finished.status is RunStatus.COMPLETED, finished.error
        record = finished.task_records["one_of"]
        assert (record.state, record.output) == (FAILED, [[1, 0], None, [3, 2]])
        assert [each.state for each in record.iterations or ()] == [SUCCEEDED, FAILED, SUCCEEDED]
        assert finished.task_records["after"].iteration_counts == {"SUCCEEDED": 2}
        assert finished.tasks["end"] is finished.tasks["last"] is state


# Width, words ------------------------------------------------------------------------------------


async def test_how_many_tasks_run_at_the_same_time(flows: Flows) -> None:
    names = [f"t{number}" for number in range(20)]
    meet = {"callable": "sample_tasks:meet", "inputs": {"parties": 20}}
    told = await run(
        flows,
        " & ".join(names),
        extra="runtime: {parallel_tasks: 20}\n",
        **dict.fromkeys(names, meet),
    )
    assert told.finished.status is RunStatus.COMPLETED


async def test_a_missing_argument_says_what_there_is(flows: Flows) -> None:
    told = await run(
        flows, "items >> needs", params={"limit": 3}, items=of("items"), needs=of("needs")
    )
    error = told.finished.error or ""
    assert error.startswith("missing argument 'itemz': ")
    for part in ("result of the task of that name", "params: limit", "results: items", "'items'"):
        assert part in error


async def test_an_input_of_another_name_says_what_there_is(flows: Flows) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"itemx": 1},
            "takes no argument 'itemx', which is one of `inputs`. It takes itemz. The nearest is 'itemz'",
        ),
        (
            {"itemz": "$node.itemz.output"},
            "$node.itemz.output: there is no 'itemz'; there are items. The nearest is 'items'",
        ),
        ({"itemz": "$node.items.output.n"}, "$node.items.output.n: a list has no 'n'"),
        (
            {"itemz": "$ctx.params.limt"},
            "$ctx.params.limt: there is no 'limt'; there are limit. The nearest is 'limit'",
        ),
    ]
    for inputs, text in cases:
        needs = of("needs", inputs=inputs)
        told = await run(
            flows, "items >> needs", params={"limit": 3}, items=of("items"), needs=needs
        )
        assert text in (told.finished.error or "")
        assert told.finished.task_records["needs"].error == told.finished.error


def test_the_names_of_a_policy_need_no_server() -> None:
    code = (
        "import sys, pyoco_server; pyoco_server.NonRetryable, pyoco_server.RetryAfter, pyoco_server.policy;"
        "print([n for n in ('nats', 'trio', 'pyoco_server.settings', 'asyncio') if n in sys.modules])"
    )
    with os.popen(f'python -c "{code}"') as process:
        assert process.read().strip() == "[]"


async def test_each_of_several_at_the_same_time_tells_what_it_saved_and_makes_no_folder(
    flows: Flows,
) -> None:
    told = await run(
        flows,
        "first >> foreach(over=numbers, item=n, collect=list, parallel=2) { save }",
        params={"numbers": [1, 2]},
        first=of("remove_folder"),
        save=of("save_together"),
    )
    records = told.finished.task_records
    assert records["first"].artifacts == {"made.txt": {"type": "str"}}
    assert records["save"].output == [False, False]
    (saved,) = records["save"].artifacts
    assert saved in {"1.txt", "2.txt"}
