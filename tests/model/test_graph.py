from __future__ import annotations

import tracemalloc
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from busyness import assert_cheap
from pyoco_server.model.errors import FlowFileError
from pyoco_server.model.flow.engine_graph import EngineGraph, is_engine_form
from pyoco_server.model.flow.graph import parse_graph
from pyoco_server.model.flow.operator_graph import OperatorGraph
from pyoco_server.model.flow.structure import structure


def operator(text: str, tasks: tuple[str, ...] = ()) -> OperatorGraph:
    graph = parse_graph(text, tasks)
    assert isinstance(graph, OperatorGraph)
    return graph


def engine(text: str, pipes: dict[str, str] | None = None) -> EngineGraph:
    graph = parse_graph(text, (), pipes)
    assert isinstance(graph, EngineGraph)
    return graph


@pytest.mark.parametrize(
    ("text", "edges", "any_join"),
    [
        # As 0.5.1 has them.
        ("a", "", ""),
        ("a >> b >> c", "ab bc", ""),
        ("(a & b) >> c", "ac bc", ""),
        ("(a | b) >> c", "ac bc", "c"),
        ("(a & b) >> [c, d]", "ac ad bc bd", ""),
        ("(a & b) >> (c & d) >> e", "ac ad bc bd ce de", ""),
        ("(a | b) >> c >> d", "ac bc cd", "c"),
        ("(a | b) >> c\nd >> c", "ac bc dc", "c"),
        ("a >> b; c >> d", "ab cd", ""),
        ("flow >> a >> b", "ab", ""),
        ("flow >> [a, b] >> c", "ac bc", ""),
        ("flow >> (a & b) >> c", "ac bc", ""),
        ("flow >> a >> (b & c)", "ab ac", ""),
        ("flow >> ((a | b) >> c)", "ac bc", "c"),
        ("flow >> a\nflow >> b", "ab", ""),
        ("flow >> (a >> b); flow >> c >> d", "ab bc cd", ""),
        ("flow >> a >> b\na >> c", "ab ac", ""),
        # Where 0.5.1 raises, or silently drops dependencies.
        ("a >> (b & c)", "ab ac", ""),
        ("a >> [b, c]", "ab ac", ""),
        ("[a, b] >> c", "ac bc", ""),
        ("(a, b) >> c", "ac bc", ""),
        ("(a & b & c) >> d", "ad bd cd", ""),
        ("(a | b | c) >> d", "ad bd cd", "d"),
        ("(a | (b | c)) >> d", "ad bd cd", "d"),
        ("(a & b) >> (c >> d)", "ac bc cd", ""),
        ("(a >> b) & c", "ab", ""),
        ("(a >> b | c) >> d", "ab bd cd", "d"),
        ("flow >> (a | b) >> c", "ac bc", "c"),
        # Layout.
        ("(a\n  >> b\n)", "ab", ""),
        ("  a >> b # then\n\n\t# nothing\n    b >> c\r\n", "ab bc", ""),
        ("a >> b\na >> b", "ab", ""),
    ],
)
def test_the_operator_form(text: str, edges: str, any_join: str) -> None:
    graph = operator(text)
    assert sorted(graph.edges) == sorted((edge[0], edge[1]) for edge in edges.split())
    assert graph.any_join == frozenset(any_join)
    assert set(graph.nodes) == set(text) & set("abcde") - ({"e", "n"} if "#" in text else set())


def test_a_name_of_the_file_is_taken_as_it_is_written_there() -> None:
    # Python reads full-width digits and letters as plain ones.
    assert operator("取得１ >> 集計", ("取得１", "集計")).edges == (("取得１", "集計"),)
    assert operator("取得１ >> 集計", ("取得1", "集計")).edges == (("取得1", "集計"),)
    assert operator("取得１").unlisted == ("取得1",)


def test_a_configured_task_runs_although_the_graph_does_not_name_it() -> None:
    graph = operator("b >> plug_in", ("a", "b"))
    assert graph.nodes == ("b", "plug_in", "a")
    assert graph.unlisted == ("plug_in",)
    assert operator("# nothing in between", ("a",)).nodes == ("a",)
    assert operator("flow", ("a",)).nodes == ("a",)


@pytest.mark.parametrize(
    ("text", "why", "line", "column"),
    [
        ("a >> b\nb >> c >> a", "cannot wait for itself: .* >> ", 2, 11),
        ("a >> a", "cannot wait for itself: a >> a", 1, 6),
        ("a + b", r"'\+' is not taken here, only task names", 1, 3),
        ("a > b", "'>' is not taken here", 1, 3),
        ("a >> 1", "'1' is not taken here", 1, 6),
        ("a.b", r"'\.' is not taken", 1, 2),
        ("a >> b\n__import__('os')", "is not taken here", 2, 12),
        ("a = b", "'=' is not taken", 1, 3),
        ("a\x00b", r"'\\x00' is not taken", 1, 2),
        ("import os", "not a graph; it takes task names", 1, 1),
        ("a >> b\n  del a", "not a graph", 2, 3),
        ("a if b else c", "not a graph", 1, 1),
        ("f(a)", "not a graph", 1, 1),
        ("a[b]", "not a graph", 1, 1),
        ("é >> not b", "not a graph", 1, 6),
        ("a\n  >> b", "not a graph: .* one line, or parentheses", 2, 3),
        ("a >> (b", "not a graph", 1, 6),
        ("for", "not a graph", 1, 4),
        ("a >> ()", "an empty list or tuple", 1, 6),
        ("a >> flow", "`flow` can only start a statement", 1, 6),
        ("flow >> a & b", "`flow` can only start a statement", 1, 1),
        ("((a & b) | c) >> d", "& and | cannot be mixed", 1, 2),
        ("[a | b, c] >> d", "& and | cannot be mixed", 1, 1),
        ("(" * 40 + "a" + ")" * 40, "nested more than 32 deep", 1, 33),
        (">>".join("a" * 3000), "more than 2000 operators", 1, 6002),
        ("# nothing", "names no task", 1, 1),
    ],
)
def test_what_the_operator_form_refuses(text: str, why: str, line: int, column: int) -> None:
    with pytest.raises(FlowFileError, match=why) as caught:
        parse_graph(text)
    assert (caught.value.path, caught.value.line, caught.value.column) == (
        "flow.graph",
        line,
        column,
    )


def test_limits_of_the_operator_form() -> None:
    wide = " & ".join(f"a{n}" for n in range(200))
    with pytest.raises(FlowFileError, match="more than 20000 dependencies"):
        parse_graph(f"({wide}) >> ({wide.replace('a', 'b')})")
    with pytest.raises(FlowFileError, match="at most 65536 are taken"):
        parse_graph("a\n" * 40_000)
    assert len(operator("\n".join(f"t{n} >> t{n + 1}" for n in range(1500))).nodes) == 1501


@given(st.text(alphabet="ab>&|()[],;# \nfor.:{}=1'\"\\é\x00", max_size=60))
def test_any_text_is_a_graph_or_a_clear_error(text: str) -> None:
    with suppress(FlowFileError):
        assert structure(parse_graph(text, ("a",))).nodes


@pytest.mark.parametrize(
    ("text", "is_engine"),
    [
        ("a >> b", False),
        ("a >> (b & c)", False),
        ("repeat >> (a)", False),
        ("a >> b # x: repeat(count=2) {", False),
        ("x: a >> b", True),
        ("pipe(p) >> a", True),
        ("until (cond=x) { a }", True),
        ("switch(on=k){ A: a }", True),
    ],
)
def test_the_form_is_seen_by_the_text(text: str, is_engine: bool) -> None:
    assert is_engine_form(text) is is_engine


def test_the_engine_form() -> None:
    graph = engine(
        "first: load >> switch(on=kind) { A: pipe(clean); default: skip }"
        " >> repeat(count=3) { again: load } >> foreach(over='params.xs', item=x) { each }"
        " >> until(cond='{{ $ctx.n > 3 }}', max_iter=9) { step }",
        {"clean": "wash >> dry", "unused": "a"},
    )
    assert graph.nodes == ("first", "wash", "dry", "skip", "again", "each", "step")
    assert graph.unlisted == ("load", "wash", "dry", "skip", "each", "step")
    assert parse_graph("x: a >> b", ("a",)) == EngineGraph(
        text="x: a >> b", nodes=("x", "b"), unlisted=("b",)
    )


@pytest.mark.parametrize(
    ("text", "why", "position"),
    [
        ("x: a >>\n b & c", "Unexpected character '&'", (2, 4)),
        ("x: a >> b c", "Expected one of .* got 'IDENT'", (1, 11)),
        ("x: a >> b\nrepeat(count=2){ c }", "`>>` joins its steps, those of two lines", (2, 1)),
        ("switch(on=params.kind){ A: a }", r"Unexpected character '\.'", (1, 17)),
        ("while(x){ a }", "Unknown callable term 'while'", (1, 1)),
        ("switch(on=k){ A: a; A: b }", "duplicate switch case 'A'", None),
        ("switch(on=k){ }", "at least one case", None),
        ("repeat(count=2, collect=some){ a }", "collect mode 'some'", None),
        ("foreach(over=xs, item='1x'){ a }", "item must be an identifier", None),
        ("until(cond=c, max_iter=0){ a }", "max_iter must be a positive integer", None),
        ("until(cond='{{ $ctx.x.y() }}'){ a }", r"Only \$ctx/\$env references", None),
        ("until(cond='{{ $ctx.x; 1 }}'){ a }", "invalid syntax", None),
        ("repeat(count=²){ a }", "the engine refuses it: .*²", None),
        ("x: a >> x: b", "task x comes twice.*`x_2: b`", None),
        ("pipe(p) >> a", "task a comes twice", None),
        ("pipe(gone)", r"pipe\(gone\) refers to no pipe; configure it", None),
        ("repeat(count=1){" * 70 + "a" + "}" * 70, "nested more than 32 deep", None),
    ],
)
def test_what_the_engine_form_refuses(
    text: str, why: str, position: tuple[int, int] | None
) -> None:
    with pytest.raises(FlowFileError, match=why) as caught:
        parse_graph(text, (), {"p": "a >> b"})
    assert caught.value.path == "flow.graph"
    if position is not None:
        assert (caught.value.line, caught.value.column) == position


def test_pipes_are_checked_whether_used_or_not() -> None:
    with pytest.raises(FlowFileError, match=r"pipes\.bad: .*line 1, column 3"):
        parse_graph("a >> b", (), {"bad": "a & b"})
    with pytest.raises(FlowFileError, match="refer to themselves: p -> q -> p"):
        parse_graph("pipe(p)", (), {"p": "pipe(q)", "q": "x >> pipe(p)"})
    with pytest.raises(FlowFileError, match="101 pipes; at most 100"):
        parse_graph("a", (), {f"p{n}": "a" for n in range(101)})


def test_pipes_that_multiply_are_refused_at_once() -> None:
    pipes = {f"p{n}": f"pipe(p{n + 1}) >> pipe(p{n + 1})" for n in range(60)} | {"p60": "a"}

    def read() -> None:
        with pytest.raises(FlowFileError, match="would expand to more than"):
            parse_graph("pipe(p0)", (), pipes)

    assert_cheap(read)


def test_edges_are_refused_before_memory_is_spent_on_them() -> None:
    many = ",".join(f"a{number}" for number in range(900))
    tracemalloc.start()
    try:
        with pytest.raises(FlowFileError, match="more than 20000 dependencies"):
            parse_graph(f"({many}) >> ({many.replace('a', 'b')})")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_the_structure_of_an_operator_graph() -> None:
    drawn = structure(operator("(a | b) >> c >> d"))
    assert [(node.id, node.kind, node.name) for node in drawn.nodes] == [
        (name, "task", name) for name in "abcd"
    ]
    assert {(edge.source, edge.target, edge.kind) for edge in drawn.edges} == {
        ("a", "c", "any"),
        ("b", "c", "any"),
        ("c", "d", "all"),
    }


def test_the_structure_of_an_engine_graph_nests_its_groups() -> None:
    drawn = structure(
        engine(
            "x: a >> switch(on=k){ A: b >> repeat(count=2){ c >> c }; default: pipe(p) } >> d",
            {"p": "e"},
        )
    )
    shown = [
        (node.id, node.kind, node.name, node.task, node.parent, node.branch) for node in drawn.nodes
    ]
    assert shown == [
        ("n0", "task", "x", "a", None, None),
        ("n1", "switch", "switch", None, None, None),
        ("n2", "task", "b", "b", "n1", "A"),
        ("n3", "repeat", "repeat", None, "n1", "A"),
        ("n4", "task", "c", "c", "n3", "body"),
        ("n5", "task", "c", "c", "n3", "body"),
        ("n6", "task", "e", "e", "n1", "default"),
        ("n7", "task", "d", "d", None, None),
    ]
    assert [(edge.source, edge.target) for edge in drawn.edges] == [
        ("n0", "n1"),
        ("n2", "n3"),
        ("n4", "n5"),
        ("n1", "n7"),
    ]
    assert drawn.nodes[3].detail == "count=2"


@pytest.mark.parametrize("text", ["(a | b) >> c", "x: a >> b"])
def test_a_graph_goes_round_as_json(text: str) -> None:
    graph = parse_graph(text)
    assert msgspec.json.decode(msgspec.json.encode(graph), type=OperatorGraph | EngineGraph) == (
        graph
    )


def test_a_graph_is_read_once_however_often_its_terms_are_asked_for() -> None:
    graph = engine("a >> pipe(more)", {"more": "repeat(count=2) { b }"})
    assert graph.pipeline is graph.pipeline
    assert graph == engine("a >> pipe(more)", {"more": "repeat(count=2) { b }"})
