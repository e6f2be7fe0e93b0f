"""Mixed load while workers, their children, gateway and NATS are killed at random: the invariants hold.

``PYOCO_DRILL_LONG=1`` does so for five minutes, ``PYOCO_DRILL_SEED`` chooses what happens.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.chaos import Chaos
from e2e.programs import Stage, open_stage

LONG = os.environ.get("PYOCO_DRILL_LONG") == "1"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as stage:
        yield stage


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_invariants_hold_while_everything_is_killed(stage: Stage) -> None:
    seed = int(os.environ.get("PYOCO_DRILL_SEED", "1"))
    began = time.monotonic()
    report = Chaos(stage, seed, 300.0 if LONG else 20.0).run()
    print(f"\n{report}\n  in all {time.monotonic() - began:.0f} s")
    assert not report.violations, report
    assert report.kills.total() > 0
    assert report.ended["COMPLETED"] > 0
