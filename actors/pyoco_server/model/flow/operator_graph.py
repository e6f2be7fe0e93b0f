"""The operator form of a graph: ``a >> b``, ``(a & b) >> c``, ``(a | b) >> c``.

pyoco-server 0.5.1 executes this text as Python. Here it is parsed and nothing else: only task
names, ``>>``, ``&``, ``|``, parentheses, lists and tuples are taken, in as many statements as one
likes. It means:

- ``a >> b``: ``b`` after ``a`` succeeded; ``>>`` binds tighter than ``&``, and ``&`` than ``|``.
- ``(a & b) >> c``, ``(a, b) >> c``, ``[a, b] >> c``: ``c`` after all of them succeeded.
- ``(a | b) >> c``: ``c`` as soon as any of them succeeded. That is a property of ``c``: it then
  waits for any of all that lead to it.
- ``a >> (b & c)``: both after ``a``.
- ``flow >> a >> b`` is ``a >> b``; a further statement that starts with ``flow`` carries on where
  the last such one ended, as in 0.5.1.

A task that is configured but not in the graph runs too, after nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Final, Literal, TypeAlias

import msgspec

from pyoco_server.model.errors import FlowFileError
from pyoco_server.model.flow.yaml_document import MAX_ERRORS

MAX_TEXT_CHARACTERS: Final = 65_536
MAX_NESTING: Final = 32
MAX_OPERATORS: Final = 2_000
MAX_EDGES: Final = 20_000

PATH: Final = "flow.graph"

_TOKEN: Final = re.compile(r"[ \t\r\n]+|#[^\n]*|[^\W\d]\w*|>>|[&|()\[\],;]")
_TAKEN: Final = "task names, >>, &, |, parentheses, lists and # comments"
_ENTRY: Final = "flow"

Join: TypeAlias = Literal["all", "any"]
Position: TypeAlias = tuple[int, int]


class OperatorGraph(msgspec.Struct, frozen=True, kw_only=True, tag_field="form", tag="operator"):
    """Tasks and what each one waits for."""

    nodes: tuple[str, ...]
    """Every task that runs: those of the graph in its order, then the rest of the configured."""
    edges: tuple[tuple[str, str], ...]
    """Pairs of tasks: the second waits for the first."""
    any_join: frozenset[str] = frozenset()
    """The tasks that start as soon as any of those that they wait for succeeded."""
    unlisted: tuple[str, ...] = ()
    """Tasks of the graph that the file does not configure: the worker has to know them."""


def parse_operator_graph(text: str, task_names: Collection[str] = ()) -> OperatorGraph:
    """Read a graph in the operator form.

    Args:
        text: The graph.
        task_names: The tasks that the file configures.

    Raises:
        FlowFileError: The text has anything else in it, a cycle, or goes beyond a limit; line
            and column are those of ``text``.
    """
    _admit(text)
    source = _Source(text)
    builder = _Builder(source, task_names)
    errors: list[FlowFileError] = []
    for statement in source.statements():
        if len(errors) == MAX_ERRORS:
            break
        try:
            builder.statement(statement)
        except FlowFileError as error:
            errors.append(error)
    refuse(errors)
    named = tuple(builder.nodes)
    builder.refuse_cycles()
    nodes = (*named, *(name for name in task_names if name not in builder.nodes))
    if not nodes:
        raise FlowFileError("the graph names no task", path=PATH, line=1, column=1)
    return OperatorGraph(
        nodes=nodes,
        edges=tuple(builder.edges),
        any_join=frozenset(builder.any_join),
        unlisted=tuple(name for name in named if name not in task_names),
    )


def _admit(text: str) -> None:
    """Let only tame text near the parser: known tokens, bounded in number and nesting."""
    if len(text) > MAX_TEXT_CHARACTERS:
        raise FlowFileError(
            f"the graph has {len(text)} characters, at most {MAX_TEXT_CHARACTERS} are taken",
            path=PATH,
        )
    position = depth = operators = 0
    errors: list[FlowFileError] = []
    while position < len(text) and len(errors) < MAX_ERRORS:
        token = _TOKEN.match(text, position)
        if token is None:
            errors.append(
                graph_error(f"{text[position]!r} is not taken here, only {_TAKEN}", text, position)
            )
            end = text.find("\n", position)  # what comes behind it may come of it
            position = len(text) if end < 0 else end
            continue
        match token.group():
            case "(" | "[":
                depth += 1
            case ")" | "]":
                depth -= 1
            case ">>" | "&" | "|" | ",":
                operators += 1
            case _:
                pass
        if depth > MAX_NESTING:
            raise graph_error(f"nested more than {MAX_NESTING} deep", text, position)
        if operators > MAX_OPERATORS:
            raise graph_error(f"more than {MAX_OPERATORS} operators", text, position)
        position = token.end()
    refuse(errors)


def refuse(errors: list[FlowFileError]) -> None:
    """Raise the first of errors, if there are any; it tells of the others."""
    if errors:
        errors[0].others = tuple(errors[1:])
        raise errors[0]


def graph_error(reason: str, text: str, position: int, path: str = PATH) -> FlowFileError:
    """Return the error for what stands at a character position of the text of a graph, or of a part of it."""
    line = text.count("\n", 0, position)
    column = position - (text.rfind("\n", 0, position) + 1)
    return FlowFileError(reason, path=path, line=line + 1, column=column + 1)


class _Source:
    """The graph's text as Python takes it, and the way back from its positions to ours."""

    def __init__(self, text: str) -> None:
        lines = text.split("\n")
        # Indentation means nothing in a graph.
        self._lines = [line.strip(" \t\r") for line in lines]
        # Python counts the column of a node in bytes of UTF-8.
        self._bytes = [line.encode() for line in self._lines]
        self._indents = [len(line) - len(line.lstrip(" \t\r")) for line in lines]

    def statements(self) -> list[ast.stmt]:
        try:
            return ast.parse("\n".join(self._lines)).body
        except SyntaxError as error:
            reason = (
                f"not a graph: {error.msg}; a statement takes one line, or parentheses around it"
            )
            line = min(error.lineno or 1, len(self._lines))
            # Here the offset counts characters, from 1.
            column = self._indents[line - 1] + max(error.offset or 1, 1)
            raise FlowFileError(reason, path=PATH, line=line, column=column) from None
        except (RecursionError, MemoryError, ValueError):
            raise FlowFileError(
                "too long or nested for one statement; split it into several", path=PATH
            ) from None

    def error(self, reason: str, node: ast.expr | ast.stmt) -> FlowFileError:
        return FlowFileError(reason, path=PATH, line=node.lineno, column=self.position(node)[1])

    def text_of(self, name: ast.Name) -> str:
        line = self._bytes[name.lineno - 1]
        return line[name.col_offset : name.end_col_offset].decode()

    def position(self, node: ast.expr | ast.stmt) -> Position:
        before = self._bytes[node.lineno - 1][: node.col_offset]
        return node.lineno, self._indents[node.lineno - 1] + len(before.decode()) + 1


@dataclass(frozen=True, slots=True)
class _Fragment:
    """A part of the graph: where it starts, where it ends, and how its ends are joined."""

    heads: tuple[str, ...]
    tails: tuple[str, ...]
    join: Join = "all"


class _Builder:
    def __init__(self, source: _Source, task_names: Collection[str]) -> None:
        self._source = source
        self._task_names = task_names
        self._last_of_flow: _Fragment | None = None
        # Dictionaries for sets that keep the order of the text.
        self.nodes: dict[str, None] = {}
        self.edges: dict[tuple[str, str], Position] = {}
        self.any_join: dict[str, None] = {}

    def statement(self, statement: ast.stmt) -> None:
        if not isinstance(statement, ast.Expr):
            raise self._source.error(f"not a graph; it takes {_TAKEN} only", statement)
        first, *others = _operands(statement.value, ast.RShift)
        if not (isinstance(first, ast.Name) and first.id == _ENTRY):
            self._fragment(statement.value)
        elif others:
            self._last_of_flow = self._chain(self._last_of_flow, others)

    def refuse_cycles(self) -> None:
        sorter: TopologicalSorter[str] = TopologicalSorter()
        for before, after in self.edges:
            sorter.add(after, before)
        try:
            sorter.prepare()
        except CycleError as error:
            cycle: list[str] = error.args[1]
            line, column = max(self.edges[step] for step in pairwise(cycle))
            raise FlowFileError(
                f"a task cannot wait for itself: {' >> '.join(cycle)}",
                path=PATH,
                line=line,
                column=column,
            ) from None

    def _fragment(self, node: ast.expr) -> _Fragment:
        match node:
            case ast.Name(id=read) if read != _ENTRY:
                # Python reads a name in its one normal form (NFKC), as it does those of a module's functions;
                # the file may have configured it as it is written.
                written = self._source.text_of(node)
                name = written if written in self._task_names else read
                self.nodes.setdefault(name)
                return _Fragment((name,), (name,))
            case ast.Name():
                raise self._source.error("`flow` can only start a statement", node)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return self._group(items, "all", node)
            case ast.BinOp(op=ast.RShift()):
                return self._chain(None, _operands(node, ast.RShift))
            case ast.BinOp(op=ast.BitAnd()):
                return self._group(_operands(node, ast.BitAnd), "all", node)
            case ast.BinOp(op=ast.BitOr()):
                return self._group(_operands(node, ast.BitOr), "any", node)
            case _:
                raise self._source.error(f"not a graph; it takes {_TAKEN} only", node)

    def _chain(self, start: _Fragment | None, operands: list[ast.expr]) -> _Fragment:
        fragment = start
        heads: tuple[str, ...] = ()
        for operand in operands:
            following = self._fragment(operand)
            heads = heads or following.heads
            if fragment is not None:
                self._link(fragment, following, operand)
            fragment = following
        assert fragment is not None
        return _Fragment(heads, fragment.tails, fragment.join)

    def _group(self, operands: list[ast.expr], join: Join, node: ast.expr) -> _Fragment:
        if not operands:
            raise self._source.error("an empty list or tuple means nothing; name a task", node)
        parts = [self._fragment(operand) for operand in operands]
        if len(parts) == 1:
            return parts[0]
        if any(len(part.tails) > 1 and part.join != join for part in parts):
            raise self._source.error(
                "& and | cannot be mixed in one join; put a task of its own in between", node
            )
        return _Fragment(
            tuple(dict.fromkeys(head for part in parts for head in part.heads)),
            tuple(dict.fromkeys(tail for part in parts for tail in part.tails)),
            join,
        )

    def _link(self, before: _Fragment, after: _Fragment, operand: ast.expr) -> None:
        position = self._source.position(operand)
        for head in after.heads:
            for tail in before.tails:
                self.edges.setdefault((tail, head), position)
            if before.join == "any":
                self.any_join.setdefault(head)
            if len(self.edges) > MAX_EDGES:
                raise self._source.error(f"more than {MAX_EDGES} dependencies", operand)


def _operands(node: ast.expr, operator: type[ast.operator]) -> list[ast.expr]:
    """Return what ``a op b op c`` joins; without recursion, for a chain may be long."""
    operands = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, operator):
        operands.append(node.right)
        node = node.left
    return [node, *reversed(operands)]
