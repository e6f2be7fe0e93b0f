"""From what a run brings to the flow that the engine executes.

Every run gets tasks and dependencies of its own: nothing of one run is left for the next. Graphs
were parsed by the model and are wired here; no text is ever executed.

A task of a flow.yaml is one of these:

- ``callable: module:function``. Where the name stands for a Task or TaskWrapper of pyoco, i.e. a
  function under ``@task``, the task keeps its policy and ``parallel_group``; what the file says of its policy
  goes before it.
- ``use: name``: a copy of another task of the file, or of one that the worker knows.
- neither, or not in the file at all: a task that the worker knows, from a plug-in (entry points
  ``pyoco.tasks``) or from the modules of ``PYOCO_DISCOVERY_MODULES``. The worker tells which one
  brings it (`catalog`), and no other one is imported.
"""

from __future__ import annotations

import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from typing import assert_never

from pyoco.core.models import Flow, Task
from pyoco.dsl.graph import build_flow_from_graph
from pyoco.dsl.graph_terms import ForEachTerm, Pipeline, RepeatTerm, SwitchTerm, TaskTerm, UntilTerm
from pyoco.dsl.nodes import DSLNode, ForEachNode, RepeatNode, SwitchNode, TaskNode, UntilNode
from pyoco.dsl.syntax import TaskWrapper

from pyoco_server.model.flow.callables import callable_rules
from pyoco_server.model.flow.engine_graph import EngineGraph, parallel_of
from pyoco_server.model.flow.file import FlowFile, parse_flow_yaml
from pyoco_server.model.flow.operator_graph import OperatorGraph
from pyoco_server.model.flow.reader import TaskConfig
from pyoco_server.worker.runner.engine.policies import copy_policy, set_policy
from pyoco_server.worker.runner.importing import NotImported, guarded, home_of, wheel_of
from pyoco_server.worker.runner.plugins import bring
from pyoco_server.worker.runner.protocol import Limits, Provider


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


class Worker(ABC):
    """The worker, as it is asked and told while a flow is built."""

    @abstractmethod
    def ask_for_providers(self, since: float) -> Sequence[Provider]:
        """What brings tasks, looked at then, on the machine's monotonic clock, or later."""

    @abstractmethod
    def tell_import(self, place: str) -> None:
        """Tell whose code is imported next."""


class Plugins:
    """The tasks that a worker knows without a flow.yaml; remembers what has been imported.

    Args:
        limits: What one import may take, and which functions a flow.yaml may name.
        wheels: Folders that wheels are installed in.
    """

    def __init__(self, limits: Limits, wheels: Sequence[str]) -> None:
        self.import_seconds = limits.import_seconds
        self.wheels = wheels
        self.rules = callable_rules(limits.callables)
        self._providers: Sequence[Provider] | None = None
        self._brought: dict[str, Mapping[str, Task]] = {}

    def find(self, name: str, worker: Worker) -> Task | None:
        """Return a task, importing what brings it; None where nothing does.

        Raises:
            NotImported: That cannot be imported here, though it could elsewhere.
        """
        begun = time.monotonic()
        if self._providers is None:
            self._providers = worker.ask_for_providers(0.0)
        task = self._import(name, worker)
        if task is None:  # it may have been installed or mended meanwhile
            self._providers = worker.ask_for_providers(begun)
            task = self._import(name, worker)
        return task

    @property
    def problems(self) -> list[str]:
        """What did not bring any tasks, and why."""
        found = self._providers or ()
        return [f"{each.place} {each.problem}" for each in found if each.problem is not None]

    def _import(self, name: str, worker: Worker) -> Task | None:
        for provider in reversed(self._providers or ()):
            if name not in provider.tasks:
                continue
            if provider.key not in self._brought:
                module = provider.value.partition(":")[0]
                with guarded(module, provider.place, self.import_seconds, worker.tell_import):
                    self._brought[provider.key] = bring(provider)
            return self._brought[provider.key].get(name)
        return None


class FlowBuilder:
    """Builds the flow of one flow file."""

    def __init__(self, file: FlowFile, plugins: Plugins, worker: Worker) -> None:
        self._file = file
        self._plugins = plugins
        self._worker = worker

    def build(self, flow_name: str) -> Flow:
        """Return a flow of new tasks.

        Raises:
            TaskNotLoadable: The code of a task cannot be found or imported.
        """
        graph = self._file.graph
        match graph:
            case OperatorGraph():
                tasks = {name: self._task(name) for name in graph.nodes}
                return _wire(graph, tasks, flow_name)
            case EngineGraph():
                names = dict.fromkeys((*self._file.tasks, *graph.unlisted))
                tasks = {name: self._task(name) for name in names}
                flow = build_flow_from_graph(
                    graph=graph.text, tasks=tasks, pipes=graph.pipes, flow_name=flow_name
                )
                program = flow.build_program()  # type: ignore[no-untyped-call]
                _say_all(graph.pipeline, program.steps, tasks)
                return flow
            case _:
                assert_never(graph)

    def _task(self, name: str, inside: tuple[str, ...] = ()) -> Task:
        """Return a new task."""
        tasks = self._file.tasks
        config = tasks.get(name, TaskConfig())
        if config.callable is not None:
            task = _copy(self._imported(name, config.callable), name)
        elif config.use is None:
            task = _with_values(self._plugin(name, name), name)
        elif config.use in tasks and config.use not in (name, *inside):
            task = _with_values(self._task(config.use, (*inside, name)), name)
        else:
            task = _with_values(self._plugin(config.use, name), name)
        task.inputs.update(deepcopy(config.inputs))
        task.outputs.extend(config.outputs)
        set_policy(task, config.policy)
        return task

    def _plugin(self, name: str, wanted_by: str) -> Task:
        try:
            task = self._plugins.find(name, self._worker)
        except NotImported as error:
            told = f"task {wanted_by!r}: {error}"
            if isinstance(error.__cause__, ModuleNotFoundError):
                told += _how_to_bring(error.__cause__.name)
            raise TaskNotLoadable(told) from error
        if task is None:
            problems = "".join(f"; {problem}" for problem in self._plugins.problems)
            use = "" if name == wanted_by else f" (used by task {wanted_by!r})"
            raise TaskNotLoadable(
                f"task {name!r}{use} has no `callable` in the flow.yaml and is none that this "
                f"worker knows{problems}"
            )
        return task

    def _imported(self, name: str, spec: str) -> Task:
        self._check(name, spec, spec)
        module, _, attribute = spec.partition(":")
        seconds, tell = self._plugins.import_seconds, self._worker.tell_import
        try:
            with guarded(module, None, seconds, tell):
                found = getattr(importlib.import_module(module), attribute)
                if not isinstance(found, Task | TaskWrapper) and not callable(found):
                    raise TypeError(f"{spec!r} is no function but {found!r}")
        except NotImported as error:
            told = f"task {name!r}: callable {spec!r} cannot be loaded: {error}"
            if isinstance(error.__cause__, ModuleNotFoundError):
                lacking = error.__cause__.name
                told += (
                    self._where_to_put(module)
                    if _is_part(lacking, module)
                    else _how_to_bring(lacking)
                )
            raise TaskNotLoadable(told) from error
        if isinstance(found, TaskWrapper):
            found = found.task
        task = found if isinstance(found, Task) else Task(func=found, name=name)
        # An allowed module has what it imported among its own names.
        self._check(name, spec, home_of(task.func))
        return task

    def _where_to_put(self, module: str) -> str:
        """How a module that is not there can be brought, for people."""
        folders = ", ".join(self._plugins.wheels)
        return (
            f"; this worker imports from {f'{folders} and ' if folders else ''}what is installed for its "
            f"Python: start it in the folder that holds {module!r}, or upload that folder as a wheel "
            "(pyoco-client wheel-build FOLDER) and start workers with --wheel-sync"
        )

    def _check(self, name: str, spec: str, callable_: str) -> None:
        """Refuse what a flow.yaml may not name."""
        rules, module = self._plugins.rules, callable_.partition(":")[0]
        if rules.open or rules.allows(callable_, wheel_of(module, self._plugins.wheels)):
            return
        is_ = "" if callable_ == spec else f" is {callable_!r}, which"
        raise TaskNotLoadable(
            f"task {name!r}: callable {spec!r}{is_} is not allowed here (PYOCO_FLOW_CALLABLES)"
        )


def _is_part(missing: str | None, module: str) -> bool:
    """Whether what is missing is the module or a package that it is in, and nothing that it imports."""
    return missing is not None and f"{module}.".startswith(f"{missing}.")


def _how_to_bring(module: str | None) -> str:
    """How a module that code of a run needs, and that is not there, can be brought, for people."""
    return (
        f"; {module!r} is in no wheel of this worker and not installed for its Python: install it there, or "
        "upload it (pyoco-client wheel-build FOLDER --with-deps brings what a package depends on)"
    )


def _copy(task: Task, name: str) -> Task:
    """Return a task with the policies of another, but without inputs, outputs and dependencies."""
    copy = Task(
        func=task.func,
        name=name,
        parallel_group=task.parallel_group,
        fail_policy=task.fail_policy,
        retries=task.retries,
        timeout_sec=task.timeout_sec,
    )
    copy_policy(copy, task)
    return copy


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


def _say_all(pipeline: Pipeline, steps: Sequence[DSLNode], tasks: Mapping[str, Task]) -> None:
    """Have nodes of the engine (pyoco 0.8) say all that the terms do which they were made of.

    They have the engine's default for a ``collect`` that is not said, no ``parallel``, and for ``name: task``
    a new task that knows of the engine's own policies only.
    """
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
                    _say_all(part, case.target.steps, tasks)
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
    _say_all(term.body, node.body.steps, tasks)
