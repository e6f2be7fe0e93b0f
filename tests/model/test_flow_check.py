"""A look at a flow.yaml tells what is wrong, in which line, and which name was most likely meant."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pyoco_server.model.flow import check, reader, task_policy
from pyoco_server.model.flow.check import FlowFinding, check_flow_file
from pyoco_server.model.flow.yaml_document import MAX_ERRORS
from pyoco_server.model.names import nearest

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
        (
            "flow:\n  graph: repeat(cuont=2) { a }\n",
            (2, 17),
            "count",
            "  graph: repeat(cuont=2) { a }",
        ),
        (
            "flow:\n  graph: forech(over=x) { a }\n",
            (2, 10),
            "foreach",
            "  graph: forech(over=x) { a }",
        ),
        ("flow:\n  graph: repeat() { a }\n", (2, 10), None, "  graph: repeat() { a }"),
        ("flow:\n  graph: |\n    x: a >>\n    x: b\n", (4, 5), None, "    x: b"),
        (
            "flow: {graph: a}\ntasks: {a: {backoff: {dely_sec: 1}}}\n",
            (2, 23),
            "delay_sec",
            "tasks: {a: {backoff: {dely_sec: 1}}}",
        ),
        (
            "flow: {graph: a}\ntasks: {a: {on_failure: isolat}}\n",
            (2, 25),
            "isolate",
            "tasks: {a: {on_failure: isolat}}",
        ),
        ("flow: {graph: a}\ntasks: {a: *x}\n", (2, 12), None, "tasks: {a: *x}"),
        ("flow: {graph: a}\npipes: {p: 1}\n", (2, 12), None, "pipes: {p: 1}"),
    ],
)
def test_an_error_has_its_line_and_the_name_that_was_meant(
    text: str, place: tuple[int, int], nearest: str | None, source: str
) -> None:
    (found,) = look(text)
    assert found.severity == "error"
    assert ((found.line, found.column), found.nearest, found.source) == (place, nearest, source)


def test_an_output_that_goes_nowhere_is_told() -> None:
    text = (
        "flow: {graph: a}\ntasks:\n  a: {callable: m:f, outputs: [scratch.x, scrath.y.z, result]}\n"
    )
    first, second = look(text)
    assert (first.severity, first.path, first.line) == ("warning", "tasks.a.outputs[1]", 3)
    assert first.reason.startswith("nothing is put to scrath.y.z; there are scratch.<name>")
    assert (first.nearest, second.nearest) == ("scratch.y.z", "results")


ALL_WRONG = """\
version: x
flow:
  graph: |
    a >> b + c
    d ++ e
  defalts: {}
tasks:
  a: {calable: m:f, retries: -1, backoff: {kind: exponentail, delay: 1, jitter: 3}}
  b: {callable: mf, timeout_sec: yes, inputs: {x: $node.zz.output}}
  c: {use: a, outputs: [1, 2], on_failure: isolat, fail_policy: stop}
  d:
  c: 3
  1: {}
pipes: {p: a & b, q: [x], r: fine}
runtime: {cpu: 3, cpu_sec: -1, timeout_sec: "x", expose_env: [no, HOME], parallel_tasks: 0}
extra: &x 1
"""


def test_all_that_is_wrong_is_told_in_the_order_of_the_lines() -> None:
    found = look(ALL_WRONG)
    assert [(each.line, each.path) for each in found] == [
        (1, "version"),
        (4, "flow.graph"),
        (5, "flow.graph"),
        (6, "flow.defalts"),
        (8, "tasks.a.calable"),
        (8, "tasks.a.retries"),
        (8, "tasks.a.backoff.kind"),
        (8, "tasks.a.backoff.delay"),
        (8, "tasks.a.backoff.jitter"),
        (9, "tasks.b.callable"),
        (9, "tasks.b.timeout_sec"),
        (10, "tasks.c.outputs[0]"),
        (10, "tasks.c.outputs[1]"),
        (10, "tasks.c.on_failure"),
        (11, "tasks.d"),
        (12, "tasks.c"),
        (13, "tasks.1"),
        (14, "pipes.p"),
        (14, "pipes.q"),
        (15, "runtime.cpu"),
        (15, "runtime.cpu_sec"),
        (15, "runtime.timeout_sec"),
        (15, "runtime.expose_env[0]"),
        (15, "runtime.parallel_tasks"),
        (16, "extra"),
    ]
    assert {each.severity for each in found} == {"error"}
    lines = ALL_WRONG.split("\n")
    assert all(each.line and each.source == lines[each.line - 1] for each in found)


def test_an_error_is_told_beside_what_most_likely_is_not_meant() -> None:
    found = look(
        "flow:\n  graph: fetch >> cuont\ntasks:\n  fetch: {callable: m:f, inputs: {x: $node.ftch.output}}\n"
        "  count: {callable: m:g, input: {}}\n"
    )
    assert [(each.severity, each.line, each.nearest) for each in found] == [
        ("warning", 2, "count"),
        ("error", 4, "fetch"),
        ("error", 5, "inputs"),
    ]


def test_of_many_errors_the_first_are_told() -> None:
    tasks = "".join(f"  t{number}: {{calable: m:f}}\n" for number in range(200))
    found = look(f"flow: {{graph: t0}}\ntasks:\n{tasks}")
    assert [each.line for each in found] == list(range(3, 53))
    found = look("flow: {graph: t0}\ntasks: {" + tasks.replace("\n", ",") + "}\n")
    assert {each.source for each in found} == {None}  # of a line without end nobody wants all


@pytest.mark.parametrize(
    "text",
    [
        "flow: {graph: a}\n" + "".join(f"kez_{n}: 1\n" for n in range(1_000)),
        "flow: {graph: a}\ntasks: {a: {backoff: {"
        + ", ".join(f"kinx_{n}: 1" for n in range(1_000))
        + "}}}\n",
        "flow: {graph: a}\ntasks:\n"
        + "".join(f"  t{n}: {{inputs: {{x: $node.u{n}.output}}}}\n" for n in range(1_000)),
        "flow:\n  graph: |\n"
        + "".join(f"    abcd{n}\n" for n in range(1_000))
        + "tasks: {zzz: {}}\n",
    ],
)
def test_names_are_compared_for_as_many_findings_as_are_told(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    def counted(name: str, names: Iterable[str]) -> str | None:
        compared.append(name)
        return nearest(name, names)

    for module in (check, reader, task_policy):
        monkeypatch.setattr(module, "nearest", counted)
    assert len(look(text)) in {0, MAX_ERRORS}
    assert 0 < len(compared) <= MAX_ERRORS + 1


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("flow: {graph: 'repeat(count=2, parallel=NINES) {a}'}\n", "flow.graph"),
        ("flow: {graph: \"repeat(count=2, parallel='²') {a}\"}\n", "flow.graph"),
        ("flow: {graph: a}\ntasks: {a: {timeout_sec: NINES}}\n", "tasks.a.timeout_sec"),
        ("flow: {graph: a}\ntasks: {a: {backoff: {jitter: NINES}}}\n", "tasks.a.backoff.jitter"),
        ("flow: {graph: a}\nruntime: {timeout_sec: NINES}\n", "runtime.timeout_sec"),
    ],
)
@pytest.mark.parametrize("digits", [390, 5_000])
def test_a_number_of_very_many_digits_is_refused_where_it_stands(
    text: str, path: str, digits: int
) -> None:
    (found,) = look(text.replace("NINES", "9" * digits))
    assert (found.severity, found.path) == ("error", path)


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
