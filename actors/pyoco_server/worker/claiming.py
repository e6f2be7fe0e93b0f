"""Claiming a run for an attempt: the compare-and-set that at most one worker wins."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pyoco_server.jetstream.consumer import Message
from pyoco_server.jetstream.errors import WrongRevision
from pyoco_server.model import decisions, life
from pyoco_server.model.job import Job
from pyoco_server.model.run import RunSnapshot, RunStatus, RunWheel
from pyoco_server.store.queue import JobQueue
from pyoco_server.store.runs import RunNotFound, RunStore, StoredRun


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who claims: a slot of a worker process."""

    worker_id: str
    instance_id: str
    slot: int


async def claim_run(
    runs: RunStore,
    queue: JobQueue,
    job: Job,
    delivery: Message,
    claimant: Claimant,
    *,
    tried: set[float],
    wheels: Sequence[RunWheel] = (),
    respected_sec: float = 0.0,
) -> tuple[StoredRun, decisions.Claim] | None:
    """Claim the run of a job.

    A job that names the revision of its PENDING snapshot is claimed without a read. One of a gateway
    of version 0.5.1 does not; its snapshot is read, and made from the job where it is missing.

    Args:
        runs: The stored runs.
        queue: Where the job is from.
        job: Which run.
        delivery: What brought the job.
        claimant: Who claims.
        tried: When it was tried for this delivery before; such a claim may be stored, and is this one then.
            The time of each further try is added.
        wheels: What the attempt will import from.
        respected_sec: For how long a sign of life of who has the run stands against the claim.

    Returns:
        What is stored now, and which claim that is. None where the submission was taken back after its job
        had been queued; a later try of it may have been accepted, with a job of its own.

    Raises:
        UnreadableSnapshot: What is stored under the run's id is no snapshot.
        BridgeError: NATS refused or could not be asked; the claim may or may not hold.
    """
    lost: int | None = None

    def rule(snapshot: RunSnapshot) -> tuple[RunSnapshot | None, decisions.Claim | None]:
        if not life.is_job_of(job, snapshot):
            return None, None
        if snapshot.status is RunStatus.RUNNING and _is_tried(snapshot, claimant, tried):
            return None, decisions.Claimed(snapshot)
        snapshot = life.as_submitted(snapshot, job)
        now = runs.now()
        tried.add(now)
        claim = life.claim(
            snapshot,
            worker_id=claimant.worker_id,
            instance_id=claimant.instance_id,
            slot=claimant.slot,
            wheels=wheels,
            now=now,
            job_sequence=delivery.stream_sequence,
            due_at=life.held_back_until(job),
            lost=lost,
            respected_sec=respected_sec,
        )
        return claim.snapshot, claim

    await runs.learn_time()
    known = None
    first = delivery.num_delivered == 1 and job.next_attempt_at is None and not tried
    if job.snapshot_revision is not None and first:
        known = StoredRun(life.pending(job), job.snapshot_revision)
    try:
        stored, claim = await runs.change(job.run_id, rule, known=known)
        if isinstance(claim, decisions.Spare) and not await _is_queued(queue, claim.snapshot):
            lost = claim.snapshot.job_sequence
            stored, claim = await runs.change(job.run_id, rule, known=stored)
    except RunNotFound:
        if job.snapshot_revision is not None:
            return None
        try:
            known = await runs.create(life.pending(job))
        except WrongRevision:
            known = None
        stored, claim = await runs.change(job.run_id, rule, known=known)
    return None if claim is None else (stored, claim)


async def _is_queued(queue: JobQueue, run: RunSnapshot) -> bool:
    """Whether the message that a run was claimed with is in the queue still."""
    assert run.job_sequence is not None
    queued = await queue.get(run.job_sequence)
    return queued is not None and queued.run_id == run.run_id


def _is_tried(snapshot: RunSnapshot, claimant: Claimant, tried: Collection[float]) -> bool:
    """Whether a run has the claim of such a try, with which nothing was begun."""
    owner = snapshot.worker_instance_id, snapshot.slot
    return owner == (claimant.instance_id, claimant.slot) and snapshot.start_time in tried


async def release_claim(
    runs: RunStore, run_id: str, claimant: Claimant, tried: Collection[float]
) -> None:
    """Give a run back that the claimant may have claimed without having learned of it.

    A claim of those tries counts as no attempt.

    Raises:
        UnreadableSnapshot: What is stored under the run's id is no snapshot.
        BridgeError: NATS refused or could not be asked.
    """

    def rule(snapshot: RunSnapshot) -> tuple[RunSnapshot | None, None]:
        if (snapshot.worker_instance_id, snapshot.slot) != (claimant.instance_id, claimant.slot):
            return None, None
        released = life.release(
            snapshot,
            instance_id=claimant.instance_id,
            attempt=snapshot.attempt,
            now=runs.now(),
            counts=not _is_tried(snapshot, claimant, tried),
        )
        return released.snapshot, None

    with suppress(RunNotFound):
        await runs.change(run_id, rule)
