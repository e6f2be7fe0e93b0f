"""What the slots of a worker do now, on one board."""

from __future__ import annotations

from dataclasses import dataclass

import trio
from msgspec.structs import replace

from pyoco_server.model import decisions
from pyoco_server.model.run import RunSnapshot, RunStatus, shrink_error
from pyoco_server.model.worker import SlotRecord, WorkerRecord, WorkerState

_REASON_BYTES = 300


@dataclass(frozen=True, slots=True)
class _LastRun:
    """How the run that a slot ended last went. Times are unix seconds."""

    run_id: str | None = None
    status: RunStatus | None = None
    started_at: float | None = None
    finished_at: float | None = None


class SlotBoard:
    """What each slot of a worker does now; a slot writes its own line, the heartbeat reads them all.

    Attributes:
        slots: The lines, by index.
        changed: Set when a line was written; its reader puts another event in its place.
    """

    def __init__(self, count: int) -> None:
        self.slots = [SlotRecord(index=index) for index in range(count)]
        self._last = _LastRun()
        self.changed = trio.Event()

    def has_child(self, index: int, pid: int | None) -> None:
        """A slot without a run has this child."""
        self._write(SlotRecord(index=index, pid=pid))

    def rests(self, index: int, reason: str) -> None:
        """A slot takes no runs for a while."""
        self._write(SlotRecord(index=index, resting=shrink_error(reason, _REASON_BYTES)))

    def begins(self, claim: RunSnapshot, pid: int | None) -> None:
        """A run is executed in the slot that claimed it."""
        index = claim.slot or 0
        self._write(
            SlotRecord(
                index=index,
                run_id=claim.run_id,
                attempt=claim.attempt,
                pid=pid,
                busy_since=claim.start_time,
            )
        )

    def ends(self, claim: RunSnapshot, decision: decisions.Finish, now: float) -> None:
        """The slot that claimed a run has it no more from now on."""
        index = claim.slot or 0
        status = decision.snapshot.status if isinstance(decision, decisions.Finished) else None
        self._last = _LastRun(claim.run_id, status, claim.start_time, now)
        self.has_child(index, self.slots[index].pid)

    def shown_in(self, record: WorkerRecord) -> WorkerRecord:
        """The record with what the slots do now; one of a worker that stopped stays as it is."""
        if not record.state.active:
            return record
        busy = [slot for slot in self.slots if slot.run_id is not None]
        newest = max(busy, key=lambda slot: slot.busy_since or 0.0, default=None)
        last = self._last
        return replace(
            record,
            slots=list(self.slots),
            state=WorkerState.IDLE if newest is None else WorkerState.RUNNING,
            current_run_id=None if newest is None else newest.run_id,
            last_run_started_at=last.started_at if newest is None else newest.busy_since,
            last_run_id=last.run_id,
            last_run_status=last.status,
            last_run_finished_at=last.finished_at,
        )

    def _write(self, line: SlotRecord) -> None:
        if line != self.slots[line.index]:
            self.slots[line.index] = line
            self.changed.set()
