"""flow.yaml: a workflow in one file, read strictly."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from pyoco_server.model.errors import ErrorId, FlowFileError
from pyoco_server.model.flow.callables import ANYTHING, CallableRules
from pyoco_server.model.flow.engine_graph import MAX_PARALLEL
from pyoco_server.model.flow.graph import Graph, OperatorGraph, parse_graph
from pyoco_server.model.flow.task_policy import (
    NO_POLICY,
    POLICY_KEYS,
    InvalidPolicy,
    TaskPolicy,
    check_policy,
)
from pyoco_server.model.flow.yaml_document import Path, YamlDocument, parse_yaml
from pyoco_server.model.json_text import JSON
from pyoco_server.model.limits import LIMIT_FIELDS, InvalidLimit, RunLimits, check_limits
from pyoco_server.model.names import nearest

__all__ = ["FlowFile", "FlowFileError", "TaskConfig", "WorkflowTooLarge", "parse_flow_yaml"]

_TOP_KEYS: Final = ("version", "flow", "tasks", "pipes", "runtime")
_FLOW_KEYS: Final = ("graph", "defaults")
_TASK_KEYS: Final = ("callable", "use", "inputs", "outputs", *POLICY_KEYS)
_RUNTIME_KEYS: Final = ("expose_env", "parallel_tasks", *LIMIT_FIELDS)
_REFUSED: Final = {
    "flows": "a file has one workflow; put it under `flow`",
    "discovery": "what a worker loads is the operator's to say; name a task's function with "
    "`tasks.<name>.callable`",
}
_CALLABLE: Final = re.compile(r"[^\s:]+:[^\W\d]\w*")


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


class TaskConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says about a task; neither ``callable`` nor ``use``: the worker knows it."""

    callable: str | None = None
    """``module:function``."""
    use: str | None = None
    """Another task that this one is a copy of, under its own name."""
    inputs: dict[str, Any] = msgspec.field(default_factory=dict)
    outputs: list[str] = msgspec.field(default_factory=list)
    policy: TaskPolicy = NO_POLICY
    """How it is tried and waited for."""


class FlowFile(msgspec.Struct, frozen=True, kw_only=True):
    """A flow.yaml that was read and checked."""

    version: int
    graph_text: str
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
        accepted: Whether a run was accepted with it, maybe by another version; see `parse_yaml`.
        callables: Which functions it may name; what only a worker can tell is left to it.

    Raises:
        WorkflowTooLarge: There are more.
        FlowFileError: The file is not what it should be; the error tells what, where, and what
            would be right.
    """
    if len(raw) > max_bytes:
        raise WorkflowTooLarge(len(raw), max_bytes)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise FlowFileError("not UTF-8; save the file in that encoding", line=line) from None
    reader = _FlowReader(parse_yaml(text, accepted=accepted), text)
    top = reader.mapping((), _TOP_KEYS, refused=_REFUSED)
    if top.get("flow") is None:
        raise reader.error("missing; a flow.yaml needs `flow:` with a `graph:`", ("flow",))
    flow = reader.mapping(("flow",), _FLOW_KEYS)
    graph_text = flow.get("graph")
    if not isinstance(graph_text, str) or not graph_text.strip():
        raise reader.error("must be the text of a graph, e.g. `a >> b`", ("flow", "graph"))
    tasks = {name: reader.task(name, callables) for name in reader.mapping(("tasks",))}
    pipes = {name: reader.text(("pipes", name)) for name in reader.mapping(("pipes",))}
    runtime = reader.mapping(("runtime",), _RUNTIME_KEYS)
    try:
        graph = parse_graph(graph_text, tuple(tasks), pipes, accepted=accepted)
    except FlowFileError as error:
        raise _in_file(error, reader) from None
    return FlowFile(
        version=reader.version(),
        graph_text=graph_text,
        graph=_with_triggers(graph, tasks),
        defaults=reader.mapping(("flow", "defaults")),
        tasks=tasks,
        pipes=pipes,
        expose_env=tuple(reader.texts(("runtime", "expose_env"))),
        parallel_tasks=reader.parallel_tasks(runtime),
        limits=reader.limits(runtime),
        text=text,
        sha256=hashlib.sha256(raw).hexdigest(),
        size_bytes=len(raw),
    )


@dataclass(frozen=True, slots=True)
class _FlowReader:
    """Takes values out of a document by their paths, and refuses what is not as it should be."""

    document: YamlDocument
    source: str

    def error(self, reason: str, path: Path) -> FlowFileError:
        return self.document.error(reason, path)

    def value(self, path: Path) -> JSON:
        """Return the value at a path whose parents were found to be containers; else null."""
        value = self.document.value
        for step in path:
            if not isinstance(value, dict):
                return None
            value = value.get(str(step))
        return value

    def mapping(
        self,
        path: Path,
        keys: tuple[str, ...] | None = None,
        refused: dict[str, str] | None = None,
    ) -> dict[str, JSON]:
        """Return the mapping at ``path``, an empty one for null, with no keys but ``keys``."""
        value = self.value(path)
        if value is None and path:
            return {}
        if not isinstance(value, dict):
            raise self.error(f"must be a mapping of keys to values, not {_kind(value)}", path)
        for key in value:
            if refused and key in refused:
                raise self.document.key_error(f"not taken: {refused[key]}", (*path, key))
            if keys is not None and key not in keys:
                raise self.document.key_error(
                    f"no such key; those that there are: {', '.join(keys)}",
                    (*path, key),
                    nearest(key, keys),
                )
        return value

    def text(self, path: Path) -> str:
        value = self.value(path)
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"must be a text, not {_kind(value)}", path)
        return value

    def texts(self, path: Path) -> list[str]:
        value = self.value(path)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.error(f"must be a list of texts, not {_kind(value)}", path)
        texts: list[str] = []
        for index, item in enumerate(value):
            if not isinstance(item, str) or not item.strip():
                raise self.error(f"must be a text, not {_kind(item)}", (*path, index))
            texts.append(item)
        return texts

    def limits(self, runtime: dict[str, JSON]) -> RunLimits:
        """Return the limits that ``runtime`` sets, which have to be numbers."""
        values = {name: runtime.get(name) for name in LIMIT_FIELDS}
        for name, value in values.items():
            if isinstance(value, str):
                raise self.error("must be a number, not a text", ("runtime", name))
        try:
            return check_limits(**values)
        except InvalidLimit as error:
            raise self.error(error.reason, ("runtime", error.field)) from None

    def parallel_tasks(self, runtime: dict[str, JSON]) -> int | None:
        value = runtime.get("parallel_tasks")
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_PARALLEL:
            raise self.error(
                f"must be a whole number from 1 to {MAX_PARALLEL}", ("runtime", "parallel_tasks")
            )
        return value

    def policy(self, path: Path, config: dict[str, JSON]) -> TaskPolicy:
        """Return what a task says of how it is tried and waited for."""
        said: dict[str, JSON] = {key: config[key] for key in POLICY_KEYS if key in config}
        if not said:
            return NO_POLICY
        try:
            return check_policy(said)
        except InvalidPolicy as error:
            raise self.error(error.reason, (*path, *error.path)) from None

    def version(self) -> int:
        top = self.mapping(())
        value = top.get("version", 1)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            # 0.5.1 takes it in quotes, too.
            value = int(value[:20])
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.error(f"must be a whole number, not {_kind(value)}", ("version",))
        return value

    def task(self, name: str, callables: CallableRules) -> TaskConfig:
        path = ("tasks", name)
        if not name.strip():
            raise self.error("a task's name must not be empty", path)
        if self.value(path) is None:
            raise self.error("must be a mapping, e.g. `callable: module:function`", path)
        config = self.mapping(path, _TASK_KEYS)
        function = self._optional_text((*path, "callable"), config)
        use = self._optional_text((*path, "use"), config)
        if function is not None and _CALLABLE.fullmatch(function) is None:
            raise self.error(
                f"must be `module:function`, not {function[:80]!r}", (*path, "callable")
            )
        if function is not None and not callables.may_allow(function):
            raise self.error(
                f"{function[:80]!r} is not allowed here (PYOCO_FLOW_CALLABLES)", (*path, "callable")
            )
        if function is not None and use is not None:
            raise self.error("has both `callable` and `use`; keep one of the two", path)
        if use == name:
            raise self.error("a task cannot be a copy of itself", (*path, "use"))
        return TaskConfig(
            callable=function,
            use=use,
            inputs=self.mapping((*path, "inputs")),
            outputs=self.texts((*path, "outputs")),
            policy=self.policy(path, config),
        )

    def _optional_text(self, path: Path, config: dict[str, JSON]) -> str | None:
        return None if config.get(str(path[-1])) is None else self.text(path)


def _with_triggers(graph: Graph, tasks: dict[str, TaskConfig]) -> Graph:
    """Return a graph in which a task waits for all or any as its ``trigger`` says, where it has one."""
    if not isinstance(graph, OperatorGraph):
        return graph
    said = {name: config.policy.trigger for name, config in tasks.items() if config.policy.trigger}
    if not said:
        return graph
    either = {name for name, trigger in said.items() if trigger == "any"}
    any_join = (graph.any_join - said.keys()) | either
    return msgspec.structs.replace(graph, any_join=frozenset(any_join))


def _kind(value: JSON) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text" if value.strip() else "an empty text"
        case list():
            return "a list"
        case _:
            return "a mapping"


def _in_file(error: FlowFileError, reader: _FlowReader) -> FlowFileError:
    """Return a graph's error with the line and column of the file instead of the graph's."""
    placed = _placed(error, reader)
    placed.nearest = error.nearest
    return placed


def _placed(error: FlowFileError, reader: _FlowReader) -> FlowFileError:
    section, _, name = error.path.partition(".")
    path = (section, name)
    place = reader.document.places.get(path)
    if place is None or error.line is None:
        return reader.error(error.reason, path if place else (section,))
    graph_lines = str(reader.value(path)).split("\n")
    graph_line = graph_lines[min(error.line, len(graph_lines)) - 1]
    # The text of a `|` block starts in the line after its sign, and keeps its lines.
    line = place.line + error.line if place.style == "|" else place.line
    file_lines = reader.source.split("\n")
    indent = file_lines[line - 1].find(graph_line) if line <= len(file_lines) else -1
    if indent < 0 or (len(graph_lines) > 1 and place.style != "|"):
        reason = f"{error.reason} (line {error.line}, column {error.column} of the graph)"
        return reader.error(reason, path)
    return FlowFileError(
        error.reason, path=error.path, line=line, column=indent + (error.column or 1)
    )
