"""What is wrong with a flow.yaml, or most likely is: each with its line, and the name that was meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal, TypeAlias

import msgspec

from pyoco_server.model.errors import FlowFileError
from pyoco_server.model.flow.callables import ANYTHING, CallableRules
from pyoco_server.model.flow.file import FlowFile, read_flow_yaml
from pyoco_server.model.flow.operator_graph import OperatorGraph
from pyoco_server.model.flow.yaml_document import (
    MAX_ERRORS,
    Path,
    Place,
    read_yaml,
)
from pyoco_server.model.json_text import JSON
from pyoco_server.model.names import nearest

Severity: TypeAlias = Literal["error", "warning"]

_LONGEST_LINE: Final = 1_000
# Each takes a look at all names of the file.
_MOST_HINTS: Final = 20
_ROOTS: Final = ("params", "results", "scratch", "artifacts")
"""What expressions and inputs see below ``$ctx``, outside of loops."""
_OUTPUT_ROOTS: Final = ("scratch", "results", "params")
"""Where ``outputs`` put a result."""


class FlowFinding(msgspec.Struct, frozen=True, kw_only=True):
    """Something in a flow.yaml that is not as it should be. Line and column count from 1."""

    severity: Severity
    """An error ends every run of the file."""
    path: str
    """Where in the document, e.g. ``tasks.add_one.callable``."""
    reason: str
    nearest: str | None = None
    """The name that was most likely meant."""
    line: int | None = None
    column: int | None = None
    source: str | None = None
    """The line itself, unless it is very long."""


@dataclass(frozen=True, slots=True)
class FlowCheck:
    """What a look at a file found.

    Attributes:
        flow: The file; None for one that cannot be taken.
        findings: What is not as it should be.
    """

    flow: FlowFile | None
    findings: tuple[FlowFinding, ...]

    @property
    def wrong(self) -> bool:
        """Whether there are errors."""
        return any(finding.severity == "error" for finding in self.findings)


def check_flow_file(
    raw: bytes, *, max_bytes: int, callables: CallableRules = ANYTHING
) -> FlowCheck:
    """Look at a flow.yaml; the arguments are those of `parse_flow_yaml`."""
    try:
        flow, errors = read_flow_yaml(raw, max_bytes=max_bytes, callables=callables)
    except FlowFileError as error:
        flow, errors = None, [error]
    lines = raw.decode("utf-8", "replace").split("\n")
    findings = [_finding_of(error, lines, "error") for error in errors]
    if flow is not None:
        wrong = {error.path for error in errors}
        findings += [each for each in findings_of(flow) if each.path not in wrong]
    return FlowCheck(None if errors else flow, _in_order(findings))


def findings_of(flow: FlowFile) -> tuple[FlowFinding, ...]:
    """Return what most likely is not meant in a file, as far as that can be taken."""
    return _in_order(islice(_Look(flow).findings(), MAX_ERRORS))


def _in_order(findings: Iterable[FlowFinding]) -> tuple[FlowFinding, ...]:
    return tuple(sorted(findings, key=lambda each: (each.line or 0, each.column or 0))[:MAX_ERRORS])


def _finding_of(error: FlowFileError, lines: list[str], severity: Severity) -> FlowFinding:
    return FlowFinding(
        severity=severity,
        path=error.path,
        reason=error.reason,
        nearest=error.nearest,
        line=error.line,
        column=error.column,
        source=_line(lines, error.line),
    )


def _line(lines: list[str], number: int | None) -> str | None:
    if number is None or number > len(lines):
        return None
    line = lines[number - 1].rstrip("\r")
    return line if len(line) <= _LONGEST_LINE else None


class _Look:
    """Looks at what a file says that can be understood, and most likely is not meant."""

    def __init__(self, flow: FlowFile) -> None:
        self._flow = flow
        self._document = read_yaml(flow.text)
        self._lines = flow.text.split("\n")
        # Dictionaries for sets that keep the order of the file.
        self._nodes = dict.fromkeys((*flow.graph.nodes, *flow.tasks))
        self._exposed = dict.fromkeys(flow.expose_env)
        self._hints = iter(range(_MOST_HINTS))

    def findings(self) -> Iterator[FlowFinding]:
        for name in self._flow.graph.unlisted:
            yield from self._unknown(name, ("flow", "graph"), word=name)
        for name, task in self._flow.tasks.items():
            path: Path = ("tasks", name)
            if task.use is not None:
                yield from self._unknown(task.use, (*path, "use"))
            yield from self._values(task.inputs, (*path, "inputs"))
            for number, place in enumerate(task.outputs):
                yield from self._output(place, (*path, "outputs", number))

    def _unknown(self, name: str, path: Path, *, word: str | None = None) -> Iterator[FlowFinding]:
        """A task that is not configured, and is called nearly like one that is."""
        tasks = self._flow.tasks
        if name not in tasks and (near := self._nearest(name, tasks)) is not None:
            reason = f"task {name} is not configured, so that the worker has to know it"
            yield self._finding("warning", path, reason, near, word=word)

    def _output(self, place: str, path: Path) -> Iterator[FlowFinding]:
        """A place that there is not: the engine puts nothing there."""
        root, _, rest = place.partition(".")
        if root not in _OUTPUT_ROOTS:
            near = nearest(root, _OUTPUT_ROOTS)
            there_are = ", ".join(f"{each}.<name>" for each in _OUTPUT_ROOTS)
            reason = f"nothing is put to {place[:80]}; there are {there_are}"
            meant = near and (f"{near}.{rest}" if rest else near)
            yield self._finding("warning", path, reason, meant)

    def _values(self, value: JSON, path: Path) -> Iterator[FlowFinding]:
        match value:
            case dict():
                for key, item in value.items():
                    yield from self._values(item, (*path, key))
            case str() if len(path) == 4 and value.startswith("$"):
                # The engine reads those only that are an input themselves.
                yield from self._reference(value, path)
            case _:
                pass

    def _reference(self, text: str, path: Path) -> Iterator[FlowFinding]:
        kind, *rest = text.split(".")
        match kind, rest:
            case "$node", [str(node), "output", *_] if node:
                if node not in self._nodes:
                    reason = f"no task is called {node}"
                    near = self._nearest(node, self._nodes)
                    yield self._finding("error", path, reason, near)
            case "$ctx", [str(root), *_] if root:
                # Params may come with the run; in loops, there are variables.
                if isinstance(self._flow.graph, OperatorGraph) and root not in _ROOTS:
                    reason = f"$ctx has no {root}; there are {', '.join(_ROOTS)}"
                    yield self._finding("error", path, reason, nearest(root, _ROOTS))
            case "$env", [str(name), *_] if name:
                if name not in self._exposed:
                    reason = (
                        f"runtime.expose_env does not name {name}, so that the code cannot see it"
                    )
                    near = self._nearest(name, self._exposed)
                    yield self._finding("warning", path, reason, near)
            case _:
                reason = "no reference; there are $node.<task>.output, $ctx.params.<name> and $env.<name>"
                yield self._finding("error", path, reason, nearest(kind, ("$node", "$ctx", "$env")))

    def _nearest(self, name: str, names: Iterable[str]) -> str | None:
        """The name of the file that was meant, as long as there are hints left."""
        return None if next(self._hints, None) is None else nearest(name, names)

    def _finding(
        self,
        severity: Severity,
        path: Path,
        reason: str,
        near: str | None,
        *,
        word: str | None = None,
    ) -> FlowFinding:
        error = self._document.error(reason, path, near)
        if word is not None:
            place = self._place_of(word, self._document.places[path])
            error.line, error.column = place.line, place.column
        return _finding_of(error, self._lines, severity)

    def _place_of(self, word: str, start: Place) -> Place:
        """Where a word stands in a text of the file."""
        lines = self._lines
        pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
        for number in range(start.line, len(lines) + 1):
            found = pattern.search(
                lines[number - 1], start.column - 1 if number == start.line else 0
            )
            if found:
                return Place(number, found.start() + 1)
        return start
