"""What a flow looks like, read from the engine's own objects, however the flow was made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter

from pyoco.core.models import Flow, Task
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

from pyoco_server.model.flow.structure import (
    GraphNode,
    GraphStructure,
    group_node,
    of_steps,
    of_tasks,
    task_node,
)
from pyoco_server.worker.runner.engine.policies import policy_of


def shape(flow: Flow, order: Sequence[str]) -> GraphStructure:
    """Return the nodes and edges of a flow, as `pyoco_server.model.flow.structure.structure` does of a text.

    ``order`` are its tasks `in_order`.
    """
    if flow.has_control_flow():
        program: SubFlowNode = flow.build_program()  # type: ignore[no-untyped-call]
        return of_steps(program.steps, _node, _inside)
    tasks = {task.name: task for task in flow.tasks}
    edges = [
        (before.name, name)
        for name in order
        for before in sorted(tasks[name].dependencies, key=lambda task: task.name)
    ]
    waiting = {target for _, target in edges}
    return of_tasks(
        order, edges, {name for name in waiting if policy_of(tasks[name]).trigger == "any"}
    )


def in_order(tasks: Iterable[Task]) -> tuple[str, ...]:
    """Return the names of tasks, each after those that it waits for, else by name."""
    waits_for = {task.name: sorted([each.name for each in task.dependencies]) for task in tasks}
    return _ordered(tuple((name, *waits_for[name]) for name in sorted(waits_for)))


@lru_cache(maxsize=16)
def _ordered(waits_for: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Order names, of which each comes with those that it waits for; the runs of a child are mostly alike."""
    graph = {name: before for name, *before in waits_for}
    try:
        return tuple(name for name in TopologicalSorter(graph).static_order() if name in graph)
    except CycleError:
        return tuple(graph)  # the engine tells


def _node(step: DSLNode) -> GraphNode:
    match step:
        case TaskNode(task=task):
            return task_node(task.name, task.name)
        case SwitchNode(expression=expression):
            return group_node("switch", f"on={expression.source}")
        case RepeatNode(count=count):
            return group_node("repeat", f"count={getattr(count, 'source', count)}")
        case ForEachNode(source=source):
            return group_node("foreach", f"over={source.source}")
        case UntilNode(condition=condition):
            return group_node("until", f"cond={condition.source}")
        case _:
            # One that a later version of the engine adds is drawn as a plain step.
            name = type(step).__name__
            return task_node(name, name)


def _inside(step: DSLNode) -> Iterator[tuple[str, list[DSLNode]]]:
    match step:
        case SwitchNode(cases=cases):
            for case in cases:
                default = case.value == DEFAULT_CASE_VALUE
                yield "default" if default else str(case.value), case.target.steps
        case RepeatNode(body=body) | ForEachNode(body=body) | UntilNode(body=body):
            yield "body", body.steps
        case _:
            return
