"""flow.yaml: a workflow in one file, read strictly."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any, Final

import msgspec

from pyoco_server.model.errors import ErrorId, FlowFileError
from pyoco_server.model.flow.callables import ANYTHING, CallableRules
from pyoco_server.model.flow.graph import Graph
from pyoco_server.model.flow.operator_graph import OperatorGraph
from pyoco_server.model.flow.reader import EnoughErrors, FlowReader, TaskConfig, is_text
from pyoco_server.model.flow.task_policy import Trigger
from pyoco_server.model.flow.yaml_document import first_of, read_yaml
from pyoco_server.model.limits import LIMIT_FIELDS, RunLimits

_TOP_KEYS: Final = ("version", "flow", "tasks", "pipes", "runtime")
_FLOW_KEYS: Final = ("graph", "defaults")
_RUNTIME_KEYS: Final = ("expose_env", "parallel_tasks", *LIMIT_FIELDS)
_REFUSED: Final = {
    "flows": "a file has one workflow; put it under `flow`",
    "discovery": "what a worker loads is the operator's to say; name a task's function with "
    "`tasks.<name>.callable`",
}


class WorkflowTooLarge(FlowFileError):
    """A flow.yaml of more bytes than are taken."""

    error_id = ErrorId.WORKFLOW_TOO_LARGE

    def __init__(self, size_bytes: int, max_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.max_bytes = max_bytes
        super().__init__(
            f"workflow too large: {size_bytes} bytes, at most {max_bytes} are taken "
            "(PYOCO_WORKFLOW_YAML_MAX_BYTES)"
        )


class FlowFile(msgspec.Struct, frozen=True, kw_only=True):
    """A flow.yaml that was read and checked."""

    version: int
    graph: Graph
    defaults: dict[str, Any]
    """The params of a run that is submitted with the file."""
    tasks: dict[str, TaskConfig]
    pipes: dict[str, str]
    expose_env: tuple[str, ...]
    """The environment variables that the flow may see."""
    parallel_tasks: int | None = None
    """How many of its tasks run at the same time, at most; as many as the worker says where it is not set."""
    limits: RunLimits = RunLimits()
    """How long an attempt of a run may take, and how many there are."""
    text: str
    sha256: str
    """Of the file's bytes, in hex."""
    size_bytes: int


def parse_flow_yaml(
    raw: bytes, *, max_bytes: int, accepted: bool = False, callables: CallableRules = ANYTHING
) -> FlowFile:
    """Read a flow.yaml.

    Args:
        raw: The file's bytes.
        max_bytes: How many are taken.
        accepted: Whether a run was accepted with it, maybe by another version; see `read_yaml`.
        callables: Which functions it may name; what only a worker can tell is left to it.

    Raises:
        WorkflowTooLarge: There are more.
        FlowFileError: The file is not what it should be; the error tells what, where, and what
            would be right.
    """
    flow, errors = read_flow_yaml(raw, max_bytes=max_bytes, accepted=accepted, callables=callables)
    if flow is None or errors:
        raise first_of(errors)
    return flow


def read_flow_yaml(
    raw: bytes, *, max_bytes: int, accepted: bool = False, callables: CallableRules = ANYTHING
) -> tuple[FlowFile | None, list[FlowFileError]]:
    """Read a flow.yaml as `parse_flow_yaml` does, and go on after what is wrong as far as that makes sense.

    Returns:
        The file, without what is wrong, where it has a graph; and the errors.

    Raises:
        WorkflowTooLarge: It has more bytes than are taken.
    """
    if len(raw) > max_bytes:
        raise WorkflowTooLarge(len(raw), max_bytes)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return None, [FlowFileError("not UTF-8; save the file in that encoding", line=line)]
    try:
        document = read_yaml(text, accepted=accepted)
    except FlowFileError as error:
        return None, [error, *error.others]
    reader = FlowReader(document, text)
    flow: FlowFile | None = None
    with suppress(EnoughErrors):
        flow = _flow_file(reader, raw, accepted=accepted, callables=callables)
    return flow, reader.errors


def _flow_file(
    reader: FlowReader, raw: bytes, *, accepted: bool, callables: CallableRules
) -> FlowFile | None:
    """The file, without what is wrong; None where it has no graph."""
    top = reader.mapping((), _TOP_KEYS, refused=_REFUSED)
    if top.get("flow") is None and reader.unmeant(("flow",)):
        reader.wrong("missing; a flow.yaml needs `flow:` with a `graph:`", ("flow",))
    flow = reader.mapping(("flow",), _FLOW_KEYS)
    graph_text = flow.get("graph")
    if (
        isinstance(top.get("flow"), dict)
        and not is_text(graph_text)
        and reader.unmeant(("flow", "graph"))
    ):
        reader.wrong("must be the text of a graph, e.g. `a >> b`", ("flow", "graph"))
    tasks = {name: reader.task(name, callables) for name in reader.mapping(("tasks",))}
    pipes = {name: reader.text(("pipes", name)) for name in reader.mapping(("pipes",))}
    runtime = reader.mapping(("runtime",), _RUNTIME_KEYS)
    graph = reader.graph(graph_text, tasks, pipes, accepted=accepted)
    version, defaults = reader.version(top), reader.mapping(("flow", "defaults"))
    expose_env = tuple(reader.texts(("runtime", "expose_env")))
    parallel_tasks, limits = reader.parallel_tasks(runtime), reader.limits(runtime)
    if graph is None:
        return None
    return FlowFile(
        version=version,
        graph=_with_triggers(graph, tasks),
        defaults=defaults,
        tasks=tasks,
        pipes=pipes,
        expose_env=expose_env,
        parallel_tasks=parallel_tasks,
        limits=limits,
        text=reader.source,
        sha256=hashlib.sha256(raw).hexdigest(),
        size_bytes=len(raw),
    )


def _with_triggers(graph: Graph, tasks: dict[str, TaskConfig]) -> Graph:
    """Return a graph in which a task waits for all or any as its ``trigger`` says, or that of its ``use``."""
    if not isinstance(graph, OperatorGraph):
        return graph
    said = {name: trigger for name, trigger in _triggers(tasks).items() if trigger}
    if not said:
        return graph
    either = {name for name, trigger in said.items() if trigger == "any"}
    any_join = (graph.any_join - said.keys()) | either
    return msgspec.structs.replace(graph, any_join=frozenset(any_join))


def _triggers(tasks: dict[str, TaskConfig]) -> dict[str, Trigger | None]:
    """What each task says of what it waits for, or else the one that it is a copy of; None for neither."""
    found: dict[str, Trigger | None] = {}
    for each in tasks:
        name: str | None = each
        copies: list[str] = []
        while name in tasks and name not in found:
            config = tasks[name]
            found[name] = config.policy.trigger
            copies.append(name)
            name = name if config.policy.trigger else config.use
        # Nothing is known of one that the worker knows, as the last of a circle is.
        found |= dict.fromkeys(copies, found.get(name or ""))
    return found
