"""What a graph looks like: nodes and edges to draw, the same for both forms."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Literal, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace
from pyoco.dsl.graph_terms import (
    ForEachTerm,
    RepeatTerm,
    SwitchTerm,
    TaskTerm,
    Term,
    UntilTerm,
)

from pyoco_server.model.flow.engine_graph import EngineGraph, branches
from pyoco_server.model.flow.graph import Graph
from pyoco_server.model.flow.operator_graph import OperatorGraph

T = TypeVar("T")

NodeKind: TypeAlias = Literal["task", "switch", "repeat", "foreach", "until"]
EdgeKind: TypeAlias = Literal["all", "any"]


class GraphNode(msgspec.Struct, frozen=True, kw_only=True):
    """A task, or a group of the engine's language with nodes inside."""

    id: str
    """Unique in its graph."""
    kind: NodeKind
    name: str
    """Of a task: the name that a run's ``tasks`` have it under; of a group: its kind."""
    task: str | None = None
    """Of a task: which configured task it executes."""
    detail: str | None = None
    """Of a group: what it decides by, e.g. ``count=3``."""
    parent: str | None = None
    """The id of the group that it is inside of."""
    branch: str | None = None
    """Which part of that group: ``body``, or the value of a switch's case."""


class GraphEdge(msgspec.Struct, frozen=True, kw_only=True):
    """The target comes after the source."""

    source: str
    target: str
    kind: EdgeKind
    """``any``: one of the target's edges is enough; ``all``: it needs every one."""


class GraphStructure(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes and edges of a graph. A group comes before what is inside of it."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]


def structure(graph: Graph) -> GraphStructure:
    """Return what the graph looks like."""
    match graph:
        case OperatorGraph():
            return of_tasks(graph.nodes, graph.edges, graph.any_join)
        case EngineGraph():
            return of_steps(graph.pipeline.terms, _node, _inside)


def of_tasks(
    names: Iterable[str],
    edges: Iterable[tuple[str, str]] = (),
    any_join: Collection[str] = (),
) -> GraphStructure:
    """Return what tasks look like that wait for others, those of ``any_join`` for any of them."""
    return GraphStructure(
        nodes=tuple(GraphNode(id=name, kind="task", name=name, task=name) for name in names),
        edges=tuple(
            GraphEdge(source=source, target=target, kind="any" if target in any_join else "all")
            for source, target in edges
        ),
    )


def of_steps(
    steps: Iterable[T],
    node_of: Callable[[T], GraphNode],
    inside_of: Callable[[T], Iterable[tuple[str, Iterable[T]]]],
) -> GraphStructure:
    """Return what steps look like that come one after the other.

    Args:
        steps: The steps.
        node_of: Makes the node of a step, which has no place yet.
        inside_of: Finds the steps inside of one, by their branch.
    """
    nodes: list[GraphNode] = []
    edges: list[GraphEdge] = []

    def add(steps: Iterable[T], parent: str | None, branch: str | None) -> None:
        before: str | None = None
        for step in steps:
            # A task may come more than once, so its name is no id.
            name = f"n{len(nodes)}"
            nodes.append(replace(node_of(step), id=name, parent=parent, branch=branch))
            if before is not None:
                edges.append(GraphEdge(source=before, target=name, kind="all"))
            before = name
            for part, inside in inside_of(step):
                add(inside, name, part)

    add(steps, None, None)
    return GraphStructure(nodes=tuple(nodes), edges=tuple(edges))


def task_node(name: str, task: str | None) -> GraphNode:
    """Return the node of a task, which has no place yet."""
    return GraphNode(id="", kind="task", name=name, task=task)


def group_node(kind: NodeKind, detail: str) -> GraphNode:
    """Return the node of a group, which has no place yet."""
    return GraphNode(id="", kind=kind, name=kind, detail=detail)


def _node(term: Term) -> GraphNode:
    match term:
        case TaskTerm():
            return task_node(term.node_name or term.name, term.name)
        case SwitchTerm():
            return group_node("switch", f"on={term.on}")
        case RepeatTerm():
            return group_node("repeat", f"count={term.count}")
        case ForEachTerm():
            return group_node("foreach", f"over={term.over}")
        case UntilTerm():
            return group_node("until", f"cond={term.cond}")
        case _:
            return task_node("task", None)


def _inside(term: Term) -> Iterator[tuple[str, list[Term]]]:
    for name, part in branches(term):
        yield name, part.terms
