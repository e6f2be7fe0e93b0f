"""Executes a flow with switches or loops: its steps one after the other, each by what the flow says.

A step runs where the one before it succeeded. A loop has succeeded where all of its iterations did; where
some did, what has ``trigger: any`` runs behind it. An iteration of ``until`` that failed has not met its
condition.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from enum import Enum
from operator import itemgetter
from queue import SimpleQueue
from typing import Any

from pyoco.core.context import Context, LoopFrame, LoopStack
from pyoco.core.exceptions import SwitchNoMatch, UntilMaxIterationsExceeded
from pyoco.core.models import Task
from pyoco.dsl.nodes import (
    DEFAULT_CASE_VALUE,
    DSLNode,
    ForEachNode,
    RepeatNode,
    SubFlowNode,
    SwitchNode,
    TaskNode,
    UntilNode,
)

from pyoco_server.worker.runner.engine.loops import Collected, evaluate, frames_of, tasks_of
from pyoco_server.worker.runner.engine.policies import policy_of
from pyoco_server.worker.runner.engine.pool import Pool
from pyoco_server.worker.runner.engine.tries import RunCancelled, Tasks

DEFAULT_MAX_ITERATIONS = 1_000
_MISSING = object()


class Success(Enum):
    """What became of a step."""

    ALL = "all"
    SOME = "some"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where steps are executed.

    Attributes:
        context: What their tasks see.
        produced: What those returned that succeeded, by name.
    """

    context: Context
    produced: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _IterationEnd:
    """What became of an iteration, and whether its condition is met, if it has one."""

    success: Success
    produced: Mapping[str, Any]
    met: bool


class FlowProgram:
    """Executes the engine's nodes.

    Args:
        tasks: Executes the tasks.
        pool: For loops that run several iterations at the same time, besides those of the calling thread.
    """

    def __init__(self, tasks: Tasks, pool: Pool) -> None:
        self._tasks = tasks
        self._pool = pool

    def execute(self, steps: SubFlowNode, context: Context) -> Success:
        """Execute steps.

        Raises:
            RunCancelled: Not all.
            Exception: A task failed whose failure ends the run, or a step cannot be decided.
        """
        return self._sequence(steps, _Scope(context))

    def _sequence(self, steps: SubFlowNode, scope: _Scope) -> Success:
        success = Success.ALL
        for step in steps.steps:
            self._go_on()
            if success is Success.ALL or (success is Success.SOME and _takes_any(step)):
                success = self._step(step, scope)
            else:
                success = Success.NONE
                self._skip(step, scope)
        self._go_on()
        return success

    def _go_on(self) -> None:
        if self._tasks.cancelled:
            raise RunCancelled

    def _step(self, step: DSLNode, scope: _Scope) -> Success:
        match step:
            case TaskNode(task=task):
                return self._task(task, scope)
            case SwitchNode():
                return self._switch(step, scope)
            case RepeatNode() | ForEachNode():
                return self._loop(step, scope)
            case UntilNode():
                return self._until(step, scope)
            case _:
                raise TypeError(f"Unknown node type: {type(step)}")

    def _task(self, task: Task, scope: _Scope) -> Success:
        if not self._tasks.execute(task, scope.context):
            return Success.NONE
        scope.produced[task.name] = scope.context.results[task.name]
        return Success.ALL

    def _skip(self, step: DSLNode, scope: _Scope) -> None:
        if scope.context.loop is not None:
            return  # another iteration may execute it; the end of the outermost loop tells
        for task in tasks_of(step):
            self._tasks.skip(task)

    def _switch(self, node: SwitchNode, scope: _Scope) -> Success:
        taken = _case(node, evaluate(node.expression, scope.context))
        for case in node.cases:
            if case.target is not taken:
                self._skip(case.target, scope)
        return self._sequence(taken, scope)

    # Loops ---------------------------------------------------------------------------------------

    def _loop(self, node: RepeatNode | ForEachNode, scope: _Scope) -> Success:
        total, frames = frames_of(node, scope.context)
        # This thread takes iterations, too.
        beside = min(getattr(node, "parallel", None) or 1, self._pool.size + 1, total)
        collected = Collected(node)
        successes: set[Success] = set()
        ended: Iterable[_IterationEnd]
        if beside > 1:
            ended = self._beside(node, scope.context, frames, beside)
        else:
            ended = (self._iterate(node, scope.context, frame) for frame in frames)
        for each in ended:
            successes.add(each.success)
            collected.add(each.produced)
        self._end_loop(node, collected, scope)
        match len(successes):
            case 0:
                return Success.ALL
            case 1:
                return successes.pop()
            case _:
                return Success.SOME

    def _until(self, node: UntilNode, scope: _Scope) -> Success:
        most = node.max_iter or DEFAULT_MAX_ITERATIONS
        met: bool | None = None
        collected = Collected(node)
        for index in range(most):
            frame = LoopFrame(
                "until", "until", index=index, iteration=index + 1, condition=met, count=most
            )
            ended = self._iterate(node, scope.context, frame)
            collected.add(ended.produced)
            if met := ended.met:
                self._end_loop(node, collected, scope)
                return Success.ALL
        raise UntilMaxIterationsExceeded(node.condition.source, most)

    def _iterate(
        self, node: RepeatNode | ForEachNode | UntilNode, context: Context, frame: LoopFrame
    ) -> _IterationEnd:
        """Execute the body once; where it succeeded, look at the condition that the loop may have."""
        self._go_on()
        scope, met = _Scope(context), False
        variables: dict[str, Any] = {}
        if isinstance(node, ForEachNode):
            named = ((node.alias, frame.item), (node.index_alias, frame.index))
            variables = {name: value for name, value in named if name}
        outer = {name: context.get_var(name, _MISSING) for name in variables}
        context.push_loop(frame)
        for name, value in variables.items():
            context.set_var(name, value)
        try:
            success = self._sequence(node.body, scope)
            if isinstance(node, UntilNode) and success is Success.ALL:
                met = bool(evaluate(node.condition, context))
        finally:
            for name, value in outer.items():
                if value is _MISSING:
                    context.clear_var(name)
                else:
                    context.set_var(name, value)
            context.pop_loop()
        return _IterationEnd(success, scope.produced, met)

    def _beside(
        self,
        node: RepeatNode | ForEachNode,
        context: Context,
        frames: Iterator[LoopFrame],
        beside: int,
    ) -> list[_IterationEnd]:
        """Execute iterations beside each other, each with results of its own; then they are the run's."""
        lock = threading.Lock()
        left: Iterator[tuple[int, LoopFrame]] = enumerate(frames)
        taken = 0
        done: SimpleQueue[tuple[int, _IterationEnd | BaseException, dict[str, Any]]] = SimpleQueue()
        before = dict(context.results)

        def take() -> tuple[int, LoopFrame] | None:
            nonlocal taken
            with lock:
                next_one = next(left, None)
                taken += next_one is not None
                return next_one

        def take_turns() -> None:
            nonlocal left
            while (next_one := take()) is not None:
                index, frame = next_one
                apart = _apart(context, before)
                outcome: _IterationEnd | BaseException
                try:
                    outcome = self._iterate(node, apart, frame)
                except BaseException as error:  # noqa: BLE001 - it is raised below
                    with lock:
                        left = iter(())
                    outcome = error
                done.put((index, outcome, apart.results))

        for _ in range(beside - 1):
            with suppress(RuntimeError):  # there is no thread
                self._pool.start(take_turns)
        # Where all other threads are busy with an outer loop, this one goes on alone.
        take_turns()
        ended = [done.get() for _ in range(taken)]
        ended.sort(key=itemgetter(0))
        successful: list[_IterationEnd] = []
        for _, outcome, results in ended:
            if isinstance(outcome, BaseException):
                raise outcome
            successful.append(outcome)
            context.results.update(
                {
                    name: value
                    for name, value in results.items()
                    if name not in before or before[name] is not value
                }
            )
        return successful

    def _end_loop(
        self, node: RepeatNode | ForEachNode | UntilNode, collected: Collected, scope: _Scope
    ) -> None:
        """Have the result of each task of a loop be what the loop collects of it."""
        self._skip(node.body, scope)
        for name, result in collected.results():
            scope.produced[name] = result
            scope.context.set_result(name, result)
            self._tasks.give_output(name, result)


def _takes_any(step: DSLNode) -> bool:
    first = next(tasks_of(step), None)
    return first is not None and policy_of(first).trigger == "any"


def _case(node: SwitchNode, value: object) -> SubFlowNode:
    for case in node.cases:
        if case.value != DEFAULT_CASE_VALUE and case.value == value:
            return case.target
    for case in node.cases:
        if case.value == DEFAULT_CASE_VALUE:
            return case.target
    raise SwitchNoMatch(node.expression.source)


def _apart(context: Context, results: Mapping[str, Any]) -> Context:
    """Return a context with results and loops of its own; scratch, params and artifacts are shared."""
    loops = LoopStack()  # type: ignore[no-untyped-call]
    for frame in context.loops:
        loops.push(copy(frame))
    apart = copy(context)  # made anew, it would see to its folder of artifacts each time
    apart.results, apart._vars, apart._loop_stack = dict(results), dict(context._vars), loops
    return apart
