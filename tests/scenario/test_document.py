"""The scenario file: its JSON schema, and what is said of one that cannot be understood."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyoco_server.scenario.document import ScenarioError, json_schema, parse_scenario, read_scenario

FOLDER = Path(__file__).parents[2] / "scenarios"
SCHEMA = FOLDER / "scenario.schema.json"
HEAD = "name: x\nabout: y\n"


def test_the_schema_file_is_up_to_date() -> None:
    """Made by: pyoco-server scenario schema > scenarios/scenario.schema.json."""
    assert json.loads(SCHEMA.read_text()) == json_schema()


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_is_understood(path: Path) -> None:
    assert read_scenario(path).steps


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        (
            "[{kill: w1, start: w1}]",
            r"steps\[0\]: one step has one action, this has 2: start, kill",
        ),
        ("[{}]", r"steps\[0\]: one step has one action, this has 0"),
        ("[{submit: {flow: quick, count: 0}}]", "count"),
        ("[{submitt: {flow: quick}}]", "submitt"),
        ("[{parallel: [[{wait: 1}], [{wait: 1, say: a}]]}]", r"parallel\[1\]\[0\]: one step"),
        ("[{choose: [{wait: 1}, [{wait: 1}, {}]]}]", r"choose\[1\]\[1\]: one step"),
        ("[{repeat: {steps: []}}]", r"steps\[0\].repeat: one of times and for_sec"),
        ("[{repeat: {times: 1, for_sec: 1, steps: []}}]", "one of times and for_sec"),
        ("[{repeat: {times: 1, long_for_sec: 1, steps: []}}]", "long_for_sec goes with for_sec"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(steps: str, text: str) -> None:
    with pytest.raises(ScenarioError, match=text):
        parse_scenario(HEAD + f"steps: {steps}\n")
