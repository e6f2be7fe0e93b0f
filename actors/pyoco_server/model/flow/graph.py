"""The graph of a flow.yaml, in either of its two forms. Both are parsed, never executed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias

from pyoco_server.model.flow.engine_graph import (
    EngineGraph,
    is_engine_form,
    parse_engine_graph,
    parse_pipes,
)
from pyoco_server.model.flow.operator_graph import OperatorGraph, parse_operator_graph

Graph: TypeAlias = OperatorGraph | EngineGraph


def parse_graph(
    text: str,
    task_names: Collection[str] = (),
    pipes: Mapping[str, str] | None = None,
    *,
    accepted: bool = False,
) -> Graph:
    """Read a graph in the form that it is written in.

    A name that is not among ``task_names`` may be one that the worker knows, so it is listed in
    ``unlisted`` and not refused. What a run was ``accepted`` with may say what means nothing.

    Raises:
        FlowFileError: It is not a graph of that form; line and column are those of ``text``.
    """
    if is_engine_form(text):
        return parse_engine_graph(text, task_names, pipes, accepted=accepted)
    parse_pipes(pipes or {}, accepted=accepted)
    return parse_operator_graph(text, task_names)
