"""From what a run brings to the flow that the engine executes.

Every run gets tasks and dependencies of its own: nothing of one run is left for the next. Graphs
were parsed by the model and are wired here; no text is ever executed.

A task of a flow.yaml is one of these:

- ``callable: module:function``. Where the name stands for a Task or TaskWrapper of pyoco, i.e. a
  function under ``@task``, the task keeps what only Python code can say of it: ``retries``,
  ``timeout_sec``, ``fail_policy`` and ``parallel_group``.
- ``use: name``: a copy of another task of the file, or of one that the worker knows.
- neither, or not in the file at all: a task that the worker knows, from a plug-in (entry points
  ``pyoco.tasks``) or from the modules of ``PYOCO_DISCOVERY_MODULES``. Plug-ins are loaded when a
  flow needs one, by the engine's own loader.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from typing import assert_never

from pyoco.core.models import Flow, Task
from pyoco.discovery.loader import TaskLoader
from pyoco.dsl.graph import build_flow_from_graph
from pyoco.dsl.syntax import TaskWrapper
from pyoco.schemas.config import PyocoConfig

from pyoco_server.model.flow_yaml import FlowFile, TaskConfig, parse_flow_yaml
from pyoco_server.model.graph import EngineGraph, OperatorGraph


class TaskNotLoadable(Exception):
    """A task of a flow.yaml whose code the child cannot find; the text names both."""


@lru_cache(maxsize=16)
def read_flow_file(text: str, max_bytes: int) -> FlowFile:
    """Read the flow.yaml that a run brings; the same one is not read anew for its next run.

    Raises:
        FlowFileError: It is not what it should be.
    """
    raw = text.encode("utf-8", "surrogatepass")
    return parse_flow_yaml(raw, max_bytes=max_bytes, accepted=True)


class Plugins:
    """The tasks that the worker knows without a flow.yaml, and which plug-ins did not load."""

    def __init__(self) -> None:
        loader = TaskLoader(PyocoConfig(version=1, flow=None, tasks={}))
        loader.load()  # type: ignore[no-untyped-call]
        self.tasks: Mapping[str, Task] = loader.tasks
        self.problems = tuple(
            f"{report['name']}: {report['error']}"
            for report in loader.plugin_reports
            if "error" in report
        )


class FlowBuilder:
    """Builds flows of flow files; remembers the plug-ins."""

    def __init__(self) -> None:
        self._plugins: Plugins | None = None

    def build(self, file: FlowFile, flow_name: str) -> Flow:
        """Return a flow of new tasks.

        Raises:
            TaskNotLoadable: The code of a task cannot be found or imported.
        """
        graph = file.graph
        match graph:
            case OperatorGraph():
                tasks = {name: self._task(file, name) for name in graph.nodes}
                return _wire(graph, tasks, flow_name)
            case EngineGraph():
                names = dict.fromkeys((*file.tasks, *graph.unlisted))
                return build_flow_from_graph(
                    graph=graph.text,
                    tasks={name: self._task(file, name) for name in names},
                    pipes=graph.pipes,
                    flow_name=flow_name,
                )
            case _:
                assert_never(graph)

    def _task(self, file: FlowFile, name: str, inside: tuple[str, ...] = ()) -> Task:
        """Return a new task."""
        config = file.tasks.get(name, TaskConfig())
        if config.callable is not None:
            task = _copy(_imported(name, config.callable), name)
        elif config.use is None:
            task = _with_values(self._plugin(name, name), name)
        elif config.use in file.tasks and config.use not in (name, *inside):
            task = _with_values(self._task(file, config.use, (*inside, name)), name)
        else:
            task = _with_values(self._plugin(config.use, name), name)
        task.inputs.update(deepcopy(config.inputs))
        task.outputs.extend(config.outputs)
        return task

    def _plugin(self, name: str, wanted_by: str) -> Task:
        if self._plugins is None or self._plugins.problems:
            self._plugins = Plugins()
        task = self._plugins.tasks.get(name)
        if task is None:
            problems = "".join(f"; plug-in {problem}" for problem in self._plugins.problems)
            use = "" if name == wanted_by else f" (used by task {wanted_by!r})"
            raise TaskNotLoadable(
                f"task {name!r}{use} has no `callable` in the flow.yaml and is none that this "
                f"worker knows{problems}"
            )
        return task


def _imported(name: str, spec: str) -> Task:
    module_name, _, attribute = spec.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # a module's own code may raise anything
        raise TaskNotLoadable(
            f"task {name!r}: callable {spec!r} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if isinstance(found, TaskWrapper):
        return found.task
    if isinstance(found, Task):
        return found
    if not callable(found):
        raise TaskNotLoadable(f"task {name!r}: callable {spec!r} is no function but {found!r}")
    return Task(func=found, name=name)


def _copy(task: Task, name: str) -> Task:
    """Return a task with the policies of another, but without inputs, outputs and dependencies."""
    return Task(
        func=task.func,
        name=name,
        parallel_group=task.parallel_group,
        fail_policy=task.fail_policy,
        retries=task.retries,
        timeout_sec=task.timeout_sec,
    )


def _with_values(task: Task, name: str) -> Task:
    copy = _copy(task, name)
    copy.inputs = deepcopy(task.inputs)
    copy.outputs = list(task.outputs)
    copy.trigger_policy = task.trigger_policy
    return copy


def _wire(graph: OperatorGraph, tasks: Mapping[str, Task], flow_name: str) -> Flow:
    flow = Flow(name=flow_name)
    for task in tasks.values():
        flow.add_task(task)
    for before, after in graph.edges:
        tasks[after].dependencies.add(tasks[before])
        tasks[before].dependents.add(tasks[after])
    for name in graph.any_join:
        tasks[name].trigger_policy = "ANY"
    return flow
