"""Ends runs that nobody will end: a fenced terminal write, a dead letter, and the job off the queue."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from pyoco_server.jetstream.errors import WrongRevision
from pyoco_server.model import decisions, life
from pyoco_server.model.dead_letter import PAYLOAD_BYTES, DeadLetterReason, payload_text
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.job import InvalidJob, decode_job
from pyoco_server.model.run import (
    RunSnapshot,
    RunStatus,
    SnapshotTooLarge,
    UnreadableSnapshot,
)
from pyoco_server.store.dead_letters import DeadLetterStore, letter_id
from pyoco_server.store.queue import JobQueue, QueuedJob
from pyoco_server.store.runs import RunNotFound, RunStore

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a run is to end; a `DeadLetterReason`, and a sentence for people."""

    reason: DeadLetterReason
    error: str


class Undertaker:
    """What several gateways do to the same run at once, one of them does: the bucket decides."""

    def __init__(self, runs: RunStore, queue: JobQueue, dead_letters: DeadLetterStore) -> None:
        self._runs = runs
        self._queue = queue
        self._dead_letters = dead_letters

    async def end(
        self,
        run_id: str,
        verdict: Verdict,
        *,
        revision: int | None = None,
        job: QueuedJob | None = None,
    ) -> bool:
        """End a run and remove its job; return False when somebody has moved the run on.

        A run whose end does not fit into any message is left alone.

        Args:
            run_id: The run.
            verdict: Why it ends, should no cancel have been asked for.
            revision: Only if its snapshot has this revision still.
            job: Its job, where it is in the queue; with its bytes, for the dead letter.

        Raises:
            BridgeError: NATS could not be asked; do it again.
        """
        try:
            stored = await self._runs.get(run_id)
        except (RunNotFound, UnreadableSnapshot) as error:
            log.info("nothing to end", run_id=run_id, reason=str(error))
            await self._remove(job)
            return True
        if revision is not None and stored.revision != revision:
            return False
        decision = life.abandon(
            stored.snapshot, reason=verdict.reason, error=verdict.error, now=self._runs.now()
        )
        ended = decision.snapshot
        if isinstance(decision, decisions.Finished):
            try:
                await self._runs.replace(stored, ended)
            except WrongRevision:
                return False
            except SnapshotTooLarge as error:
                log.warning("a run cannot be ended", run_id=run_id, reason=str(error))
                return True
            cancelled = ended.status is RunStatus.CANCELLED
            log.warning(
                "run ended, for nobody executes it",
                err_id=ErrorId.CANCEL_NOT_CONVERGED if cancelled else ErrorId.EXECUTION_FAILED,
                run_id=run_id,
                status=ended.status,
                reason=ended.reason,
                error=ended.error,
                worker_id=stored.snapshot.worker_id,
                attempt=stored.snapshot.attempt,
            )
        # Also for a run that another gateway ended so, which may have died before it told of it; the
        # letter's message id makes one of several.
        if ended.status is RunStatus.FAILED and ended.reason == verdict.reason:
            await self._bury(ended, verdict, job)
        await self._remove(job)
        return True

    async def bury_unreadable(self, job: QueuedJob, verdict: Verdict) -> None:
        """Remove a job that names no run, with a dead letter.

        Raises:
            BridgeError: NATS could not be asked; do it again.
        """
        await self._dead_letters.write(
            job.tag,
            verdict.reason,
            verdict.error,
            run_id=job.run_id or None,
            subject=job.subject,
            payload=payload_text(job.data),
            msg_id=f"{verdict.reason}:{job.sequence}",
        )
        await self._remove(job)

    async def _bury(self, run: RunSnapshot, verdict: Verdict, job: QueuedJob | None) -> None:
        details = {"worker_id": run.worker_id, "msg_id": letter_id(run, verdict.reason)}
        try:
            whole = decode_job(job.data) if job is not None and job.data else None
        except InvalidJob:
            whole = None
        if whole is not None:
            await self._dead_letters.write_for(whole, verdict.reason, verdict.error, **details)
            return
        await self._dead_letters.write(
            run.tag or (job.tag if job is not None else "unknown"),
            verdict.reason,
            verdict.error,
            run_id=run.run_id,
            flow_name=run.flow_name,
            tags=run.tags,
            tenant_id=run.tenant_id,
            api_key_id=run.api_key_id,
            payload=None if job is None else payload_text(job.data[:PAYLOAD_BYTES]),
            **details,
        )

    async def _remove(self, job: QueuedJob | None) -> None:
        if job is not None:
            await self._queue.remove(job.sequence)
