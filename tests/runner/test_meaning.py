"""What a flow means: against a small model of it, and against the engine where that is right.

All of it in this process, on a clock of its own, so that thousands of flows take seconds.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyoco.core.context import Context
from pyoco.core.engine import Engine
from pyoco.core.exceptions import ControlFlowError
from pyoco.core.models import Flow, RunContext, RunStatus, Task
from pyoco.core.models import TaskState as EngineState
from pyoco.dsl.expressions import ensure_expression
from pyoco.dsl.nodes import (
    CaseNode,
    DSLNode,
    ForEachNode,
    RepeatNode,
    SubFlowNode,
    SwitchNode,
    TaskNode,
    UntilNode,
)
from pyoco.dsl.syntax import FlowFragment
from pyoco.trace.backend import TraceBackend

from pyoco_server.model.flow.task_policy import EventLoop
from pyoco_server.model.run import TryRecord
from pyoco_server.worker.runner.engine.calls import Calls
from pyoco_server.worker.runner.engine.cancel_signal import CancelSignal
from pyoco_server.worker.runner.engine.execute import execute_flow
from pyoco_server.worker.runner.engine.failure import TaskTimeout
from pyoco_server.worker.runner.engine.task_record import LiveRecord
from pyoco_server.worker.runner.engine.tries import TaskObserver, Tasks
from pyoco_server.worker.runner.shape import in_order

pytestmark = pytest.mark.usefixtures("in_own_directory")
SEEDS = st.integers(0, 2**32)
CASES = settings(max_examples=750, suppress_health_check=list(HealthCheck), deadline=None)


# Flows as data -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A task: what each call of it does in turn, the last for ever; then its policy."""

    name: str
    does: tuple[str, ...]
    retries: int = 0
    limit: float | None = None
    isolate: bool = False
    any_of: bool = False


@dataclass(frozen=True)
class Loop:
    kind: str
    times: int
    body: tuple[Any, ...]
    collect: str | None = None


@dataclass(frozen=True)
class Switch:
    takes: int
    cases: tuple[tuple[Any, ...], ...]


Part: TypeAlias = Step | Loop | Switch


class Draws:
    """Draws flows by a seed: a strategy for each part would take fifty times as long as the flow."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def step(self, name: str) -> Step:
        one_of = self.random.choice
        return Step(
            name,
            tuple(one_of(["ok", "ok", "fail", "slow"]) for _ in range(one_of([1, 2, 3]))),
            retries=one_of([0, 0, 1, 2]),
            limit=one_of([None, 1.0]),
            isolate=one_of([False, True, True]),
            any_of=one_of([False, True]),
        )

    def parts(self, depth: int = 0) -> tuple[Part, ...]:
        return tuple(self.part(depth) for _ in range(self.random.randint(1, 3)))

    def part(self, depth: int) -> Part:
        one_of = self.random.choice
        kind = one_of(["step", "step", "repeat", "foreach", "until", "switch"])
        if depth > 2 or kind == "step":
            return self.step(one_of("abcdefgh"))
        if kind == "switch":
            return Switch(one_of([0, 1]), (self.parts(depth + 1), self.parts(depth + 1)))
        collect = one_of([None, "list", "first", "last", "flatten"])
        return Loop(kind, one_of([0, 1, 2, 3]), self.parts(depth + 1), collect)

    def graph(self) -> list[tuple[Step, set[str]]]:
        """Tasks, and those before them that each waits for."""
        names = [f"t{index}" for index in range(self.random.randint(1, 8))]
        return [
            (
                self.step(name),
                set(self.random.sample(names[:index], min(index, self.random.randint(0, 3)))),
            )
            for index, name in enumerate(names)
        ]


class Calling(Calls):
    """Does what the steps say, without a clock; cancels the run in its call of that number."""

    def __init__(self, cancel_at: int | None, cancel: Callable[[], None]) -> None:
        self.counts: Counter[str] = Counter()
        self._cancel_at = cancel_at
        self._cancel = cancel

    def call(
        self,
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
        *,
        limit: float | None,
        event_loop: EventLoop,
        context: Context,
    ) -> Any:
        step: Step = function.step  # type: ignore[attr-defined]
        does = step.does[min(self.counts[step.name], len(step.does) - 1)]
        self.counts[step.name] += 1
        if self.counts.total() == self._cancel_at:
            self._cancel()
        if does == "fail":
            raise ConnectionError(step.name)
        if does == "slow" and limit is not None:
            raise TaskTimeout(step.name)
        return f"{step.name}{self.counts[step.name]}"


class Signal(CancelSignal):
    """Waits for nothing."""

    def wait(self, seconds: float) -> bool:
        assert seconds >= 0
        return self.asked


class Silent(TaskObserver):
    """Checks what it is told of tries."""

    def flow_started(self) -> None:
        pass

    def task_running(self, name: str, record: LiveRecord) -> None:
        pass

    def try_begins(self, key: str, tries: Sequence[TryRecord]) -> bool:
        assert tries[-1].ended_at is None
        return True

    def try_ended(self, key: str, tries: Sequence[TryRecord]) -> None:
        assert all(each.ended_at is not None for each in tries)

    def iteration_ended(self, name: str, record: LiveRecord) -> None:
        assert record.iterations

    def task_ended(self, name: str, record: LiveRecord) -> None:
        numbers = [each.number for each in record.tries or ()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert record.state is EngineState.PENDING or not record.skipped


@dataclass
class Ended:
    status: RunStatus
    states: dict[str, str]
    calls: dict[str, int]
    results: dict[str, Any]
    counts: dict[str, dict[str, int]] = field(default_factory=dict)


def task_of(step: Step, made: dict[str, Task]) -> Task:
    """One task for each name, by the first step that has it."""
    if step.name not in made:

        def function() -> None:
            raise AssertionError("it is not called")

        function.step = step  # type: ignore[attr-defined]
        task = Task(func=function, name=step.name, retries=step.retries, timeout_sec=step.limit)
        task.fail_policy = "isolate" if step.isolate else "stop"
        task.trigger_policy = "ANY" if step.any_of else "ALL"
        made[step.name] = task
    return made[step.name]


def node_of(part: Part, made: dict[str, Task]) -> DSLNode:
    match part:
        case Step():
            return TaskNode(task_of(part, made))
        case Loop("repeat", times, body, collect):
            return RepeatNode(flow_of(body, made), times, collect)
        case Loop("foreach", times, body, collect):
            items = ensure_expression(f"$ctx.params.items{times}")
            return ForEachNode(flow_of(body, made), items, "item", None, collect)
        case Loop(_, times, body, collect):
            done = ensure_expression(f"$ctx.loop.iteration >= {times}")
            return UntilNode(flow_of(body, made), done, times + 1, collect)
        case Switch(takes, cases):
            nodes = [CaseNode(index, flow_of(case, made)) for index, case in enumerate(cases)]
            return SwitchNode(ensure_expression(f"{takes} + 0"), nodes)


def flow_of(parts: tuple[Any, ...], made: dict[str, Task]) -> SubFlowNode:
    return SubFlowNode([node_of(part, made) for part in parts])


PARAMS = {f"items{times}": list(range(times)) for times in range(4)}


def execute(flow: Flow, cancel_at: int | None = None, size: int = 1) -> Ended:
    run = RunContext(params=dict(PARAMS))
    signal = Signal()

    def cancel() -> None:
        run.status = RunStatus.CANCELLING
        signal.ask()

    calls = Calling(cancel_at, cancel)
    tasks = Tasks(run, Silent(), signal, calls)
    results: dict[str, Any] = {}
    try:
        results = execute_flow(flow, in_order(flow.tasks), tasks, size).results
    except (ConnectionError, TimeoutError, ControlFlowError):
        if run.status is RunStatus.CANCELLING:
            run.status = RunStatus.CANCELLED
    return Ended(
        run.status,
        {name: state.value for name, state in run.tasks.items()},
        dict(calls.counts),
        results,
        {
            name: record.iteration_counts
            for name, record in run.task_records.items()
            if isinstance(record, LiveRecord) and record.iteration_counts
        },
    )


# What a flow means -------------------------------------------------------------------------------


class Stopped(Exception):
    """The run fails."""


class Cancelled(Exception):
    """The run is cancelled."""


class Model:
    """The same in few words: no threads, records, contexts or nodes."""

    def __init__(self, cancel_at: int | None) -> None:
        self.cancel_at = cancel_at
        self.first: dict[str, Step] = {}
        self.calls: Counter[str] = Counter()
        self.states: dict[str, str] = {}
        self.counts: dict[str, Counter[str]] = {}
        self.results: dict[str, Any] = {}

    @property
    def cancelled(self) -> bool:
        return self.cancel_at is not None and self.calls.total() >= self.cancel_at

    def task(self, said: Step, depth: int) -> str:
        step = self.first[said.name]
        state = self.tries(step)
        if depth:
            self.counts.setdefault(step.name, Counter())[state] += 1
            worst = [each for each in ("CANCELLED", "FAILED") if self.counts[step.name][each]]
        self.states[step.name] = worst[0] if depth and worst else state
        if state == "FAILED" and not step.isolate:
            raise Stopped
        return "all" if state == "SUCCEEDED" else "none"

    def tries(self, step: Step) -> str:
        for left in range(step.retries, -1, -1):
            does = step.does[min(self.calls[step.name], len(step.does) - 1)]
            self.calls[step.name] += 1
            if does == "ok" or (does == "slow" and step.limit is None):
                self.results[step.name] = f"{step.name}{self.calls[step.name]}"
                return "SUCCEEDED"
            if left and self.cancelled:
                return "CANCELLED"
        return "FAILED"

    def sequence(self, parts: tuple[Any, ...], depth: int) -> tuple[str, dict[str, Any]]:
        success, made = "all", dict[str, Any]()
        for part in parts:
            if self.cancelled:
                raise Cancelled
            if success == "all" or (success == "some" and self.takes_any(part)):
                success, more = self.part(part, depth)
                made |= more
            else:
                success = "none"
        if self.cancelled:
            raise Cancelled
        return success, made

    def takes_any(self, part: Part) -> bool:
        return next((self.first[each.name].any_of for each in steps_of(part)), False)

    def part(self, part: Part, depth: int) -> tuple[str, dict[str, Any]]:
        match part:
            case Step():
                success = self.task(part, depth)
                return success, {part.name: self.results[part.name]} if success == "all" else {}
            case Switch(takes, cases):
                return self.sequence(cases[takes], depth)
            case Loop("until", times):
                times = max(times, 1)
                turns: list[tuple[str, dict[str, Any]]] = []
                for index in range(part.times + 1):
                    turns.append(self.turn(part, depth))
                    if turns[-1][0] == "all" and index + 1 >= times:
                        return "all", self.collect(part, turns)
                raise Stopped
            case Loop():
                turns = [self.turn(part, depth) for _ in range(part.times)]
                successes = {success for success, _ in turns} or {"all"}
                success = successes.pop() if len(successes) == 1 else "some"
                return success, self.collect(part, turns)

    def turn(self, loop: Loop, depth: int) -> tuple[str, dict[str, Any]]:
        if self.cancelled:
            raise Cancelled
        return self.sequence(loop.body, depth + 1)

    def collect(self, loop: Loop, turns: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        names = {name for _, each in turns for name in each}
        if loop.collect in {"list", "flatten"}:
            names |= {step.name for step in steps_of(loop)}
        for name in names:
            there = [each[name] for _, each in turns if name in each]
            made[name] = {
                None: there[-1:],
                "last": there[-1:],
                "first": there[:1],
                "list": [each.get(name) for _, each in turns],
                "flatten": [
                    one for each in there for one in (each if isinstance(each, list) else [each])
                ],
            }[loop.collect]
            if loop.collect not in {"list", "flatten"}:
                (made[name],) = made[name]
        self.results |= made
        return made

    def run(self, parts: tuple[Any, ...]) -> Ended:
        for part in parts:
            for step in steps_of(part):
                self.first.setdefault(step.name, step)
        self.states = dict.fromkeys(self.first, "PENDING")
        status = RunStatus.COMPLETED
        try:
            self.sequence(parts, 0)
        except Stopped:
            status = RunStatus.CANCELLED if self.cancelled else RunStatus.FAILED
        except Cancelled:
            status = RunStatus.CANCELLED
            self.states = {
                name: "CANCELLED" if state == "PENDING" else state
                for name, state in self.states.items()
            }
        counts = {name: dict(counts) for name, counts in self.counts.items()}
        return Ended(status, self.states, dict(self.calls), self.results, counts)


def steps_of(part: Part) -> list[Step]:
    match part:
        case Step():
            return [part]
        case Loop():
            return [step for each in part.body for step in steps_of(each)]
        case Switch():
            return [step for case in part.cases for each in case for step in steps_of(each)]


@CASES
@given(SEEDS, st.none() | st.integers(1, 12))
def test_programs_mean_what_the_model_says(seed: int, cancel_at: int | None) -> None:
    parts = Draws(seed).parts()
    flow = Flow(name="f")
    _ = flow >> FlowFragment(flow_of(parts, {}).steps)
    flow._has_control_flow = True  # as it would be with one loop more
    ended, model = execute(flow, cancel_at), Model(cancel_at).run(parts)
    assert ended.status is model.status
    assert ended.calls == model.calls
    assert ended.counts == model.counts
    assert ended.states == model.states
    if ended.status is RunStatus.COMPLETED:
        assert ended.results == model.results


@CASES
@given(SEEDS, st.sampled_from([1, 3]), st.none() | st.integers(1, 8))
def test_graphs_mean_what_the_model_says(seed: int, size: int, cancel_at: int | None) -> None:
    """In any order: what waits for what, who is left out, and that nothing runs more often than it may."""
    flow, made = Flow(name="f"), dict[str, Task]()
    drawn = Draws(seed).graph()
    waits = {step.name: before for step, before in drawn}
    said = {step.name: step for step, _ in drawn}
    for step, before in drawn:
        task = task_of(step, made)
        task.dependencies = {made[name] for name in before}
        flow.add_task(task)
    ended = execute(flow, cancel_at, size)
    states = ended.states
    for name, state in states.items():
        fine = [states[each] == "SUCCEEDED" for each in waits[name]]
        may = not fine or (any(fine) if said[name].any_of else all(fine))
        assert ended.calls.get(name, 0) <= said[name].retries + 1
        assert (name in ended.calls) <= may
        if ended.status is RunStatus.COMPLETED:
            model = Model(None).tries(said[name])
            assert state == (model if may else "PENDING")
    stops = [n for n, state in states.items() if state == "FAILED" and not said[n].isolate]
    cancelled = cancel_at is not None and sum(ended.calls.values()) >= cancel_at
    if cancelled:
        assert ended.status in {RunStatus.CANCELLED, RunStatus.FAILED}
    else:
        assert ended.status is (RunStatus.FAILED if stops else RunStatus.COMPLETED)


# As the engine does ------------------------------------------------------------------------------


class Quiet(TraceBackend):
    """Prints nothing."""

    def on_flow_start(self, flow_name: str, run_id: str | None = None) -> None: ...
    def on_flow_end(self, flow_name: str) -> None: ...
    def on_node_start(self, node_name: str) -> None: ...
    def on_node_end(self, node_name: str, duration_ms: float) -> None: ...
    def on_node_error(self, node_name: str, error: Exception) -> None: ...


class Through(Calls):
    """Calls the functions."""

    def __init__(self) -> None:
        """Nothing stops them, and nobody is told what they print."""

    def call(
        self,
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
        *,
        limit: float | None,
        event_loop: EventLoop,
        context: Context,
    ) -> Any:
        return function(**arguments)


def real_task(name: str, before: list[str], fails: int, retries: int, any_of: bool) -> Task:
    left = [fails]

    def function(ctx: Context, p: int, item: Any = 0, missing: str = "default") -> Any:
        ctx.scratch[name] = ctx.scratch.get(name, 0) + 1
        if left[0]:
            left[0] -= 1
            raise ConnectionError(name)
        seen = [] if any_of else [ctx.results[each] for each in before]
        loops = [(frame.type, frame.index, frame.count) for frame in ctx.loops]
        # By name the engine forgets that of an outer loop when an inner one of the same name ends.
        known = [frame.item for frame in ctx.loops]
        return [name, p, missing, known, loops, seen, ctx.scratch[name]]

    task = Task(func=function, name=name, retries=retries)
    task.inputs = {"p": "$ctx.params.p"}
    task.outputs = [f"scratch.out.{name}", f"params.of_{name}"]
    task.trigger_policy = "ANY" if any_of else "ALL"
    return task


@settings(CASES, max_examples=500)
@given(SEEDS)
def test_flows_that_the_engine_is_right_about_keep_their_results(seed: int) -> None:
    draws = Draws(seed)
    graph = draws.graph() if seed % 2 else None
    shape = draws.parts()
    draw = [(draws.random.randint(0, 1), draws.random.randint(0, 1)) for _ in range(8)]

    def flow() -> Flow:
        made: dict[str, Task] = {}
        found = Flow(name="f")
        if graph is None:
            for index, name in enumerate("abcdefgh"):
                made[name] = real_task(name, [], *draw[index], any_of=False)
            nodes = flow_of(shape, made)
            _ = found >> FlowFragment(nodes.steps)
            return found
        for index, (step, names) in enumerate(graph):
            before = sorted(names)
            fails, retries = draw[index]
            task = real_task(step.name, before, fails * retries, retries, any_of=step.any_of)
            task.dependencies = {made[name] for name in before}
            made[task.name] = task
            found.add_task(task)
        return found

    params = {"p": 7, **PARAMS}
    theirs = RunContext()
    their_error: Exception | None = None
    scratch: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "pyoco.core.engine.time", SimpleNamespace(time=time.time, sleep=lambda _: None)
        )
        one = flow()
        for node in _loops(one):
            node.collect = None
        try:
            context = Engine(Quiet()).run(one, dict(params), theirs)
            scratch.append((context.results, context.scratch, context.params))
        except Exception as error:  # noqa: BLE001 - compared below
            their_error = error
    ours = RunContext(params=dict(params))
    our_error: Exception | None = None
    other = flow()
    for node in _loops(other):
        node.collect = None
    tasks = Tasks(ours, Silent(), Signal(), Through())
    try:
        context = execute_flow(other, in_order(other.tasks), tasks, 4)
        scratch.append((context.results, context.scratch, context.params))
    except Exception as error:  # noqa: BLE001 - compared below
        our_error = error
    assert type(our_error) is type(their_error)
    if graph is None:  # else another task may be the first that fails
        assert str(our_error) == str(their_error)
    assert ours.status is theirs.status
    if their_error is None:
        assert scratch[0] == scratch[1]
    if graph is None or their_error is None:
        assert ours.tasks == theirs.tasks


def _loops(flow: Flow) -> list[Any]:
    found: list[Any] = []
    waiting: list[Any] = list(flow.build_program().steps)  # type: ignore[no-untyped-call]
    while waiting:
        node = waiting.pop()
        if isinstance(node, SwitchNode):
            waiting += [step for case in node.cases for step in case.target.steps]
        elif isinstance(node, RepeatNode | ForEachNode | UntilNode):
            found.append(node)
            waiting += node.body.steps
    return found
