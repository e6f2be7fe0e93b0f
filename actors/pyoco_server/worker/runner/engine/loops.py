"""The loops of a flow: what their iterations are, and what is collected of these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pyoco.core.context import Context, LoopFrame
from pyoco.core.models import Task
from pyoco.dsl.expressions import Expression
from pyoco.dsl.nodes import (
    DSLNode,
    ForEachNode,
    RepeatNode,
    SubFlowNode,
    SwitchNode,
    TaskNode,
    UntilNode,
)


def evaluate(expression: Any, context: Context) -> Any:
    """Return what an expression of a graph comes to; what is none comes to itself."""
    if isinstance(expression, Expression):
        return expression.evaluate(ctx=context.expression_data(), env=context.env_data())
    return expression


def _source(expression: Any) -> str:
    return str(getattr(expression, "source", expression))


def _kind(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def frames_of(node: RepeatNode | ForEachNode, context: Context) -> tuple[int, Iterator[LoopFrame]]:
    """Return how many iterations a loop has, and the engine's word for each, made one by one.

    Raises:
        TypeError: Its count is no integer, or what it goes over no list or tuple.
        ValueError: Its count is negative.
    """
    if isinstance(node, RepeatNode):
        times = evaluate(node.count, context)
        if not isinstance(times, int):
            raise TypeError(
                f"Repeat count must evaluate to an integer. {_source(node.count)} is {_kind(times)}"
            )
        if times < 0:
            raise ValueError("Repeat count cannot be negative.")
        return times, (
            LoopFrame("repeat", "repeat", index=index, iteration=index + 1, count=times)
            for index in range(times)
        )
    items = evaluate(node.source, context)
    if not isinstance(items, list | tuple):
        raise TypeError(
            f"ForEach source must evaluate to a list or tuple. {_source(node.source)} is {_kind(items)}"
        )
    name, count = f"foreach:{node.alias or node.source.source}", len(items)
    return count, (
        LoopFrame(name, "foreach", index=index, iteration=index + 1, count=count, item=item)
        for index, item in enumerate(tuple(items))
    )


class Collected:
    """What the tasks of a loop returned, as far as it is kept.

    Its ``collect`` is ``list``, ``flatten``, ``first`` or ``last``; None for ``last``. Lists are those of all
    its tasks, also where none was executed: what comes behind takes them as they are.
    """

    def __init__(self, node: RepeatNode | ForEachNode | UntilNode) -> None:
        self._mode = node.collect
        self._count = 0
        self._in_lists = self._mode in {"list", "flatten"}
        self._kept: dict[str, dict[int, Any]] = (
            {task.name: {} for task in tasks_of(node.body)} if self._in_lists else {}
        )

    def add(self, produced: Mapping[str, Any]) -> None:
        """Take in the next iteration."""
        for name, value in produced.items():
            kept = self._kept.setdefault(name, {})
            if self._in_lists:
                kept[self._count] = value
            elif not (kept and self._mode == "first"):
                kept[0] = value
        self._count += 1

    def results(self) -> Iterator[tuple[str, Any]]:
        """Yield what is kept, by name; in a list, an iteration without a result has None."""
        for name, kept in self._kept.items():
            match self._mode:
                case "list":
                    yield name, [kept.get(index) for index in range(self._count)]
                case "flatten":
                    yield name, list(_flat(kept.values()))
                case _:
                    yield name, kept[0]


def tasks_of(step: DSLNode) -> Iterator[Task]:
    """Yield the tasks in a step, in their order."""
    match step:
        case TaskNode(task=task):
            yield task
        case SubFlowNode(steps=steps):
            for each in steps:
                yield from tasks_of(each)
        case SwitchNode(cases=cases):
            for case in cases:
                yield from tasks_of(case.target)
        case RepeatNode(body=body) | ForEachNode(body=body) | UntilNode(body=body):
            yield from tasks_of(body)
        case _:
            return


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from value
        else:
            yield value
