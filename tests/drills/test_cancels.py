"""Cancels at a random phase of a run: none is lost, and each is there in good time.

``PYOCO_DRILL_LONG=1`` makes a thousand trials of each flow, ``PYOCO_DRILL_SEED`` chooses other moments.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from busyness import busyness
from drills.cancels import GRACE_SECONDS, cancel_trials
from e2e.programs import Stage, open_stage

TRIALS = 1000 if os.environ.get("PYOCO_DRILL_LONG") == "1" else 40
# Far above what it takes (see docs/explanation/guarantees.md): the machine may have other things to do.
_BUSY_SECONDS = 4.0


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as stage:
        yield stage


@pytest.mark.slow
@pytest.mark.timeout(120 + 2 * TRIALS)
@pytest.mark.parametrize(("flow", "patience"), [("cooperates", 0.0), ("ignores", GRACE_SECONDS)])
def test_no_cancel_is_lost(stage: Stage, flow: str, patience: float) -> None:
    seed = int(os.environ.get("PYOCO_DRILL_SEED", "1"))
    before = busyness()
    report = cancel_trials(stage, flow, TRIALS, seed)
    print(f"\n{report}")
    assert not report.lost, report
    assert report.answers.total() == TRIALS
    # Cancels came in all phases: before the start, at once after it, and within a task, whichever of them.
    assert report.found["waiting"], report
    assert sum(phase.startswith("in task") for phase in report.found) >= 2, report
    assert report.p99 < patience + _BUSY_SECONDS * max(1.0, before, busyness()), report
