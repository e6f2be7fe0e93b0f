"""What a graph looks like: nodes and edges to draw, the same for both forms."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
from pyoco.dsl.graph_terms import (
    ForEachTerm,
    Pipeline,
    RepeatTerm,
    SwitchTerm,
    TaskTerm,
    Term,
    UntilTerm,
)

from pyoco_server.model.flow.engine_graph import EngineGraph, branches
from pyoco_server.model.flow.graph import Graph
from pyoco_server.model.flow.operator_graph import OperatorGraph

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
            return GraphStructure(
                nodes=tuple(
                    GraphNode(id=name, kind="task", name=name, task=name) for name in graph.nodes
                ),
                edges=tuple(
                    GraphEdge(
                        source=source,
                        target=target,
                        kind="any" if target in graph.any_join else "all",
                    )
                    for source, target in graph.edges
                ),
            )
        case EngineGraph():
            drawing = _Drawing()
            drawing.add(graph.pipeline(), None, None)
            return GraphStructure(nodes=tuple(drawing.nodes), edges=tuple(drawing.edges))


class _Drawing:
    def __init__(self) -> None:
        self.nodes: list[GraphNode] = []
        self.edges: list[GraphEdge] = []

    def add(self, pipeline: Pipeline, parent: str | None, branch: str | None) -> None:
        before: str | None = None
        for term in pipeline.terms:
            node = self._node(term, parent, branch)
            self.nodes.append(node)
            if before is not None:
                self.edges.append(GraphEdge(source=before, target=node.id, kind="all"))
            before = node.id
            for name, part in branches(term):
                self.add(part, node.id, name)

    def _node(self, term: Term, parent: str | None, branch: str | None) -> GraphNode:
        kind, detail = _kind(term)
        # A task may come more than once, so its name is no id.
        node = GraphNode(
            id=f"n{len(self.nodes)}",
            kind=kind,
            name=kind,
            detail=detail,
            parent=parent,
            branch=branch,
        )
        if isinstance(term, TaskTerm):
            return msgspec.structs.replace(node, name=term.node_name or term.name, task=term.name)
        return node


def _kind(term: Term) -> tuple[NodeKind, str | None]:
    match term:
        case SwitchTerm():
            return "switch", f"on={term.on}"
        case RepeatTerm():
            return "repeat", f"count={term.count}"
        case ForEachTerm():
            return "foreach", f"over={term.over}"
        case UntilTerm():
            return "until", f"cond={term.cond}"
        case _:
            return "task", None
