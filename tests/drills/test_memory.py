"""Gateways and workers of real actors, in memory, under seeded faults: the invariants hold in each history.

A failing seed replays with ``cd tests && python -m drills.memory --seed N``; ``PYOCO_DRILL_SEEDS`` sets how
many are tried.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from unittest import mock

import pytest
import structlog

from drills.memory import drill, in_order
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.model import life
from pyoco_server.model.job import Job
from pyoco_server.model.run import RunSnapshot

SEEDS = int(os.environ.get("PYOCO_DRILL_SEEDS", "1000"))
_PARTS = 4


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A thousand drills log more than anybody reads; a replay logs everything."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=False,
    )
    yield
    structlog.configure(**before)


@pytest.mark.slow
@pytest.mark.timeout(600 + SEEDS)
@pytest.mark.parametrize("part", range(_PARTS))
def test_the_invariants_hold_under_every_seed(part: int) -> None:
    runs = attempts = 0
    for seed in range(part, SEEDS, _PARTS):
        history, violations = drill(seed)
        assert not violations, (
            f"seed {seed} (replay: cd tests && python -m drills.memory --seed {seed}):\n"
            + "\n".join(map(str, violations))
        )
        runs += len(history.revisions)
        attempts += len(history.executions)
    print(f"\nseeds {SEEDS // _PARTS}, runs {runs}, attempts {attempts}, violations 0")


def test_a_seed_replays_to_the_same_history() -> None:
    first, _ = drill(7)
    again, _ = drill(7)
    assert in_order(first) == in_order(again)
    assert first.submissions == again.submissions


def _find(*invariants: str) -> None:
    """Try seeds until one breaks one of the invariants, and see that it replays."""
    for seed in range(200):
        _, violations = drill(seed)
        if any(violation.invariant in invariants for violation in violations):
            assert drill(seed)[1] == violations
            return
    raise AssertionError(f"no seed broke {invariants}")


# A drill that finds nothing must be known to find something.


def test_claims_that_are_not_fenced_are_found() -> None:
    """As 0.5.1: a redelivered job of a run that has ended is executed again."""
    real = life.claim

    def claim(snapshot: RunSnapshot, **facts: object) -> object:
        if snapshot.status.terminal:
            snapshot = life.pending(Job(run_id=snapshot.run_id, flow_name=snapshot.flow_name))
        return real(snapshot, **facts)  # type: ignore[arg-type]

    with mock.patch.object(life, "claim", claim):
        _find("I2")


def test_writes_that_look_at_no_revision_are_found() -> None:
    """As 0.5.1: whoever writes last wins."""

    async def write(
        bucket: KeyValue, key: str, value: bytes, before: int, *, within: float, **_: object
    ) -> int:
        del before
        return await bucket.put(key, value, within=within)

    with mock.patch("pyoco_server.store.runs.write_fenced", write):
        _find("I2", "I3")
