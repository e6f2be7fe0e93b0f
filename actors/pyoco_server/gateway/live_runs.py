"""The runs that have not ended, and when each of them last gave a sign of life, as this process saw it.

Silence is measured by this process's own clock, from when it saw a change; clocks of workers do not count.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import trio
from trio.lowlevel import ParkingLot

from pyoco_server.gateway.read_model.rows import RunRow
from pyoco_server.gateway.read_model.writer import Changes
from pyoco_server.model.run import RunStatus

Moment = tuple[float, bool]
"""When a run is to be seen to (unix seconds by the server), and whether that is its place in the queue."""

_LONGEST_PAUSE = 64
# A run has four at most; others that are held are of runs that have ended, or left that state.
_MOST_MOMENTS = 8
_SPARE_MOMENTS = 1_000
OVERDUE_SECONDS = 3.0
"""How long after its time a run that was held back is to be in the queue: the server looks every quarter of
a second."""


@dataclass(slots=True)
class LiveRun:
    """A run that has not ended.

    Attributes:
        run_id: The run.
        revision: Of its snapshot.
        status: Its status.
        claimed: Whether a worker of this version holds it.
        due_at: When it may be claimed again, in unix seconds, where it waits for that.
        changed_at: When this process saw the change, on trio's clock.
        look_again_at: Not to be looked at before, on trio's clock.
        looks: How often it was looked at and left alone.
        moments: When it is to be seen to in this state.
    """

    run_id: str
    revision: int
    status: RunStatus
    claimed: bool
    due_at: float | None
    changed_at: float
    look_again_at: float = 0.0
    looks: int = 0
    moments: frozenset[Moment] = frozenset()

    def leave_alone(self, now: float, pause: float) -> None:
        """Somebody may still take it: look again after a pause, a longer one each time."""
        self.look_again_at = now + pause * min(2**self.looks, _LONGEST_PAUSE)
        self.looks += 1


class LiveRuns:
    """Written by whoever follows the runs bucket, read by the reaper.

    Attributes:
        caught_up: Whether all of them are known.
    """

    def __init__(self) -> None:
        self._live: dict[str, LiveRun] = {}
        self.caught_up = False
        # Of all runs; what is none of its run any more is passed over when its time comes.
        self._moments: list[tuple[float, str, bool]] = []
        self._earlier = ParkingLot()

    def get(self, run_id: str) -> LiveRun | None:
        """The run, if it has not ended."""
        return self._live.get(run_id)

    def load(self, rows: Iterable[RunRow]) -> None:
        """Begin with the runs that were live when the read model was written last."""
        self._clear()
        self._take(rows)

    def apply(self, changes: Changes) -> None:
        """Take in changes of the runs bucket; those that are known already are no sign of life."""
        if changes.anew:
            self._clear()
            self.caught_up = False
        self._take(changes.rows.values())
        for run_id in changes.others:
            self._live.pop(run_id, None)
        self.caught_up |= changes.complete

    def _clear(self) -> None:
        self._live.clear()
        self._moments.clear()

    def forget(self, rows: Iterable[RunRow]) -> None:
        """The runs are gone, in a way that watches do not see."""
        for row in rows:
            self._live.pop(row.run_id, None)

    def start_anew(self) -> None:
        """Nothing was heard for a while, for reasons of our own: give every run its full time again."""
        now = trio.current_time()
        for run in self._live.values():
            run.changed_at = now

    def silent(
        self, now: float, patience: float, patience_unclaimed_cancel: float
    ) -> Iterator[LiveRun]:
        """Runs without a sign of life for longer than ``patience`` seconds, that are due to be looked at.

        ``patience_unclaimed_cancel`` is the same for a cancelled run that no worker had; ``now`` is trio's.
        """
        for run in self._live.values():
            unclaimed = run.status is RunStatus.CANCELLING and not run.claimed
            silence = patience_unclaimed_cancel if unclaimed else patience
            if now - run.changed_at > silence and now >= run.look_again_at:
                yield run

    @property
    def next_moment(self) -> float:
        """When something is to be seen to, in unix seconds by the server's clock; infinite for never."""
        return self._moments[0][0] if self._moments else math.inf

    async def sooner(self) -> None:
        """Wait until `next_moment` may be an earlier one than when this was called."""
        await self._earlier.park()

    def take_due(self, now: float, most: int) -> tuple[list[LiveRun], list[LiveRun]]:
        """Take the runs, about so many at most, whose time has come.

        Returns:
            Those that are too old or late, and those that are to be in the queue by now.
        """
        found: tuple[dict[str, LiveRun], dict[str, LiveRun]] = ({}, {})
        while self._moments and self._moments[0][0] <= now and sum(map(len, found)) < most:
            at, run_id, queued = heapq.heappop(self._moments)
            run = self._live.get(run_id)
            if run is not None and (at, queued) in run.moments:
                run.moments -= {(at, queued)}
                found[queued][run_id] = run
        return [*found[0].values()], [*found[1].values()]

    def see_again(self, runs: Iterable[LiveRun], at: float) -> None:
        """They could not be seen to: do it then."""
        for run in runs:
            run.moments |= {(at, False)}
            self._remind(run, [(at, False)])

    def _remind(self, run: LiveRun, moments: Iterable[Moment]) -> None:
        before = self.next_moment
        for at, queued in moments:
            heapq.heappush(self._moments, (at, run.run_id, queued))
        if len(self._moments) > _MOST_MOMENTS * len(self._live) + _SPARE_MOMENTS:
            self._moments = [
                (at, live.run_id, queued)
                for live in self._live.values()
                for at, queued in live.moments
            ]
            heapq.heapify(self._moments)
        if self.next_moment < before:
            self._earlier.unpark_all()

    def _take(self, rows: Iterable[RunRow]) -> None:
        now = trio.current_time()
        for row in rows:
            if row.status.terminal:
                self._live.pop(row.run_id, None)
            elif (known := self._live.get(row.run_id)) is None or known.revision != row.seq:
                run = LiveRun(row.run_id, row.seq, row.status, bool(row.claimed), row.due_at, now)
                self._live[row.run_id] = run
                if _has_moments(row):
                    run.moments = _moments_of(row)
                    # A heartbeat changes none of them.
                    self._remind(run, run.moments - (known.moments if known else frozenset()))


def _has_moments(row: RunRow) -> bool:
    # Hardly any run has one; 0 is a moment, too.
    return (
        row.scheduled_for is not None
        or row.start_before is not None
        or row.start_late_at is not None
        or row.end_late_at is not None
    )


def _moments_of(row: RunRow) -> frozenset[Moment]:
    waiting = row.status is RunStatus.PENDING and row.attempt == 0
    start_before = row.start_before if waiting else None
    moments = (start_before, row.start_late_at, row.end_late_at)
    found = {(moment, False) for moment in moments if moment is not None}
    if waiting and row.due_at is not None:
        found.add((row.due_at + OVERDUE_SECONDS, True))
    return frozenset(found)
