"""The runs that have not ended, and when each of them last gave a sign of life, as this process saw it.

Silence is measured by this process's own clock, from when it saw a change; clocks of workers do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import trio

from pyoco_server.gateway.read_model.rows import RunRow
from pyoco_server.gateway.read_model.writer import Changes
from pyoco_server.model.run import RunStatus

_LONGEST_PAUSE = 64


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
    """

    run_id: str
    revision: int
    status: RunStatus
    claimed: bool
    due_at: float | None
    changed_at: float
    look_again_at: float = 0.0
    looks: int = 0

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

    def get(self, run_id: str) -> LiveRun | None:
        """The run, if it has not ended."""
        return self._live.get(run_id)

    def load(self, rows: Iterable[RunRow]) -> None:
        """Begin with the runs that were live when the read model was written last."""
        self._live.clear()
        self._take(rows)

    def apply(self, changes: Changes) -> None:
        """Take in changes of the runs bucket; those that are known already are no sign of life."""
        if changes.anew:
            self._live.clear()
            self.caught_up = False
        self._take(changes.rows.values())
        for run_id in changes.others:
            self._live.pop(run_id, None)
        self.caught_up |= changes.complete

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

    def _take(self, rows: Iterable[RunRow]) -> None:
        now = trio.current_time()
        for row in rows:
            if row.status.terminal:
                self._live.pop(row.run_id, None)
            elif (known := self._live.get(row.run_id)) is None or known.revision != row.seq:
                self._live[row.run_id] = LiveRun(
                    row.run_id, row.seq, row.status, bool(row.claimed), row.due_at, now
                )
