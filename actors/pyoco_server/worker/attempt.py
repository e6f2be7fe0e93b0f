"""One attempt at a run, as its slot sees it: progress, fenced writes, the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import trio

from pyoco_server.jetstream.consumer import Message
from pyoco_server.model import life
from pyoco_server.model.job import Job
from pyoco_server.model.run import RunSnapshot, RunStatus, TaskRecord, TaskState
from pyoco_server.store.runs import RunNotFound, RunStore, StoredRun


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended.

    Attributes:
        status: COMPLETED, FAILED or CANCELLED.
        at: When, in unix seconds.
        error: What went wrong, for people.
        reason: Why, for programs; also the reason of the dead letter.
    """

    status: RunStatus
    at: float
    error: str | None = None
    reason: str | None = None


class Attempt:
    """Holds the claim and what the child reported; writes it with compare-and-set.

    Args:
        runs: The stored runs.
        job: What is executed.
        delivery: The job's message, to be acknowledged after the end is stored.
        stored: The claimed snapshot.
    """

    def __init__(self, runs: RunStore, job: Job, delivery: Message, stored: StoredRun) -> None:
        self._runs = runs
        self.job = job
        self.delivery = delivery
        self.stored = stored
        self.claim = stored.snapshot
        self.tasks: dict[str, TaskState] = {}
        self.records: dict[str, TaskRecord] = {}
        self.changed = False
        self.write_planned = False
        # Set when the slot is done with this attempt, however it ended: stops the lease.
        self.over = trio.Event()
        self.cancel_sent = False
        self.ending: Ending | None = None

    @property
    def run_id(self) -> str:
        """The run."""
        return self.job.run_id

    @property
    def cancelling(self) -> bool:
        """Whether a cancel request is stored, as far as the last write showed."""
        return self.stored.snapshot.status is RunStatus.CANCELLING

    def note(self, name: str, state: TaskState, record: TaskRecord) -> None:
        """Remember what the child said of a task."""
        self.tasks[name] = state
        self.records[name] = record
        self.changed = True

    async def write_progress(self) -> bool:
        """Store the progress; return whether the claim still holds.

        Raises:
            BridgeError: NATS refused or could not be asked; try again later.
        """
        now = time.time()

        def rule(snapshot: RunSnapshot) -> tuple[RunSnapshot | None, bool]:
            outcome = life.progress(
                snapshot,
                instance_id=self.claim.worker_instance_id or "",
                attempt=self.claim.attempt,
                tasks=self.tasks,
                task_records=self.records,
                heartbeat_at=now,
                now=now,
            )
            match outcome:
                case life.Progressed(progressed):
                    return progressed, True
                case life.Superseded() | life.AlreadyTerminal():
                    return None, False
                case _:
                    assert_never(outcome)

        self.changed = False
        return await self._change(rule)

    async def write_end(self, ending: Ending) -> bool:
        """Store the end; return whether it was this attempt's to store.

        Raises:
            BridgeError: NATS refused or could not be asked; try again later.
        """

        def rule(snapshot: RunSnapshot) -> tuple[RunSnapshot | None, bool]:
            outcome = life.finish(
                snapshot,
                instance_id=self.claim.worker_instance_id or "",
                attempt=self.claim.attempt,
                status=ending.status,
                now=ending.at,
                error=ending.error,
                reason=ending.reason,
                tasks=self.tasks,
                task_records=self.records,
            )
            match outcome:
                case life.Finished(finished):
                    return finished, True
                case life.Superseded() | life.AlreadyTerminal():
                    return None, False
                case _:
                    assert_never(outcome)

        return await self._change(rule)

    async def _change(self, rule: Callable[[RunSnapshot], tuple[RunSnapshot | None, bool]]) -> bool:
        try:
            self.stored, held = await self._runs.change(self.run_id, rule, known=self.stored)
        except RunNotFound:
            return False  # deleted or expired under the attempt: nothing is left to write to
        return held
