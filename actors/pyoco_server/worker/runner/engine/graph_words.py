"""What a graph of the engine's language says and the engine's own nodes (pyoco 0.8) do not carry.

They have the engine's default for a ``collect`` that is not said, no ``parallel``, and for ``name: task`` a
new task that knows of the engine's own policies only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyoco.core.models import Flow, Task
from pyoco.dsl.graph_terms import ForEachTerm, Pipeline, RepeatTerm, SwitchTerm, TaskTerm, UntilTerm
from pyoco.dsl.nodes import DSLNode, ForEachNode, RepeatNode, SwitchNode, TaskNode, UntilNode

from pyoco_server.model.flow.engine_graph import parallel_of
from pyoco_server.worker.runner.engine.policies import copy_policy


def say_all(pipeline: Pipeline, flow: Flow, tasks: Mapping[str, Task]) -> None:
    """Have a flow's nodes say all that the pipeline does which they were made of.

    Args:
        pipeline: The engine's terms, with every pipe in its place.
        flow: What the engine made of them.
        tasks: What it was made with, by name.
    """
    _say(pipeline, flow.build_program().steps, tasks)  # type: ignore[no-untyped-call]


def _say(pipeline: Pipeline, steps: Sequence[DSLNode], tasks: Mapping[str, Task]) -> None:
    for term, node in zip(pipeline.terms, steps, strict=True):
        match term, node:
            case TaskTerm(name=name), TaskNode(task=task):
                if task is not tasks[name]:
                    copy_policy(task, tasks[name])
            case SwitchTerm(), SwitchNode():
                parts = [case.branch for case in term.cases]
                if term.default is not None:
                    parts.append(term.default)
                for part, case in zip(parts, node.cases, strict=True):
                    _say(part, case.target.steps, tasks)
            case RepeatTerm(), RepeatNode():
                _say_loop(term, node, tasks)
            case ForEachTerm(), ForEachNode():
                _say_loop(term, node, tasks)
            case UntilTerm(), UntilNode():
                _say_loop(term, node, tasks)
            case _:
                raise TypeError(f"the engine made {node!r} of {term!r}")


def _say_loop(
    term: RepeatTerm | ForEachTerm | UntilTerm,
    node: RepeatNode | ForEachNode | UntilNode,
    tasks: Mapping[str, Task],
) -> None:
    node.collect = term.collect
    vars(node)["parallel"] = parallel_of(term)
    _say(term.body, node.body.steps, tasks)
