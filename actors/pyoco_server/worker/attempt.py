"""One attempt at a run: what its child reported, and its fenced writes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import trio
from msgspec.structs import replace

from pyoco_server.jetstream.consumer import Message
from pyoco_server.model import decisions, life
from pyoco_server.model.artifact import Artifact, RefusedArtifact
from pyoco_server.model.job import Job
from pyoco_server.model.result import Result
from pyoco_server.model.run import (
    MAX_TRIED,
    RunSnapshot,
    RunStatus,
    TaskProgress,
    TaskRecord,
    TaskState,
    TryRecord,
    Usage,
    known,
)
from pyoco_server.store.runs import RunNotFound, RunStore, StoredRun

T = TypeVar("T", decisions.Progress, decisions.Finish)


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended.

    Attributes:
        status: COMPLETED, FAILED or CANCELLED.
        at: When, in unix seconds.
        error: What went wrong, for people.
        reason: Why, for programs; also the reason of the dead letter.
        usage: What it took, as far as is known.
    """

    status: RunStatus
    at: float
    error: str | None = None
    reason: str | None = None
    usage: Usage | None = None


class Attempt:
    """Holds the claim and what the child reported; writes it with compare-and-set.

    Args:
        delivery: The job's message, to be acknowledged after the end is stored.
        max_backoff: The longest wait before a next attempt, in seconds.
    """

    def __init__(
        self,
        runs: RunStore,
        job: Job,
        delivery: Message,
        stored: StoredRun,
        *,
        max_backoff: float,
    ) -> None:
        self._runs = runs
        self._max_backoff = max_backoff
        self.job = job
        self.delivery = delivery
        self.stored = stored
        self.claim = stored.snapshot
        self.tasks: dict[str, TaskState] = {}
        self.records: dict[str, TaskRecord] = {}
        self.tries_begun: dict[str, list[TryRecord]] = dict(known(self.claim.tries_begun) or {})
        self.artifacts: list[Artifact] = []
        self.artifacts_refused: list[RefusedArtifact] = []
        self.results: list[Result] = []
        self.ending: Ending | None = None
        # Set when there is progress to write.
        self.changed = trio.Event()
        # Tries that begin once they are stored, and who is told then; set when there are any.
        self.tries_waiting: set[str] = set()
        self.urgent = trio.Event()
        self.on_try_stored: Callable[[str], None] = lambda _key: None
        # Whether somebody asked for it to be cancelled, and whether another attempt has the run by now; what
        # either interrupts at the moment.
        self.cancel_asked = False
        self.lost = False
        self._interruptible: trio.CancelScope | None = None
        # What keeps it, and what writes its progress; none for one that is over at once.
        self.closed = False
        self.keeping: trio.CancelScope | None = None
        self.progressing: trio.CancelScope | None = None

    @property
    def run_id(self) -> str:
        """The run."""
        return self.job.run_id

    @property
    def cancelling(self) -> bool:
        """Whether a cancel request is stored, as far as the last write showed."""
        return self.stored.snapshot.status is RunStatus.CANCELLING

    @property
    def saved_by_name(self) -> bool:
        """Whether a task saved anything, wherever its name led, or returned more than its record holds."""
        return any(record.artifacts or record.result for record in self.records.values())

    def note(self, tasks: dict[str, TaskState], records: dict[str, TaskRecord]) -> None:
        """Remember what the child said of its tasks."""
        self.tasks |= tasks
        self.records |= records
        self.changed.set()

    def note_tries(self, key: str, tries: Sequence[TryRecord], *, begins: bool) -> None:
        """Remember the tries of a task, and that the last of them begins once it is stored.

        What succeeded has none to count on. Beyond `MAX_TRIED`, those are forgotten that were told of first.
        """
        self.tries_begun.pop(key, None)
        if tries:
            self.tries_begun[key] = list(tries)
            for oldest in list(self.tries_begun)[:-MAX_TRIED]:
                del self.tries_begun[oldest]
        self.changed.set()
        if begins:
            self.tries_waiting.add(key)
            self.hurry()

    def hurry(self) -> None:
        """Have the progress written at once."""
        self.changed.set()
        self.urgent.set()

    def note_progress(self, progress: dict[str, TaskProgress]) -> None:
        """Remember what tasks that run said of how far they are."""
        for name, made in progress.items():
            if self.tasks.get(name) is TaskState.RUNNING:
                record = self.records.get(name) or TaskRecord(state=TaskState.RUNNING)
                self.records[name] = replace(record, progress=made)
                self.changed.set()

    def ask_to_cancel(self) -> None:
        """A cancel is stored: interrupt what can be interrupted; asked again, nothing happens."""
        if not self.cancel_asked:
            self.cancel_asked = True
            self._interrupt()

    def is_over(self) -> bool:
        """Whether nothing of it is to be kept: the slot is done with it, or it has lost its run."""
        return self.closed or self.lost

    def lose(self) -> None:
        """The run is another attempt's, or gone: nothing of this one is to be written any more."""
        self.lost = True
        self._interrupt()

    def _interrupt(self) -> None:
        if self._interruptible is not None:
            self._interruptible.cancel()

    @contextmanager
    def interruptible(self, limit: float = math.inf, *, asked: bool = False) -> Iterator[None]:
        """The block ends after ``limit`` seconds, or at once when the run is lost or to be cancelled.

        One that is about a cancel that was ``asked`` for ends so when the run is lost.
        """
        with trio.move_on_after(limit) as scope:
            self._interruptible = scope
            if self.lost or (self.cancel_asked and not asked):
                scope.cancel()
            try:
                yield
            finally:
                self._interruptible = None

    def end(self, ending: Ending) -> None:
        """Its flow has ended so; no further progress is written."""
        self.ending = ending
        if self.progressing is not None:
            self.progressing.cancel()

    def close(self) -> None:
        """The slot is done with it: it is kept no longer."""
        self.closed = True
        if self.keeping is not None:
            self.keeping.cancel()

    async def write_progress(self) -> bool:
        """Store the progress; return whether the claim still holds.

        Raises:
            SnapshotTooLarge: The states of the tasks alone do not fit.
            BridgeError: NATS refused or could not be asked; try again later.
        """
        self.changed, self.urgent = trio.Event(), trio.Event()
        waiting, now = list(self.tries_waiting), self._runs.now()
        decision = await self._change(
            lambda snapshot: life.progress(
                snapshot,
                instance_id=self.claim.worker_instance_id or "",
                attempt=self.claim.attempt,
                tasks=self.tasks,
                task_records=self.records,
                heartbeat_at=now,
                now=now,
                tries_begun=self.tries_begun,
            )
        )
        holds = isinstance(decision, decisions.Progressed)
        if holds and not self.cancelling:
            self.begin_tries(waiting)
        return holds

    def begin_tries(self, keys: Iterable[str]) -> None:
        """Have tries begin that waited for their being stored."""
        for key in keys:
            self.tries_waiting.discard(key)
            self.on_try_stored(key)

    async def write_end(self, ending: Ending) -> decisions.Finish:
        """Store the end of the run, or of the attempt where another follows.

        Raises:
            SnapshotTooLarge: The states of the tasks alone do not fit.
            BridgeError: NATS refused or could not be asked; try again later.
        """
        return await self._change(
            lambda snapshot: life.finish(
                snapshot,
                instance_id=self.claim.worker_instance_id or "",
                attempt=self.claim.attempt,
                status=ending.status,
                now=ending.at,
                error=ending.error,
                reason=ending.reason,
                tasks=self.tasks,
                task_records=self.records,
                artifacts=self.artifacts,
                artifacts_refused=self.artifacts_refused,
                results=self.results,
                usage=ending.usage,
                max_backoff_sec=self._max_backoff,
            )
        )

    async def release(
        self,
        reason: str = life.WORKER_STOPPED,
        error: str = "the worker was stopped before the run had ended",
        *,
        counts: bool = True,
    ) -> decisions.Finish:
        """Give the run back, so that its next attempt can start at once; say why, and if this one counts.

        Raises:
            BridgeError: NATS refused or could not be asked.
        """
        return await self._change(
            lambda snapshot: life.release(
                snapshot,
                instance_id=self.claim.worker_instance_id or "",
                attempt=self.claim.attempt,
                now=self._runs.now(),
                reason=reason,
                error=error,
                counts=counts,
                tries_begun=self.tries_begun,
            )
        )

    async def _change(self, decide: Callable[[RunSnapshot], T]) -> T | decisions.Superseded:
        def rule(snapshot: RunSnapshot) -> tuple[RunSnapshot | None, T]:
            decision = decide(snapshot)
            return decision.snapshot, decision

        try:
            self.stored, decision = await self._runs.change(self.run_id, rule, known=self.stored)
        except RunNotFound:  # deleted or expired under the attempt: nothing is left to write to
            return decisions.Superseded(self.stored.snapshot)
        return decision
