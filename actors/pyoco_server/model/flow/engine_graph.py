"""The engine's graph language: ``switch``, ``repeat``, ``foreach``, ``until``, ``pipe``.

It is parsed and checked by the engine itself (pyoco.dsl), within limits that are held before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from copy import copy
from functools import cached_property
from typing import Final, TypeVar

import msgspec
from pyoco.core.models import Task
from pyoco.dsl.expressions import ExpressionSyntaxError
from pyoco.dsl.graph import (
    GraphParser,
    GraphReferenceError,
    GraphSyntaxError,
    GraphValidationError,
    build_flow_from_graph,
    resolve_pipe_refs,
    tokenize_graph,
    validate_graph_terms,
)
from pyoco.dsl.graph_terms import (
    ForEachTerm,
    Pipeline,
    PipeRefTerm,
    RepeatTerm,
    SwitchCase,
    SwitchTerm,
    TaskTerm,
    Term,
    UntilTerm,
)

from pyoco_server.model.errors import FlowFileError
from pyoco_server.model.flow.operator_graph import (
    MAX_NESTING,
    MAX_TEXT_CHARACTERS,
    PATH,
    graph_error,
    refuse,
)
from pyoco_server.model.names import nearest

T = TypeVar("T")

MAX_PIPES: Final = 100
MAX_PARALLEL: Final = 1_000
MAX_EXPANDED_CHARACTERS: Final = 1_048_576
"""How much text the engine may read once every pipe stands where it is referred to."""

_POSITION: Final = re.compile(r" ?at position (\d+)")
_FORM: Final = re.compile(r"[{}:]|\b(?:switch|repeat|foreach|until|pipe)\s*\(")
_TERMS: Final = ("switch", "repeat", "foreach", "until", "pipe")
_UNKNOWN_TERM: Final = re.compile(r"Unknown callable term '(\w+)'")
_COMMENT: Final = re.compile(r"#[^\n]*")


class EngineGraph(
    msgspec.Struct, frozen=True, kw_only=True, dict=True, tag_field="form", tag="engine"
):
    """A graph for the engine to build, which it has taken once already."""

    text: str
    pipes: dict[str, str] = msgspec.field(default_factory=dict)
    nodes: tuple[str, ...]
    """The names under which tasks run, in the order of the text, pipes included."""
    unlisted: tuple[str, ...] = ()
    """Tasks of the graph that the file does not configure: the worker has to know them."""

    @cached_property
    def pipeline(self) -> Pipeline:
        """The engine's terms, with every pipe in its place; not to be changed."""
        pipes = {name: _Parser(text).parse() for name, text in self.pipes.items()}
        return _expanded(_Parser(self.text).parse(), pipes)


def is_engine_form(text: str) -> bool:
    """Whether a graph is in the engine's language; else it is in the operator form."""
    return _FORM.search(_COMMENT.sub("", text)) is not None


def parse_engine_graph(
    text: str,
    task_names: Collection[str] = (),
    pipes: Mapping[str, str] | None = None,
    *,
    accepted: bool = False,
) -> EngineGraph:
    """Read a graph in the engine's language.

    Args:
        text: The graph.
        task_names: The tasks that the file configures.
        pipes: Named parts of graphs, for ``pipe(name)``.
        accepted: Whether a run was accepted with it; then words that mean nothing are left alone.

    Raises:
        FlowFileError: The engine refuses it, or it goes beyond a limit. Line and column are
            those of ``text``, where the engine tells them.
    """
    pipes = dict(pipes or {})
    main = _parse(text, PATH, accepted=accepted)
    parsed = parse_pipes(pipes, accepted=accepted)
    _refuse_expansion(text, main, pipes, parsed)
    try:
        resolved = resolve_pipe_refs(main, pipes)
        used = list(task_terms(resolved))
        refuse([FlowFileError(each, path=PATH) for each in validate_graph_terms(resolved).errors])
        _refuse_repeated(resolved, text)
        stand_ins = {term.name: Task(func=_never, name=term.name) for term in used}
        build_flow_from_graph(graph=text, tasks=stand_ins, pipes=pipes)
    except FlowFileError:
        raise
    except (GraphReferenceError, GraphValidationError, ExpressionSyntaxError) as error:
        raise FlowFileError(str(error), path=PATH) from None
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise FlowFileError(f"the engine refuses it: {error}", path=PATH) from None
    return EngineGraph(
        text=text,
        pipes=pipes,
        nodes=tuple(dict.fromkeys(term.node_name or term.name for term in used)),
        unlisted=tuple(dict.fromkeys(term.name for term in used if term.name not in task_names)),
    )


def parse_pipes(pipes: Mapping[str, str], *, accepted: bool = False) -> dict[str, Pipeline]:
    """Return the engine's terms for each named part of a graph.

    Raises:
        FlowFileError: One of them is no graph, or there are too many.
    """
    if len(pipes) > MAX_PIPES:
        raise FlowFileError(f"{len(pipes)} pipes; at most {MAX_PIPES} are taken", path="pipes")
    return {name: _parse(text, f"pipes.{name}", accepted=accepted) for name, text in pipes.items()}


def parallel_of(term: Term) -> int | None:
    """Return how many iterations of a loop run at the same time, where its text says so."""
    parallel: int | None = vars(term).get("parallel")
    return parallel


def task_terms(pipeline: Pipeline) -> Iterator[TaskTerm]:
    """Yield every task of a pipeline, in the order of the text."""
    for term in _terms(pipeline):
        if isinstance(term, TaskTerm):
            yield term


def branches(term: Term) -> Iterator[tuple[str, Pipeline]]:
    """Yield the parts inside a term: the cases of a switch by value, or the one body."""
    match term:
        case SwitchTerm():
            for case in term.cases:
                yield case.value, case.branch
            if term.default is not None:
                yield "default", term.default
        case RepeatTerm() | ForEachTerm() | UntilTerm():
            yield "body", term.body
        case _:
            pass


def _terms(pipeline: Pipeline) -> Iterator[Term]:
    for term in pipeline.terms:
        yield term
        for _, branch in branches(term):
            yield from _terms(branch)


class _NoSuchWord(GraphSyntaxError):
    def __init__(self, text: str, near: str | None) -> None:
        super().__init__(text)
        self.nearest = near


class _Parser(GraphParser):
    """The engine's parser, which takes any words in brackets, and what it forgets of them."""

    def __init__(self, text: str, *, accepted: bool = True) -> None:
        super().__init__(tokenize_graph(text))
        self._accepted = accepted
        self._words: dict[int, dict[str, str]] = {}

    def _parse_named_args(self) -> dict[str, str]:
        start = self.idx
        self._words[start] = super()._parse_named_args()
        return self._words[start]

    def _parse_branch(self, stop_kinds: set[str]) -> Pipeline:
        token = self._peek()
        if token.kind == "STRING" and self._peek(1).kind in stop_kinds:
            self._advance()
            return _Parser(token.value, accepted=self._accepted).parse()
        return self._parse_pipeline(stop_kinds=stop_kinds)

    def _parse_switch(self) -> SwitchTerm:
        return self._checked(super()._parse_switch, ("on",))

    def _parse_repeat(self) -> RepeatTerm:
        return self._checked(super()._parse_repeat, ("count", "collect", "parallel"))

    def _parse_foreach(self) -> ForEachTerm:
        return self._checked(
            super()._parse_foreach, ("over", "item", "index", "collect", "parallel")
        )

    def _parse_until(self) -> UntilTerm:
        return self._checked(super()._parse_until, ("cond", "max_iter", "collect"))

    def _checked(self, parse: Callable[[], T], words: tuple[str, ...]) -> T:
        start = self._peek()
        brackets = self.idx + 1
        try:
            term = parse()
        except GraphSyntaxError as error:
            self._refuse_words(start.value, brackets, words)  # which it may come of
            if _POSITION.search(str(error)):
                raise
            raise GraphSyntaxError(f"{error} at position {start.pos}") from None
        self._refuse_words(start.value, brackets, words)
        said = self._words.pop(brackets)
        parallel = said.get("parallel") if "parallel" in words else None
        number = int(parallel[:9]) if parallel is not None and parallel.isdecimal() else 0
        if 1 <= number <= MAX_PARALLEL:
            vars(term)["parallel"] = number
        elif parallel is not None and not self._accepted:
            raise GraphSyntaxError(
                f"parallel must be a whole number from 1 to {MAX_PARALLEL}, not {parallel[:40]!r} "
                f"at position {start.pos}"
            )
        return term

    def _refuse_words(self, term: str, brackets: int, words: tuple[str, ...]) -> None:
        for word in self._words.get(brackets, ()):
            if word not in words and not self._accepted:
                at = next(token.pos for token in self.tokens[brackets:] if token.value == word)
                raise _NoSuchWord(
                    f"{term}(...) takes {', '.join(words)}, not {word!r} at position {at}",
                    nearest(word, words),
                )


def _expanded(pipeline: Pipeline, pipes: Mapping[str, Pipeline]) -> Pipeline:
    """Put every pipe in its place, as the engine does, but keep all that the terms say.

    The engine has taken them once: they end, and are not too many.
    """
    terms: list[Term] = []
    for term in pipeline.terms:
        if isinstance(term, PipeRefTerm):
            terms += _expanded(pipes[term.name], pipes).terms
            continue
        expanded = copy(term)
        match expanded:
            case SwitchTerm():
                expanded.cases = [
                    SwitchCase(case.value, _expanded(case.branch, pipes)) for case in expanded.cases
                ]
                if expanded.default is not None:
                    expanded.default = _expanded(expanded.default, pipes)
            case RepeatTerm() | ForEachTerm() | UntilTerm():
                expanded.body = _expanded(expanded.body, pipes)
            case _:
                pass
        terms.append(expanded)
    return Pipeline(terms)


def _parse(text: str, path: str, *, accepted: bool = False) -> Pipeline:
    if len(text) > MAX_TEXT_CHARACTERS:
        raise FlowFileError(
            f"{len(text)} characters, at most {MAX_TEXT_CHARACTERS} are taken", path=path
        )
    depth = 0
    for position, character in enumerate(text):
        # Braces in strings count as well: a quoted branch is parsed in its turn. The two more
        # are for the braces of a {{template}}.
        depth += (character == "{") - (character == "}")
        if depth > MAX_NESTING + 2:
            raise graph_error(f"nested more than {MAX_NESTING} deep", text, position, path)
    try:
        return _Parser(text, accepted=accepted).parse()
    except GraphSyntaxError as error:
        reason = f"{error} (in the graph language of the engine)"
        found = _POSITION.search(reason)
        if found is None:
            raise FlowFileError(reason, path=path) from None
        reason = reason.replace(found.group(), "", 1)
        if "but got 'IDENT'" in reason:
            reason += ": `>>` joins its steps, those of two lines as well"
        refusal = graph_error(reason, text, int(found[1]), path)
        if isinstance(error, _NoSuchWord):
            refusal.nearest = error.nearest
        elif unknown := _UNKNOWN_TERM.match(reason):
            refusal.nearest = nearest(unknown[1], _TERMS)
        raise refusal from None
    except RecursionError:
        raise FlowFileError("nested too deeply", path=path) from None


def _error_at(pattern: str, reason: str, text: str, time: int = 0) -> FlowFileError:
    """Return an error with the place where something stands in the graph's text, for that time of more."""
    found = [*re.finditer(rf"(?<!\w){pattern}(?!\w)", text)]
    if len(found) <= time:  # a pipe has it
        return FlowFileError(reason, path=PATH)
    return graph_error(reason, text, found[time].start())


def _refuse_expansion(
    text: str, main: Pipeline, pipes: Mapping[str, str], parsed: Mapping[str, Pipeline]
) -> None:
    """Refuse pipes that refer to themselves, to nothing, or would grow beyond the limit.

    The engine reads a pipe anew for each reference to it, so few bytes of pipes that refer to
    pipes could keep it busy for minutes.
    """
    sizes: dict[str, int] = {}

    def size(name: str, inside: tuple[str, ...]) -> int:
        if name not in parsed:
            error = _error_at(
                rf"pipe\s*\(\s*{re.escape(name)}",
                f"pipe({name}) refers to no pipe; configure it under `pipes`",
                text,
            )
            error.nearest = nearest(name, parsed)
            raise error
        if name in inside:
            cycle = " -> ".join((*inside[inside.index(name) :], name))
            raise FlowFileError(f"pipes refer to themselves: {cycle}", path="pipes")
        if name not in sizes:
            sizes[name] = len(pipes[name]) + total(parsed[name], (*inside, name))
        return sizes[name]

    def total(pipeline: Pipeline, inside: tuple[str, ...]) -> int:
        return sum(
            size(term.name, inside) for term in _terms(pipeline) if isinstance(term, PipeRefTerm)
        )

    if len(text) + total(main, ()) > MAX_EXPANDED_CHARACTERS:
        raise FlowFileError(
            f"its pipes would expand to more than {MAX_EXPANDED_CHARACTERS} characters", path=PATH
        )


def _refuse_repeated(pipeline: Pipeline, text: str) -> None:
    """Refuse a task that comes twice where the engine would have it wait for itself.

    Without a switch or loop the engine runs tasks by their dependencies; with one, in the
    order of the text, where a task may come again.
    """
    if not all(isinstance(term, TaskTerm) for term in pipeline.terms):
        return
    seen: set[str] = set()
    for term in task_terms(pipeline):
        name = term.node_name or term.name
        if name in seen:
            raise _error_at(
                re.escape(name),
                f"task {name} comes twice; give the second one a name of its own: "
                f"`{name}_2: {term.name}`",
                text,
                time=1,
            )
        seen.add(name)


def _never() -> None:
    """Stand in for a task's function; a graph is checked without the functions."""
