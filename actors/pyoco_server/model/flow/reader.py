"""Takes what a flow.yaml says out of its document, and notes all that is not as it should be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, TypeGuard

import msgspec

from pyoco_server.model.errors import FlowFileError, InvalidField
from pyoco_server.model.flow.callables import CallableRules
from pyoco_server.model.flow.engine_graph import MAX_PARALLEL, parse_pipes
from pyoco_server.model.flow.graph import Graph, parse_graph
from pyoco_server.model.flow.task_policy import (
    NO_POLICY,
    POLICY_KEYS,
    InvalidPolicy,
    TaskPolicy,
    check_policy,
)
from pyoco_server.model.flow.yaml_document import MAX_ERRORS, Path, YamlDocument
from pyoco_server.model.json_text import JSON
from pyoco_server.model.limits import LIMIT_FIELDS, RunLimits, check_limits
from pyoco_server.model.names import nearest

_TASK_KEYS: Final = ("callable", "use", "inputs", "outputs", *POLICY_KEYS)
_CALLABLE: Final = re.compile(r"[^\s:]+:[^\W\d]\w*")


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


class EnoughErrors(Exception):
    """As many errors are noted as are told."""


class FlowReader:
    """Takes values out of a document by their paths, and notes what is not as it should be.

    Whatever notes an error raises `EnoughErrors` where that is the last one to be told.

    Attributes:
        errors: That, and what is wrong in the document itself.
    """

    def __init__(self, document: YamlDocument, source: str) -> None:
        self.document = document
        self.source = source
        self.errors = list(document.errors)
        self._known = {error.path for error in document.errors}
        self._meant: set[Path] = set()

    def note(self, error: FlowFileError) -> None:
        """Note an error, unless it comes of one of the document's."""
        if error.path not in self._known:
            self.errors.append(error)
            if len(self.errors) >= MAX_ERRORS:
                raise EnoughErrors

    def wrong(self, reason: str, path: Path, nearest: str | None = None) -> None:
        """Note what is wrong at a path, and which word was most likely meant."""
        self.note(self.document.error(reason, path, nearest))

    def value(self, path: Path) -> JSON:
        """Return the value at a path; null where there is none."""
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
        """Return the mapping at ``path``, an empty one for null; it has no keys but ``keys``."""
        value = self.value(path)
        if value is None and path:
            return {}
        if not isinstance(value, dict):
            self.wrong(f"must be a mapping of keys to values, not {_kind(value)}", path)
            return {}
        for key in value:
            if refused and key in refused:
                self.note(self.document.key_error(f"not taken: {refused[key]}", (*path, key)))
            elif keys is not None and key not in keys:
                near = nearest(key, keys)
                reason = f"no such key; those that there are: {', '.join(keys)}"
                self.note(self.document.key_error(reason, (*path, key), near))
                if near is not None:
                    self._meant.add((*path, near))
        return value

    def unmeant(self, path: Path) -> bool:
        """Whether no key was meant to be this one, as far as one can tell, in a document that has keys."""
        return isinstance(self.document.value, dict) and path not in self._meant

    def text(self, path: Path) -> str:
        """Return the text at a path; an empty one where it is none."""
        value = self.value(path)
        if is_text(value):
            return value
        self.wrong(f"must be a text, not {_kind(value)}", path)
        return ""

    def texts(self, path: Path) -> list[str]:
        """Return the texts of the list at a path."""
        value = self.value(path)
        if value is None:
            return []
        if not isinstance(value, list):
            self.wrong(f"must be a list of texts, not {_kind(value)}", path)
            return []
        texts: list[str] = []
        for index, item in enumerate(value):
            if is_text(item):
                texts.append(item)
            else:
                self.wrong(f"must be a text, not {_kind(item)}", (*path, index))
        return texts

    def graph(
        self,
        text: JSON,
        tasks: Mapping[str, TaskConfig],
        pipes: dict[str, str],
        *,
        accepted: bool,
    ) -> Graph | None:
        """Return the graph; None where it, or a part of it in ``pipes``, is none."""
        right: dict[str, str] = {}
        for name, part in pipes.items():
            # The graph is looked at with something else in the place of what is wrong.
            right[name] = f"pipe_{len(right)}_"
            try:
                parse_pipes({name: part} if part else {}, accepted=accepted)
            except FlowFileError as error:
                self.note(self._in_file(error))
            else:
                right[name] = part or right[name]
        if not is_text(text):
            return None
        try:
            graph = parse_graph(text, tasks, right, accepted=accepted)
        except FlowFileError as error:
            for each in (error, *error.others):
                self.note(self._in_file(each))
            return None
        return graph if right == pipes else None

    def _in_file(self, error: FlowFileError) -> FlowFileError:
        """Return a graph's error with the line and column of the file instead of the graph's."""
        section, _, name = error.path.partition(".")
        path = (section, name)
        place = self.document.places.get(path)
        if place is None or error.line is None:
            return self.document.error(error.reason, path if place else (section,), error.nearest)
        graph_lines = str(self.value(path)).split("\n")
        graph_line = graph_lines[min(error.line, len(graph_lines)) - 1]
        # The text of a `|` block starts in the line after its sign, and keeps its lines.
        line = place.line + error.line if place.style == "|" else place.line
        file_lines = self.source.split("\n")
        indent = file_lines[line - 1].find(graph_line) if line <= len(file_lines) else -1
        if indent < 0 or (len(graph_lines) > 1 and place.style != "|"):
            reason = f"{error.reason} (line {error.line}, column {error.column} of the graph)"
            return self.document.error(reason, path, error.nearest)
        column = indent + (error.column or 1)
        return FlowFileError(
            error.reason, path=error.path, line=line, column=column, nearest=error.nearest
        )

    def limits(self, runtime: dict[str, JSON]) -> RunLimits:
        """Return the limits that ``runtime`` sets, which have to be numbers."""
        right: dict[str, JSON] = {}
        for name in LIMIT_FIELDS:
            value = runtime.get(name)
            if isinstance(value, str):
                self.wrong("must be a number, not a text", ("runtime", name))
                continue
            try:
                check_limits(**{name: value})
            except InvalidField as error:
                self.wrong(error.reason, ("runtime", name))
            else:
                right[name] = value
        return check_limits(**right)

    def parallel_tasks(self, runtime: dict[str, JSON]) -> int | None:
        """Return how many tasks ``runtime`` has run at the same time."""
        value = runtime.get("parallel_tasks")
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_PARALLEL:
            self.wrong(
                f"must be a whole number from 1 to {MAX_PARALLEL}", ("runtime", "parallel_tasks")
            )
            return None
        return value

    def policy(self, path: Path, config: dict[str, JSON]) -> TaskPolicy:
        """Return what a task says of how it is tried and waited for."""
        said: dict[str, JSON] = {key: config[key] for key in POLICY_KEYS if key in config}
        if not said:
            return NO_POLICY
        try:
            return check_policy(said)
        except InvalidPolicy as whole:
            errors = [*islice(_wrong_alone(said), MAX_ERRORS)] or [whole]
        for error in errors:
            place = (*path, *error.path)
            if error.unknown:
                self.note(self.document.key_error(error.reason, place, error.meant))
            else:
                self.wrong(error.reason, place, error.meant)
        return NO_POLICY

    def version(self, top: dict[str, JSON]) -> int:
        """Return the form of the file."""
        value = top.get("version", 1)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            # 0.5.1 takes it in quotes, too.
            value = int(value[:20])
        if not isinstance(value, int) or isinstance(value, bool):
            self.wrong(f"must be a whole number, not {_kind(value)}", ("version",))
            return 1
        return value

    def task(self, name: str, callables: CallableRules) -> TaskConfig:
        """Return what the file says of a task."""
        path = ("tasks", name)
        if not name.strip():
            self.wrong("a task's name must not be empty", path)
        if self.value(path) is None:
            self.wrong("must be a mapping, e.g. `callable: module:function`", path)
        config = self.mapping(path, _TASK_KEYS)
        function = self._optional_text((*path, "callable"), config)
        use = self._optional_text((*path, "use"), config)
        if function and _CALLABLE.fullmatch(function) is None:
            self.wrong(f"must be `module:function`, not {function[:80]!r}", (*path, "callable"))
        elif function and not callables.may_allow(function):
            self.wrong(
                f"{function[:80]!r} is not allowed here (PYOCO_FLOW_CALLABLES)", (*path, "callable")
            )
        if function is not None and use is not None:
            self.wrong("has both `callable` and `use`; keep one of the two", path)
        if use == name:
            self.wrong("a task cannot be a copy of itself", (*path, "use"))
        return TaskConfig(
            callable=function,
            use=use,
            inputs=self.mapping((*path, "inputs")),
            outputs=self.texts((*path, "outputs")),
            policy=self.policy(path, config),
        )

    def _optional_text(self, path: Path, config: dict[str, JSON]) -> str | None:
        return None if config.get(str(path[-1])) is None else self.text(path)


def _wrong_alone(said: dict[str, JSON]) -> Iterator[InvalidPolicy]:
    """Yield what is wrong in keys of a policy whatever the others are."""
    for key, value in said.items():
        parts = [{inner: value[inner]} for inner in value] if isinstance(value, dict) else [value]
        for part in parts:
            try:
                check_policy({key: part})
            except InvalidPolicy as error:
                yield error
                if error.path == (key,):
                    break  # it is not about the part


def is_text(value: JSON) -> TypeGuard[str]:
    """Whether a value is a text with something in it."""
    return isinstance(value, str) and bool(value.strip())


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
