"""The page about flow.yaml: its examples run, and keys, page, schema and parser say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import trio
import yaml

from docs.pages import ROOT
from pyoco_server.model.errors import FlowFileError
from pyoco_server.model.flow.check import check_flow_file
from pyoco_server.model.flow.file import parse_flow_yaml
from pyoco_server.model.run import RunStatus
from pyoco_server.worker.runner.options import RunnerOptions
from runner.children import Flows, a_child

PAGE = (ROOT / "docs/reference/flow_yaml.md").read_text()
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
MODULE = re.findall(r"^```python\n(# my_tasks.py\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]
SCHEMA = json.loads((ROOT / "cli/pyoco_cli/server/flow.schema.json").read_text())
TAKES = jsonschema_rs.validator_for(SCHEMA).is_valid
MAX_BYTES = 262_144

KEYS = re.compile(r"those that there are: ([\w, ]+)")
# A mapping in which one key is wrong, by what the page calls the keys in it, and where the schema has them.
MAPPINGS = {
    "": ("flow: {graph: a}\n%: 1\n", SCHEMA),
    "flow.": ("flow: {graph: a, %: 1}\n", SCHEMA["properties"]["flow"]),
    "tasks.<name>.": (
        "flow: {graph: a}\ntasks: {a: {%: 1}}\n",
        SCHEMA["properties"]["tasks"]["additionalProperties"],
    ),
    "runtime.": ("flow: {graph: a}\nruntime: {%: 1}\n", SCHEMA["properties"]["runtime"]),
    "backoff.": (
        "flow: {graph: a}\ntasks: {a: {backoff: {%: 1}}}\n",
        SCHEMA["properties"]["tasks"]["additionalProperties"]["properties"]["backoff"]["anyOf"][1],
    ),
}


def taken(text: str) -> bool:
    try:
        parse_flow_yaml(text.encode(), max_bytes=MAX_BYTES)
    except FlowFileError:
        return False
    return True


@pytest.mark.parametrize("place", MAPPINGS)
def test_the_parser_the_schema_and_the_page_have_the_same_keys(place: str) -> None:
    text, schema = MAPPINGS[place]
    with pytest.raises(FlowFileError) as caught:
        parse_flow_yaml(text.replace("%", "no_such").encode(), max_bytes=MAX_BYTES)
    found = KEYS.search(str(caught.value))
    assert found is not None
    keys = set(found[1].strip().split(", "))
    assert keys == set(schema["properties"])
    shown = PAGE[: PAGE.index("## The graph")]
    assert [key for key in keys if f"`{place}{key}" not in shown and f"`{key}`" not in shown] == []


def test_the_page_tells_each_key_once() -> None:
    keys = re.findall(r"^\| `([\w.<>]+)`", PAGE[: PAGE.index("## Policies")], re.MULTILINE)
    assert sorted(keys) == sorted(set(keys))


VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "tasks.a.callable": (["m:f"], ["m", 1]),
    "tasks.a.inputs": ([{}, {"x": 1}], [[], "x"]),
    "tasks.a.outputs": ([[], ["scratch.x"]], ["x", [1]]),
    "tasks.a.retries": ([0, 3, 1000], [-1, 1001, "3", 1.5, True]),
    "tasks.a.backoff": (
        [
            "fixed",
            "linear",
            "exponential",
            {},
            {"kind": "linear", "delay_sec": 0, "cap_sec": 5, "jitter": 1},
        ],
        ["square", 3, {"kind": "x"}, {"delay_sec": -1}, {"jitter": 1.1}, {"cap_sec": 3_000_000}],
    ),
    "tasks.a.retry_on": (["OSError", ["OSError", "a.B"]], [3, [3], {}]),
    "tasks.a.not_on": (["OSError", ["OSError"]], [3, [3]]),
    "tasks.a.timeout_sec": ([0.5, 30], [0, -1, "1", 3_000_000]),
    "tasks.a.on_failure": (["stop", "isolate"], ["retry", 1]),
    "tasks.a.trigger": (["all", "any"], ["ALL", "none"]),
    "tasks.a.event_loop": (["asyncio", "trio"], ["curio"]),
    "tasks.a.fail_policy": (["stop", "isolate", "retry"], ["no"]),
    "tasks.a.trigger_policy": (["all", "ANY"], ["no"]),
    "runtime.expose_env": ([[], ["HOME"]], ["HOME", [1]]),
    "runtime.parallel_tasks": ([1, 1000], [0, 1001, "1", 1.5]),
    "runtime.timeout_sec": ([0.5, 30], [0, -1, "1", 3_000_000]),
    "runtime.max_attempts": ([1, 100], [0, 101, "1"]),
    "runtime.retry_backoff_sec": ([0, 3600], [-1, 3601, "1"]),
    "runtime.memory_mb": ([1, 1_048_576], [0, 1_048_577, "1", 1.5]),
    "runtime.cpu_sec": ([0.5, 30], [0, -1, "1", 300_000_000]),
    "pipes": ([{}, {"p": "a"}], [[], {"p": 1}]),
    "flow.defaults": ([{}, {"x": [1]}], [[], "x"]),
    "version": ([1], [True, "x"]),
}


@pytest.mark.parametrize("path", VALUES)
def test_the_parser_and_the_schema_take_and_refuse_the_same(path: str) -> None:
    right, wrong = VALUES[path]
    for value in (*right, *wrong):
        document: dict[str, Any] = {"flow": {"graph": "a"}}
        *parents, last = path.split(".")
        place = document
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
        told = {"schema": TAKES(document), "parser": taken(yaml.safe_dump(document))}
        assert told == dict.fromkeys(told, value in right and not isinstance(value, bool)), value


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_is_right(text: str) -> None:
    assert check_flow_file(text.encode(), max_bytes=MAX_BYTES).findings == ()
    assert TAKES(yaml.safe_load(text))


async def test_every_example_gives_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await trio.Path(tmp_path / "my_tasks.py").write_text(MODULE)
    env = {"REGION": "eu", "REPORT_TOKEN": "t"}
    options = RunnerOptions(extra_sys_path=(str(tmp_path),), env=env)
    gives = 0
    async with a_child(options) as runner:
        flows = Flows(runner)
        for text in EXAMPLES:
            params = parse_flow_yaml(text.encode(), max_bytes=MAX_BYTES).defaults
            await flows.send_yaml(text, params=params)
            finished = (await flows.hear()).finished
            assert finished.status is RunStatus.COMPLETED, (finished.error, text)
            said = re.findall(r"^# (\w+) gives (.*)$", text, re.MULTILINE)
            assert said, text
            for task, value in said:
                assert finished.task_records[task].output == json.loads(value), (text, task)
                gives += 1
    assert gives >= len(EXAMPLES)
