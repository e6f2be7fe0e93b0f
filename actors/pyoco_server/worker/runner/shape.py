"""What a flow looks like, read from the engine's own objects, however the flow was made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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

from pyoco_server.model.flow.structure import GraphEdge, GraphNode, GraphStructure, NodeKind
from pyoco_server.worker.runner.engine.policies import policy_of


def shape(flow: Flow, order: list[str]) -> GraphStructure:
    """Return the nodes and edges of a flow, as `pyoco_server.model.flow.graph.structure` does of a text.

    ``order`` are its tasks `in_order`.
    """
    if flow.has_control_flow():
        drawing = _FlowDrawing()
        program: SubFlowNode = flow.build_program()  # type: ignore[no-untyped-call]
        drawing.add(program.steps, None, None)
        return GraphStructure(nodes=tuple(drawing.nodes), edges=tuple(drawing.edges))
    tasks = {task.name: task for task in flow.tasks}
    return GraphStructure(
        nodes=tuple(GraphNode(id=name, kind="task", name=name, task=name) for name in order),
        edges=tuple(
            GraphEdge(
                source=before.name,
                target=name,
                kind="any" if policy_of(tasks[name]).trigger == "any" else "all",
            )
            for name in order
            for before in sorted(tasks[name].dependencies, key=lambda task: task.name)
        ),
    )


def in_order(tasks: Iterable[Task]) -> list[str]:
    """Return the names of tasks, each after those that it waits for, else by name."""
    waits_for = {
        task.name: sorted(before.name for before in task.dependencies)
        for task in sorted(tasks, key=lambda task: task.name)
    }
    try:
        return [name for name in TopologicalSorter(waits_for).static_order() if name in waits_for]
    except CycleError:
        return list(waits_for)  # the engine tells


class _FlowDrawing:
    def __init__(self) -> None:
        self.nodes: list[GraphNode] = []
        self.edges: list[GraphEdge] = []

    def add(self, steps: Iterable[DSLNode], parent: str | None, branch: str | None) -> None:
        before: str | None = None
        for step in steps:
            kind, name, detail = _what(step)
            # A task may come more than once, so its name is no id.
            node = GraphNode(
                id=f"n{len(self.nodes)}",
                kind=kind,
                name=name,
                task=name if kind == "task" else None,
                detail=detail,
                parent=parent,
                branch=branch,
            )
            self.nodes.append(node)
            if before is not None:
                self.edges.append(GraphEdge(source=before, target=node.id, kind="all"))
            before = node.id
            for part, inside in _parts(step):
                self.add(inside.steps, node.id, part)


def _what(step: DSLNode) -> tuple[NodeKind, str, str | None]:
    match step:
        case TaskNode(task=task):
            return "task", task.name, None
        case SwitchNode(expression=expression):
            return "switch", "switch", f"on={expression.source}"
        case RepeatNode(count=count):
            return "repeat", "repeat", f"count={getattr(count, 'source', count)}"
        case ForEachNode(source=source):
            return "foreach", "foreach", f"over={source.source}"
        case UntilNode(condition=condition):
            return "until", "until", f"cond={condition.source}"
        case _:
            # One that a later version of the engine adds is drawn as a plain step.
            return "task", type(step).__name__, None


def _parts(step: DSLNode) -> Iterator[tuple[str, SubFlowNode]]:
    match step:
        case SwitchNode(cases=cases):
            for case in cases:
                yield (
                    "default" if case.value == DEFAULT_CASE_VALUE else str(case.value),
                    case.target,
                )
        case RepeatNode(body=body) | ForEachNode(body=body) | UntilNode(body=body):
            yield "body", body
        case _:
            return
