from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyoco_server.model.errors import ErrorId, FlowFileError
from pyoco_server.model.flow.engine_graph import EngineGraph
from pyoco_server.model.flow.file import FlowFile, WorkflowTooLarge, parse_flow_yaml
from pyoco_server.model.flow.operator_graph import OperatorGraph
from pyoco_server.model.flow.reader import TaskConfig
from pyoco_server.model.flow.task_policy import POLICY_KEYS, RetryBackoff, TaskPolicy
from pyoco_server.model.limits import RunLimits

TASK_KEYS = ", ".join(("callable", "use", "inputs", "outputs", *POLICY_KEYS))
GOLDEN = Path(__file__).parent / "golden"


def parse(text: str) -> FlowFile:
    return parse_flow_yaml(text.encode(), max_bytes=262_144)


FULL = """\
version: 1
flow:
  graph: |
    load >> switch_over
    (load | other) >> switch_over
  defaults:
    x: 41
    nested: {a: [1, null]}
tasks:
  load:
    callable: my.module:load
    inputs: {x: $ctx.params.x}
    outputs: [scratch.x]
  switch_over: {use: load}
  other:
    inputs:
pipes:
  p: a >> b
runtime:
  expose_env: [HOME, TZ]
"""


def test_a_whole_file() -> None:
    flow = parse(FULL)
    assert flow.version == 1
    assert flow.graph == OperatorGraph(
        nodes=("load", "switch_over", "other"),
        edges=(("load", "switch_over"), ("other", "switch_over")),
        any_join=frozenset({"switch_over"}),
    )
    assert flow.defaults == {"x": 41, "nested": {"a": [1, None]}}
    assert flow.tasks == {
        "load": TaskConfig(
            callable="my.module:load", inputs={"x": "$ctx.params.x"}, outputs=["scratch.x"]
        ),
        "switch_over": TaskConfig(use="load"),
        "other": TaskConfig(),
    }
    assert flow.pipes == {"p": "a >> b"}
    assert flow.expose_env == ("HOME", "TZ")
    assert flow.text == FULL
    assert flow.size_bytes == len(FULL.encode())
    assert flow.sha256 == hashlib.sha256(FULL.encode()).hexdigest()


def test_only_the_graph_is_required() -> None:
    flow = parse("flow: {graph: a}\ntasks:\nruntime:\npipes:\n")
    assert (flow.version, flow.defaults, flow.tasks, flow.pipes, flow.expose_env) == (
        1,
        {},
        {},
        {},
        (),
    )
    assert flow.graph.nodes == ("a",)
    assert parse("version: '2'\nflow: {graph: a, defaults: }").version == 2


def test_a_file_that_0_5_1_took_is_taken_with_its_hash() -> None:
    job = json.loads((GOLDEN / "job_yaml.json").read_bytes())
    flow = parse(job["workflow_yaml"])
    assert flow.sha256 == job["workflow_yaml_sha256"]
    assert flow.size_bytes == job["workflow_yaml_bytes"]
    assert flow.defaults == job["params"]


def test_the_engine_form_with_pipes() -> None:
    flow = parse("flow:\n  graph: repeat(count=2) { pipe(p) }\npipes:\n  p: a >> b\n")
    assert isinstance(flow.graph, EngineGraph)
    assert flow.graph.nodes == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "must be a mapping of keys to values, not a list (line 1, column 1)"),
        (
            "version: 1",
            "flow: missing; a flow.yaml needs `flow:` with a `graph:` (line 1, column 1)",
        ),
        ("flow: a", "flow: must be a mapping of keys to values, not a text (line 1, column 7)"),
        ("flow: {}", "flow.graph: must be the text of a graph, e.g. `a >> b` (line 1, column 7)"),
        (
            "flow: {graph: 3}",
            "flow.graph: must be the text of a graph, e.g. `a >> b` (line 1, column 15)",
        ),
        (
            "flow: {graph: a}\nflows: {}",
            "flows: not taken: a file has one workflow; put it under `flow` (line 2, column 1)",
        ),
        (
            "flow: {graph: a, graphs: b}",
            (
                "flow.graphs: no such key; those that there are: graph, defaults; did you mean 'graph'? "
                "(line 1, column 18)"
            ),
        ),
        (
            "flow: {graph: a}\ntasks:\n  a:\n    retry: 3",
            (
                "tasks.a.retry: no such key; "
                "those that there are: "
                + TASK_KEYS
                + "; did you mean 'retry_on'? (line 4, column 5)"
            ),
        ),
        (
            "flow: {graph: a}\nruntime: {env: []}",
            (
                "runtime.env: no such key; those that there are: expose_env, parallel_tasks, timeout_sec, "
                "max_attempts, retry_backoff_sec, memory_mb, cpu_sec (line 2, column 11)"
            ),
        ),
        (
            "flow: {graph: a}\ntasks: {a: {callable: foo}}",
            "tasks.a.callable: must be `module:function`, not 'foo' (line 2, column 23)",
        ),
        (
            "flow: {graph: a}\ntasks: {a: {callable: 'm:f', use: b}}",
            "tasks.a: has both `callable` and `use`; keep one of the two (line 2, column 12)",
        ),
        (
            "flow: {graph: a}\ntasks: {a: {use: a}}",
            "tasks.a.use: a task cannot be a copy of itself (line 2, column 18)",
        ),
        (
            "flow: {graph: a}\ntasks: {a: }",
            "tasks.a: must be a mapping, e.g. `callable: module:function` (line 2, column 12)",
        ),
        (
            "flow: {graph: a}\ntasks: {a: {outputs: [x, 3]}}",
            "tasks.a.outputs[1]: must be a text, not a number (line 2, column 26)",
        ),
        (
            "flow: {graph: a}\ntasks: {a: {inputs: [x]}}",
            "tasks.a.inputs: must be a mapping of keys to values, not a list (line 2, column 21)",
        ),
        (
            "flow: {graph: a}\ntasks: {'': {}}",
            "tasks.: a task's name must not be empty (line 2, column 13)",
        ),
        (
            "flow: {graph: a}\npipes: {p: [a]}",
            "pipes.p: must be a text, not a list (line 2, column 12)",
        ),
        (
            "flow: {graph: a}\nruntime: {expose_env: HOME}",
            "runtime.expose_env: must be a list of texts, not a text (line 2, column 23)",
        ),
        (
            "version: true\nflow: {graph: a}",
            "version: must be a whole number, not true or false (line 1, column 10)",
        ),
        (
            "version: x\nflow: {graph: a}",
            "version: must be a whole number, not a text (line 1, column 10)",
        ),
    ],
)
def test_what_is_wrong_where_and_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(FlowFileError) as caught:
        parse(text)
    assert str(caught.value) == message
    assert caught.value.error_id is ErrorId.INVALID_INPUT


def test_discovery_is_refused_by_name_with_a_hint() -> None:
    with pytest.raises(FlowFileError, match=r"discovery: not taken: .*tasks\.<name>\.callable"):
        parse("flow: {graph: a}\ndiscovery: {}")


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("flow:\n  graph: |\n    a >> b\n\n    b + c\n", 5, 7),
        ("version: 1\nflow: {graph: a + b}\n", 2, 17),
        ("flow:\n  graph: 'a + b'\n", 2, 13),
        ("flow:\n  graph: |\n    x: a\n    >> b & c\n", 4, 10),
        ("flow: {graph: a}\npipes:\n  p: a & b\n", 3, 8),
        ("flow: {graph: pipe(q)}\npipes:\n  p: a\n", 1, 15),
    ],
)
def test_an_error_of_the_graph_has_its_place_in_the_file(text: str, line: int, column: int) -> None:
    with pytest.raises(FlowFileError) as caught:
        parse(text)
    assert (caught.value.line, caught.value.column) == (line, column)


def test_where_lines_are_folded_the_place_in_the_graph_is_told() -> None:
    with pytest.raises(FlowFileError, match=r"line 1, column 8 of the graph\) \(line 2, column 10"):
        parse("flow:\n  graph: >\n    a >>\n    b + c\n")


def test_too_large_a_file_is_an_error_of_its_own() -> None:
    with pytest.raises(
        WorkflowTooLarge, match="workflow too large: 20 bytes, at most 19"
    ) as caught:
        parse_flow_yaml(b"flow: {graph: a    }", max_bytes=19)
    assert caught.value.error_id is ErrorId.WORKFLOW_TOO_LARGE
    assert parse_flow_yaml(b"flow: {graph: a    }", max_bytes=20).size_bytes == 20


def test_other_encodings_are_refused_with_the_line() -> None:
    with pytest.raises(FlowFileError, match=r"not UTF-8.*line 2"):
        parse_flow_yaml(b"a: b\nc: \xff", max_bytes=100)


@given(
    st.binary(max_size=80)
    | st.text(alphabet="flowgraph:{}[] >&|*!-'\"\n#%@`,?", max_size=80).map(str.encode)
)
def test_any_bytes_are_a_file_or_a_clear_error(raw: bytes) -> None:
    with pytest.raises(FlowFileError):
        parse_flow_yaml(raw, max_bytes=262_144)


@given(st.text(max_size=40))
def test_any_graph_text_is_taken_or_a_clear_error(text: str) -> None:
    raw = json.dumps({"flow": {"graph": text}, "pipes": {"p": "a"}}).encode()
    with suppress(FlowFileError):
        assert parse_flow_yaml(raw, max_bytes=262_144).graph.nodes


def test_a_file_may_limit_its_runs() -> None:
    limits = parse(
        "flow: {graph: a}\nruntime: {timeout_sec: 2.5, max_attempts: 3, retry_backoff_sec: 0, "
        "memory_mb: 300, cpu_sec: 1.5}"
    ).limits
    assert limits == RunLimits(
        timeout_sec=2.5, max_attempts=3, retry_backoff_sec=0.0, memory_mb=300, cpu_sec=1.5
    )
    assert parse("flow: {graph: a}").limits == RunLimits()


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (
            "timeout_sec: 0",
            "runtime.timeout_sec: must be seconds, more than 0 up to 2592000, not 0",
        ),
        (
            "max_attempts: 1.5",
            "runtime.max_attempts: must be a whole number from 1 to 100, not 1.5",
        ),
        (
            "memory_mb: 0",
            "runtime.memory_mb: must be a whole number from 1 to 1048576, not 0",
        ),
        ("memory_mb: 0.5", "runtime.memory_mb: must be a whole number from 1 to 1048576, not 0.5"),
        ("cpu_sec: 0", "runtime.cpu_sec: must be seconds, more than 0 up to 259200000, not 0"),
        ("max_attempts: '2'", "runtime.max_attempts: must be a number, not a text"),
        (
            "retry_backoff_sec: [1]",
            "runtime.retry_backoff_sec: must be seconds, 0 up to 3600, not list",
        ),
    ],
)
def test_a_limit_that_cannot_be_one_is_refused(limit: str, message: str) -> None:
    with pytest.raises(FlowFileError) as caught:
        parse(f"flow: {{graph: a}}\nruntime:\n  {limit}")
    assert str(caught.value).startswith(message)
    assert caught.value.line == 3


def policy_file(said: str, graph: str = "a >> b") -> str:
    return f"flow: {{graph: '{graph}'}}\ntasks:\n  a: {{}}\n  b: {{{said}}}\n"


@pytest.mark.parametrize(
    ("said", "policy"),
    [
        (
            "retries: 3, backoff: exponential, retry_on: [OSError], not_on: [a.B], timeout_sec: 2",
            TaskPolicy(
                retries=3,
                backoff=RetryBackoff(kind="exponential"),
                retry_on=("OSError",),
                not_on=("a.B",),
                timeout_sec=2.0,
            ),
        ),
        (
            "backoff: {kind: linear, delay_sec: 0.5, cap_sec: 9, jitter: 1}, on_failure: isolate",
            TaskPolicy(
                backoff=RetryBackoff(kind="linear", delay_sec=0.5, cap_sec=9.0, jitter=1.0),
                on_failure="isolate",
            ),
        ),
        (
            "fail_policy: isolate, trigger_policy: ANY",
            TaskPolicy(on_failure="isolate", trigger="any"),
        ),
        ("fail_policy: retry", TaskPolicy(retries=3)),
        ("fail_policy: retry, retries: 1", TaskPolicy(retries=1)),
        ("fail_policy: retry, retries: 0", TaskPolicy(retries=0)),
        ("event_loop: trio, trigger: all", TaskPolicy(event_loop="trio", trigger="all")),
    ],
)
def test_the_policy_of_a_task(said: str, policy: TaskPolicy) -> None:
    assert parse(policy_file(said)).tasks["b"].policy == policy


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("retries: -1", "retries: must be a whole number from 0 to 1000, not -1"),
        ("retries: true", "retries: must be a whole number from 0 to 1000, not True"),
        ("timeout_sec: 0", "timeout_sec: must be seconds, more than 0 up to 2592000, not 0"),
        ("timeout_sec: soon", "timeout_sec: must be seconds"),
        ("backoff: random", "backoff: must be one of fixed, linear, exponential, not 'random'"),
        (
            "backoff: {delay: 1}",
            "backoff.delay: no such key; those that there are: kind, delay_sec",
        ),
        ("backoff: {jitter: 2}", "backoff.jitter: must be a number from 0 to 1, not 2"),
        ("backoff: [1]", "backoff: must be one of"),
        ("retry_on: [3]", "retry_on: must be names of exceptions, e.g. ConnectionError, not 3"),
        ("not_on: {a: 1}", "not_on: must be a list of names of exceptions"),
        ("on_failure: retry", "on_failure: must be one of stop, isolate, not 'retry'"),
        ("fail_policy: ignore", "fail_policy: must be one of stop, isolate, retry, not 'ignore'"),
        (
            "on_failure: stop, fail_policy: stop",
            "fail_policy: is the engine's name for `on_failure`",
        ),
        ("trigger: most", "trigger: must be one of all, any, not 'most'"),
        ("event_loop: uvloop", "event_loop: must be one of asyncio, trio, not 'uvloop'"),
    ],
)
def test_what_is_no_policy(said: str, message: str) -> None:
    with pytest.raises(FlowFileError) as caught:
        parse(policy_file(said))
    assert str(caught.value).startswith(f"tasks.b.{message}")
    assert caught.value.line == 4


def test_a_trigger_is_seen_in_the_graph() -> None:
    graph = parse(policy_file("trigger: any")).graph
    assert isinstance(graph, OperatorGraph)
    assert graph.any_join == {"b"}
    graph = parse("flow: {graph: (a | c) >> b}\ntasks: {b: {trigger: all}}").graph
    assert isinstance(graph, OperatorGraph)
    assert graph.any_join == frozenset()
    uses = (
        "a: {use: b}, b: {use: c, trigger: any}, c: {use: a}, d: {use: e}, e: {use: d}, f: {use: x}"
    )
    graph = parse(f"flow: {{graph: x >> (a & b & c & d & f)}}\ntasks: {{{uses}}}").graph
    assert isinstance(graph, OperatorGraph)
    assert graph.any_join == {"a", "b", "c"}


def test_how_many_tasks_run_at_the_same_time() -> None:
    assert parse("flow: {graph: a}\nruntime: {parallel_tasks: 20}").parallel_tasks == 20
    for wrong in ("0", "1001", "true", "1.5", "many"):
        with pytest.raises(FlowFileError, match="whole number from 1 to 1000"):
            parse(f"flow: {{graph: a}}\nruntime: {{parallel_tasks: {wrong}}}")


@pytest.mark.parametrize(
    ("words", "column", "message"),
    [
        ("over=xs, item=n, paralel=3", 30, "not 'paralel'; did you mean 'parallel'?"),
        (
            "over=xs, item=n, parallel=0",
            5,
            "parallel must be a whole number from 1 to 1000, not '0'",
        ),
        ("over=xs, item=n, parallel=some", 5, "parallel must be a whole number"),
        ("over=xs, item=n, parallel=\N{SUPERSCRIPT TWO}", 5, "parallel must be a whole number"),
        (
            "over=xs, as=n",
            22,
            "foreach(...) takes over, item, index, collect, parallel, not 'as'",
        ),
    ],
)
def test_words_of_loops_that_mean_nothing(words: str, column: int, message: str) -> None:
    text = f"flow:\n  graph: |\n    a >>\n    foreach({words}) {{ b }}\n"
    with pytest.raises(FlowFileError) as caught:
        parse(text)
    assert message.partition(";")[0] in caught.value.reason
    assert message.partition(";")[2] in str(caught.value)
    assert (caught.value.line, caught.value.column) == (4, column)
    # Runs that were accepted with it are executed as before.
    parse_flow_yaml(text.encode(), max_bytes=1000, accepted=True)
