"""Mixed load while workers, their children, gateway and NATS are killed at random: the invariants hold.

``PYOCO_DRILL_LONG=1`` does so for five minutes, ``PYOCO_DRILL_SEED`` chooses what happens.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyoco_server.scenario.document import read_scenario
from pyoco_server.scenario.performance import perform

SCENARIO = Path(__file__).parents[2] / "scenarios" / "chaos.yaml"
LONG = os.environ.get("PYOCO_DRILL_LONG") == "1"


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_the_invariants_hold_while_everything_is_killed(tmp_path: Path) -> None:
    seed = int(os.environ.get("PYOCO_DRILL_SEED", "1"))
    verdict = await perform(
        read_scenario(SCENARIO), tmp_path, cache=tmp_path / "cache", seed=seed, long=LONG
    )
    print(f"\nchaos, seed {seed}")
    for name, value in verdict.figures.items():
        print(f"  {name:24} {value:g}")
    assert verdict.passed, verdict.unmet
    assert verdict.figures["violations"] == 0
