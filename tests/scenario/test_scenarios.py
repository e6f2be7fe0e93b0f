"""Every scenario of ``scenarios/`` holds, and fails as it must when its twin breaks what it is about.

``PYOCO_DRILL_LONG=1`` plays those that take minutes too.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyoco_server.scenario.document import Scenario, read_scenario
from pyoco_server.scenario.performance import ScenarioResult, perform, twin_of
from pyoco_server.scenario.versions import cache_folder

FOLDER = Path(__file__).parents[2] / "scenarios"
LONG = os.environ.get("PYOCO_DRILL_LONG") == "1"
FILES = sorted(FOLDER.glob("*.yaml"))
# tests/drills/test_chaos.py plays the other one.
HELD = [path for path in FILES if path.stem != "chaos"]


def played(path: Path) -> Scenario:
    scenario = read_scenario(path)
    if scenario.long and not LONG:
        pytest.skip("takes minutes; PYOCO_DRILL_LONG=1 plays it")
    return scenario


def shown(verdict: ScenarioResult) -> str:
    lines = [f"{line.at:8.2f}  {line.text}" for line in verdict.transcript]
    return "\n".join([f"{verdict.scenario}, seed {verdict.seed}", *lines, *verdict.unmet])


@pytest.mark.slow
@pytest.mark.parametrize("path", HELD, ids=lambda path: path.stem)
async def test_holds(path: Path, tmp_path: Path) -> None:
    verdict = await perform(played(path), tmp_path, cache=cache_folder())
    assert verdict.passed, shown(verdict)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_fails_when_it_is_broken(path: Path, tmp_path: Path) -> None:
    scenario = played(path)
    twin = twin_of(scenario, FOLDER)
    assert twin is not None, f"{path.name} has no twin: nothing shows that it can fail"
    verdict = await perform(scenario, tmp_path, cache=cache_folder(), twin=twin)
    assert twin.noticed(verdict.unmet), shown(verdict)
