"""When runs that have not ended are to be seen to."""

from __future__ import annotations

import math

from pyoco_server.gateway.live_runs import LiveRuns
from pyoco_server.gateway.read_model.rows import RunRow
from pyoco_server.gateway.read_model.writer import Changes
from pyoco_server.model.run import RunStatus
from read_model.rows import row

# Of all of which it holds that; more than it may hold of what is over.
MANY = 2_000


def running(run_id: str, seq: int, end_late_at: float | None = 100.0) -> RunRow:
    return row(run_id, seq=seq, status=RunStatus.RUNNING, end_late_at=end_late_at)


def changed(live: LiveRuns, *rows: RunRow, anew: bool = False) -> None:
    live.apply(Changes("bucket", anew, rows[-1].seq, rows={each.run_id: each for each in rows}))


def due(live: LiveRuns, now: float = 100.0) -> list[str]:
    late, waiting = live.take_due(now, 100)
    return [run.run_id for run in (*late, *waiting)]


async def test_a_moment_is_held_once_however_often_its_run_gives_a_sign_of_life() -> None:
    live = LiveRuns()
    for seq in range(1, MANY):
        changed(live, running("a", seq))
    assert len(live._moments) == 1
    assert due(live, 99.0) == []
    assert due(live) == ["a"]
    assert due(live) == []
    # Not seen to yet, and it goes on: once more.
    changed(live, running("a", MANY))
    assert due(live) == ["a"]


async def test_a_moment_of_a_state_that_a_run_has_left_is_none() -> None:
    live = LiveRuns()
    changed(live, running("a", 1), running("b", 2), running("c", 3))
    changed(live, running("a", 4, end_late_at=None))
    changed(live, row("b", seq=5, status=RunStatus.COMPLETED))
    assert due(live) == ["c"]


async def test_a_run_that_could_not_be_seen_to_is_seen_to_later_unless_it_has_changed() -> None:
    live = LiveRuns()
    changed(live, running("a", 1), running("b", 2))
    late, _ = live.take_due(100.0, 100)
    live.see_again(late, 105.0)
    changed(live, running("a", 3, end_late_at=None))
    assert live.next_moment == 105.0
    assert due(live, 105.0) == ["b"]


async def test_moments_of_runs_that_have_ended_are_not_kept() -> None:
    live = LiveRuns()
    for number in range(MANY):
        changed(live, running(f"run-{number}", number + 1, end_late_at=1e9))
        if number:
            changed(live, row(f"run-{number}", seq=number + 1, status=RunStatus.COMPLETED))
    assert len(live._moments) < 1_100
    assert due(live, 1e9) == ["run-0"]


async def test_of_a_bucket_that_is_read_anew_no_earlier_moment_is_kept() -> None:
    live = LiveRuns()
    changed(live, running("a", 1))
    changed(live, running("b", 1, end_late_at=None), anew=True)
    assert live.next_moment == math.inf
    live.load([running("a", 1)])
    live.load([])
    assert live.next_moment == math.inf
