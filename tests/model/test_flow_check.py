"""A look at a flow.yaml tells what is wrong, in which line, and which name was most likely meant."""

from __future__ import annotations

import pytest

from pyoco_server.model.flow.check import FlowFinding, check_flow_file

TASKS = "tasks:\n  fetch: {callable: m:f}\n  count: {callable: m:g}\n"


def look(text: str) -> tuple[FlowFinding, ...]:
    return check_flow_file(text.encode(), max_bytes=262_144).findings


def test_nothing_is_said_of_a_file_that_says_what_it_means() -> None:
    text = (
        "flow:\n  graph: a >> b >> known_by_the_worker\n  defaults: {x: $5}\ntasks:\n"
        "  a: {callable: m:f, inputs: {n: $ctx.params.n, e: $env.HOME, t: {deep: $5}}}\n"
        "  b: {use: a, inputs: {left: $node.a.output.x.y}}\nruntime: {expose_env: [HOME]}\n"
    )
    assert look(text) == ()


@pytest.mark.parametrize(
    ("text", "place", "nearest", "source"),
    [
        ("flw:\n  graph: a\n", (1, 1), "flow", "flw:"),
        ("flow:\n  grph:\n    a\n", (2, 3), "graph", "  grph:"),
        (
            "flow: {graph: a}\ntasks:\n  a:\n    calable: m:f\n",
            (4, 5),
            "callable",
            "    calable: m:f",
        ),
        (
            "flow: {graph: a}\ntasks:\n  a:\n    input:\n      b: 1\n",
            (4, 5),
            "inputs",
            "    input:",
        ),
        (
            "flow: {graph: a}\nruntime: {timeout: 1}\n",
            (2, 11),
            "timeout_sec",
            "runtime: {timeout: 1}",
        ),
        ("flow: {graph: a}\nruntime: {zzzz: 1}\n", (2, 11), None, "runtime: {zzzz: 1}"),
        ("flow:\n  graph: pipe(prat)\npipes: {part: a}\n", (2, 10), "part", "  graph: pipe(prat)"),
        ("flow:\n  graph: |\n    a >>\n", (3, 9), None, "    a >>"),
        ("flow: [\n", (2, 1), None, ""),
    ],
)
def test_an_error_has_its_line_and_the_name_that_was_meant(
    text: str, place: tuple[int, int], nearest: str | None, source: str
) -> None:
    (found,) = look(text)
    assert found.severity == "error"
    assert ((found.line, found.column), found.nearest, found.source) == (place, nearest, source)


@pytest.mark.parametrize(
    ("text", "severity", "place", "nearest"),
    [
        ("flow:\n  graph: |\n    fetch\n    fetch >> cuont\n" + TASKS, "warning", (4, 14), "count"),
        ("flow: {graph: fetch}\n" + TASKS + "  again: {use: fetsh}\n", "warning", (5, 16), "fetch"),
        ("flow: {graph: a}\ntasks: {a: {inputs: {x: $node.b.output}}}\n", "error", (2, 25), None),
        (
            "flow: {graph: a >> bc}\ntasks: {a: , bc: {inputs: {x: $node.bcd.output}}}\n".replace(
                "a: ,", "a: {},"
            ),
            "error",
            (2, 33),
            "bc",
        ),
        ("flow: {graph: a}\ntasks: {a: {inputs: {x: $node.a}}}\n", "error", (2, 25), None),
        ("flow: {graph: a}\ntasks: {a: {inputs: {x: $ctx.param.a}}}\n", "error", (2, 25), "params"),
        ("flow: {graph: a}\ntasks: {a: {inputs: {x: $5.00}}}\n", "error", (2, 25), None),
        ("flow: {graph: a}\ntasks: {a: {inputs: {x: $env.HOME}}}\n", "warning", (2, 25), None),
        (
            "flow: {graph: a}\ntasks: {a: {inputs: {x: $env.HOM}}}\nruntime: {expose_env: [HOME]}\n",
            "warning",
            (2, 25),
            "HOME",
        ),
    ],
)
def test_what_is_most_likely_not_meant_is_told(
    text: str, severity: str, place: tuple[int, int], nearest: str | None
) -> None:
    (found,) = look(text)
    assert (found.severity, found.nearest) == (severity, nearest)
    assert (found.line, found.column) == place
    assert found.source == text.split("\n")[place[0] - 1]
