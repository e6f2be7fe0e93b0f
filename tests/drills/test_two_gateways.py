"""What one gateway has told is contradicted by no later answer of its own, nor of another under the token.

``PYOCO_DRILL_LONG=1`` plays 2,000 runs, ``PYOCO_DRILL_SEED`` others.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from drills.two_gateways import Known, drill
from e2e.programs import open_stage
from ports import free_port

SESSIONS, RUNS = (20, 100) if os.environ.get("PYOCO_DRILL_LONG") == "1" else (6, 10)


def test_what_counts_as_a_contradiction() -> None:
    pending, running, again = Known("PENDING", 0), Known("RUNNING", 1), Known("PENDING", 1)
    cancelling, cancelled = Known("CANCELLING", 1), Known("CANCELLED", 1)
    assert pending.contradicts(None)
    assert running.contradicts(pending)
    assert not running.contradicts(again)
    assert cancelling.contradicts(running)
    assert not cancelling.contradicts(cancelled)
    assert cancelled.contradicts(Known("COMPLETED", 1))


@pytest.mark.slow
@pytest.mark.timeout(240 + SESSIONS * RUNS)
def test_no_answer_is_contradicted(tmp_path: Path) -> None:
    seed = int(os.environ.get("PYOCO_DRILL_SEED", "1"))
    with open_stage(tmp_path) as first:
        first.env["PYOCO_CONSUMER_ACK_WAIT_SEC"] = "2"
        first.nats()
        second = replace(first, programs=[], http_port=free_port())
        try:
            first.gateway()
            second.gateway()
            report = trio.run(drill, (first, second), SESSIONS, RUNS, seed)
        finally:
            for program in second.programs:
                program.stop()
    print(
        f"\n{len(report.submitted)} runs, {sum(report.answers.values())} answers: {report.answers}"
    )
    assert report.violations == []
    assert len(report.submitted) == SESSIONS * RUNS
    assert report.answers["list 200"] > len(report.submitted)
