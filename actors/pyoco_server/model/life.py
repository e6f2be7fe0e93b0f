"""The rules of a run's life, as functions from one snapshot to the next.

Whoever writes a snapshot reads the stored one, asks a function here, and writes the answer with
a compare-and-set on the revision it read; when the write is refused, it reads and asks again.
Three promises follow, whoever writes and however late:

- A terminal snapshot never changes again.
- Only the holder of the latest claim moves a run on. A claim is the pair of worker instance and
  attempt number, and each claim raises the attempt number.
- Once CANCELLING is stored, the run can end in CANCELLED only: a cancel that was acknowledged
  is kept, even when the flow completed or failed before it saw the request.

No function here changes its arguments. Times are unix seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import UNSET
from msgspec.structs import replace

from pyoco_server.model.artifact import Artifact, RefusedArtifact
from pyoco_server.model.decisions import (
    Abandonment,
    AlreadyTerminal,
    AttemptsUsedUp,
    CancelInstead,
    CancelRequest,
    CancelRequested,
    Claim,
    Claimed,
    Expired,
    Finish,
    Finished,
    NotYet,
    Progress,
    Progressed,
    RetryLater,
    Spare,
    StillHeld,
    Superseded,
)
from pyoco_server.model.job import Job
from pyoco_server.model.limits import backoff, limits_in
from pyoco_server.model.punctuality import (
    EXPIRED,
    expired_text,
    is_expired,
    waits_until,
    with_lateness,
)
from pyoco_server.model.result import Result
from pyoco_server.model.run import (
    MAX_FAILED_TASKS,
    RunSnapshot,
    RunStatus,
    RunWheel,
    TaskRecord,
    TaskState,
    TryRecord,
    Usage,
    known,
    with_attempt,
)

CANCELLED = "cancelled"
"""The ``reason`` of a run that was cancelled."""

MAX_DELIVERIES = "max_deliveries"
"""The ``reason`` of a run that used up its attempts."""

WORKER_STOPPED = "worker_stopped"
"""The ``reason`` of an attempt whose worker was told to stop before it ended."""

LOST = "lost"
"""The ``reason`` of an attempt that another one took the run from."""

MAX_UNCOUNTED: Final = 100
"""How many attempts of a run do not count at most: that it had no means is also what its own code may say."""

RETRIED_REASONS: Final = frozenset(
    {"execution_error", "timeout", "worker_crashed", "out_of_memory", "cpu_limit"}
)
"""Why an attempt may fail and be followed by another, where the run may have more than one."""

# A delivery that is early by less is on time: clocks differ, and so do the server's timers.
_EARLY_SECONDS: Final = 0.05


def pending(job: Job) -> RunSnapshot:
    """Return the first snapshot of a run.

    It follows from the job alone, so that a worker which got the job has the snapshot as well.
    """
    return RunSnapshot(
        run_id=job.run_id,
        flow_name=job.flow_name,
        status=RunStatus.PENDING,
        tag=job.tag,
        tags=job.tags or [job.tag],
        tenant_id=job.tenant_id,
        api_key_id=job.api_key_id,
        workflow_yaml_sha256=job.workflow_yaml_sha256,
        workflow_yaml_bytes=job.workflow_yaml_bytes,
        params=job.params,
        heartbeat_at=job.submitted_at,
        updated_at=job.submitted_at,
        submitted_at=job.submitted_at,
        **limits_in(job),
        retry_of=job.retry_of,
        request_id=job.request_id,
        scheduled_for=job.scheduled_for,
        expires_at=job.expires_at,
        expected_start_within_sec=job.expected_start_within_sec,
        expected_end_within_sec=job.expected_end_within_sec,
        schedule_id=job.schedule_id,
        scheduled_at=job.scheduled_at,
    )


def job_of_waiting(job: Job, snapshot: RunSnapshot) -> Job:
    """Return the job as the message that is held back until the run may be claimed."""
    return replace(
        job,
        next_attempt_at=snapshot.next_attempt_at,
        scheduled_for=snapshot.scheduled_for,
        expires_at=snapshot.expires_at,
    )


def held_back_until(job: Job) -> float | None:
    """What the message of this job was held back for."""
    return job.next_attempt_at if job.next_attempt_at is not None else known(job.scheduled_for)


def is_job_of(job: Job, snapshot: RunSnapshot) -> bool:
    """Whether the job was queued for this snapshot, and not for one that was taken back.

    A submission that is tried again after it was taken back keeps its run id; its time tells the tries
    apart. A snapshot of pyoco-server 0.5.1 has no such time, and is never taken back.
    """
    return snapshot.submitted_at is None or snapshot.submitted_at == job.submitted_at


def as_submitted(snapshot: RunSnapshot, job: Job) -> RunSnapshot:
    """Return a snapshot with what the run was submitted with, whoever wrote it last.

    A worker of pyoco-server 0.5.1 writes the fields that it knows, and no limits. That it began is an
    attempt.
    """
    if snapshot.submitted_at is not None or job.snapshot_revision is None:
        return snapshot
    asked = pending(job)
    lost = {
        name: getattr(asked, name)
        for name in snapshot.__struct_fields__
        if getattr(snapshot, name) in (None, UNSET)
    }
    begun = snapshot.status is RunStatus.RUNNING and snapshot.attempt == 0
    return replace(snapshot, **lost, attempt=1 if begun else snapshot.attempt)


def owns(snapshot: RunSnapshot, instance_id: str, attempt: int) -> bool:
    """Whether this attempt, of this worker instance, holds the latest claim of the run."""
    return snapshot.worker_instance_id == instance_id and snapshot.attempt == attempt


def claim(
    snapshot: RunSnapshot,
    *,
    worker_id: str,
    instance_id: str,
    slot: int | None,
    now: float,
    wheels: Sequence[RunWheel] = (),
    job_sequence: int | None = None,
    due_at: float | None = None,
    lost: int | None = None,
    respected_sec: float = 0.0,
) -> Claim:
    """Take the run for one more attempt.

    A RUNNING run of another owner is taken over: its job was delivered again, so that owner let
    it go or lost it. The tasks start anew with each attempt, with the ``wheels`` of that moment; tries of
    those that had not succeeded are counted on.

    A job that waits is another message than before, and where a worker dies between storing that one and
    acknowledging the one before, there are two: the one that came first has the run.

    A delivery that is noticed late, by a worker that was paused, is no sign that the owner let the run go:
    the job was delivered to that owner meanwhile.

    Args:
        snapshot: The stored snapshot.
        worker_id: Who claims.
        instance_id: Which process of it.
        slot: Which slot of that.
        now: The time of the claim.
        wheels: What the attempt imports from.
        job_sequence: Which message of the work queue brought the job.
        due_at: What this message was held back for (`held_back_until`): then it is time, whatever the
            clocks say.
        lost: A message that is not in the queue any more, so that nothing but this claim follows it.
        respected_sec: For how many seconds a sign of life of the owner says that it has the run; its job is
            not delivered again as early after it.
    """
    if (refusal := _not_now(snapshot, now, due_at)) is not None:
        return refusal
    if (
        snapshot.status is RunStatus.RUNNING
        and job_sequence is not None
        and snapshot.job_sequence not in (None, job_sequence, lost)
    ):
        return Spare(snapshot)
    if (
        snapshot.status is RunStatus.RUNNING
        and job_sequence is not None
        and snapshot.job_sequence == job_sequence
        and snapshot.worker_instance_id != instance_id
        # Either way: a clock that was set is not to keep others from the run.
        and abs(now - (snapshot.heartbeat_at or 0.0)) < respected_sec
    ):
        return StillHeld(snapshot)
    if snapshot.status is RunStatus.RUNNING and snapshot.attempt > 0:
        snapshot = with_attempt(snapshot, LOST, "another attempt took the run over", now)
    if not _attempts_left(snapshot):
        return AttemptsUsedUp(
            _end(snapshot, RunStatus.FAILED, _used_up(snapshot), MAX_DELIVERIES, now)
        )
    return Claimed(
        replace(
            with_lateness(snapshot, now),
            status=RunStatus.RUNNING,
            attempt=snapshot.attempt + 1,
            worker_id=worker_id,
            worker_instance_id=instance_id,
            slot=slot,
            job_sequence=job_sequence,
            wheels=list(wheels),
            next_attempt_at=None,
            tasks={},
            task_records={},
            task_records_truncated=False,
            start_time=now,
            end_time=None,
            heartbeat_at=now,
            updated_at=now,
            error=None,
            reason=None,
            usage=UNSET,
        )
    )


def _not_now(
    snapshot: RunSnapshot, now: float, due_at: float | None
) -> AlreadyTerminal | CancelInstead | Expired | NotYet | None:
    """Why a run may not be claimed at this time; None where it may."""
    if snapshot.status.terminal:
        return AlreadyTerminal(snapshot)
    if snapshot.status is RunStatus.CANCELLING:
        return CancelInstead(_end(snapshot, RunStatus.CANCELLED, None, CANCELLED, now))
    if is_expired(snapshot, now):
        return Expired(_end(snapshot, RunStatus.FAILED, expired_text(snapshot), EXPIRED, now))
    until = waits_until(snapshot)
    if until is not None and until != due_at and now < until - _EARLY_SECONDS:
        return NotYet(snapshot, until - now)
    return None


def progress(
    snapshot: RunSnapshot,
    *,
    instance_id: str,
    attempt: int,
    tasks: Mapping[str, TaskState],
    task_records: Mapping[str, TaskRecord],
    heartbeat_at: float,
    now: float,
    tries_begun: Mapping[str, Sequence[TryRecord]] | None = None,
) -> Progress:
    """Record how far the attempt is; the status stays, so a cancel request is never lost.

    Args:
        snapshot: The stored snapshot.
        instance_id: The worker instance that reports.
        attempt: Its attempt number.
        tasks: The state of every task so far.
        task_records: What is known of each of them.
        heartbeat_at: When the attempt was last known to be alive.
        now: The time of the write.
        tries_begun: The tries so far of what may be tried again and has not succeeded; those stored when
            ``None``.
    """
    if snapshot.status.terminal:
        return AlreadyTerminal(snapshot)
    if not owns(snapshot, instance_id, attempt):
        return Superseded(snapshot)
    return Progressed(
        replace(
            _with_tries(snapshot, tries_begun),
            tasks=dict(tasks),
            task_records=dict(task_records),
            task_records_truncated=False,
            heartbeat_at=heartbeat_at,
            updated_at=now,
        )
    )


def finish(
    snapshot: RunSnapshot,
    *,
    instance_id: str,
    attempt: int,
    status: RunStatus,
    now: float,
    error: str | None = None,
    reason: str | None = None,
    tasks: Mapping[str, TaskState] | None = None,
    task_records: Mapping[str, TaskRecord] | None = None,
    artifacts: Sequence[Artifact] = (),
    artifacts_refused: Sequence[RefusedArtifact] = (),
    results: Sequence[Result] = (),
    usage: Usage | None = None,
    max_backoff_sec: float = math.inf,
) -> Finish:
    """End the run, or only the attempt, with what the attempt reports.

    Where CANCELLING is stored, the run ends CANCELLED, whatever is reported; what became of each task
    is still told by its record. An attempt that FAILED for one of `RETRIED_REASONS` is followed by
    another, after a wait, as long as ``max_attempts`` allows it.

    An end that is stored already, by a write whose answer was lost, is told as if it were stored now.

    Args:
        snapshot: The stored snapshot.
        instance_id: The worker instance that reports.
        attempt: Its attempt number.
        status: COMPLETED, FAILED or CANCELLED.
        now: The time of the end.
        error: What went wrong, for people.
        reason: Why it ended so, for programs.
        tasks: The last state of every task; those stored when ``None``.
        task_records: What is known of each of them; those stored when ``None``.
        artifacts: What was kept of what the tasks saved; an attempt that another follows has none.
        artifacts_refused: What of it was not kept.
        results: What they returned and is too large for their records.
        usage: What the attempt took; None where that is not known.
        max_backoff_sec: The longest wait before the next attempt.

    Raises:
        ValueError: ``status`` is not terminal.
    """
    if not status.terminal:
        raise ValueError(f"a run ends COMPLETED, FAILED or CANCELLED, not {status}")
    if (settled := _settled(snapshot, instance_id, attempt, now)) is not None:
        return settled
    reported: dict[str, Any] = {}
    if tasks is not None:
        reported["tasks"] = dict(tasks)
    if usage is not None:
        reported["usage"] = usage
    if task_records is not None:
        reported |= {"task_records": dict(task_records), "task_records_truncated": False}
    with_artifacts = replace(
        snapshot,
        **reported,
        artifacts=list(artifacts),
        artifacts_refused=list(artifacts_refused),
        results=list(results),
    )
    if status is RunStatus.CANCELLED:
        return Finished(_end(with_artifacts, status, error, CANCELLED, now))
    if snapshot.status is RunStatus.CANCELLING:
        return Finished(_end(with_artifacts, RunStatus.CANCELLED, None, CANCELLED, now))
    if (
        status is RunStatus.FAILED
        and reason in RETRIED_REASONS
        and snapshot.max_attempts is not None
        and _attempts_left(snapshot)
    ):
        wait = backoff(snapshot.retry_backoff_sec, _counted(snapshot), max_backoff_sec)
        # It ended by itself: the attempt that follows has all tries of its tasks.
        snapshot = replace(snapshot, **reported, tries_begun=UNSET)
        return RetryLater(_again(snapshot, reason, error, now, now + wait), wait)
    return Finished(_end(with_artifacts, status, error, reason, now))


def _settled(
    snapshot: RunSnapshot, instance_id: str, attempt: int, ended_at: float
) -> Finish | None:
    """What there is left to do for an attempt that ended at that time; None where its end is to be stored."""
    if owns(snapshot, instance_id, attempt):
        if not snapshot.status.terminal:
            return None
        ours = snapshot.end_time == ended_at
        return Finished(snapshot) if ours else AlreadyTerminal(snapshot)
    if snapshot.status.terminal:
        return AlreadyTerminal(snapshot)
    last = snapshot.attempts[-1] if snapshot.attempts else None
    ended = last is not None and (last.attempt, last.ended_at) == (attempt, ended_at)
    if ended and snapshot.status is RunStatus.PENDING:
        due = snapshot.next_attempt_at
        return RetryLater(snapshot, 0.0 if due is None else max(0.0, due - ended_at))
    return Superseded(snapshot)


def release(
    snapshot: RunSnapshot,
    *,
    instance_id: str,
    attempt: int,
    now: float,
    reason: str = WORKER_STOPPED,
    error: str = "the worker was stopped before the run had ended",
    counts: bool = True,
    tries_begun: Mapping[str, Sequence[TryRecord]] | None = None,
) -> Finish:
    """Give a run back that its worker cannot finish, because it was told to stop or lacks what that takes.

    The next attempt may start at once, and goes on counting the ``tries_begun`` of tasks. A run that may have
    no further one ends FAILED, and one whose cancel was asked for CANCELLED. An attempt that does not count
    leaves the run as many as it had, `MAX_UNCOUNTED` times.
    """
    if snapshot.status.terminal:
        return AlreadyTerminal(snapshot)
    if not owns(snapshot, instance_id, attempt):
        return Superseded(snapshot)
    if snapshot.status is RunStatus.CANCELLING:
        return Finished(_end(snapshot, RunStatus.CANCELLED, None, CANCELLED, now))
    snapshot = _with_tries(snapshot, tries_begun)
    if not counts:
        uncounted = (snapshot.uncounted_attempts or 0) + 1
        snapshot = replace(snapshot, uncounted_attempts=uncounted)
        if uncounted >= MAX_UNCOUNTED:
            error = f"{error}, as in {uncounted} attempts, which is the most"
            return Finished(_end(snapshot, RunStatus.FAILED, error, MAX_DELIVERIES, now))
    if not _attempts_left(snapshot):
        error = f"{error}, and {_used_up(snapshot)}"
        return Finished(_end(snapshot, RunStatus.FAILED, error, MAX_DELIVERIES, now))
    return RetryLater(_again(snapshot, reason, error, now, None), 0.0)


def request_cancel(
    snapshot: RunSnapshot, *, by: str | None, reason: str | None, now: float
) -> CancelRequest:
    """Ask for the run to be cancelled; the first request is the one that is remembered."""
    if snapshot.status.terminal:
        return AlreadyTerminal(snapshot)
    if snapshot.status is RunStatus.CANCELLING:
        return CancelRequested(snapshot)
    return CancelRequested(
        replace(
            snapshot,
            status=RunStatus.CANCELLING,
            cancel_requested_at=now,
            cancel_requested_by=by,
            cancel_reason=reason,
            updated_at=now,
        )
    )


def abandon(snapshot: RunSnapshot, *, reason: str, error: str, now: float) -> Abandonment:
    """End a run that nobody executes and nobody will.

    So ends a run whose job was withdrawn, used up its deliveries or lost its worker for good:
    CANCELLED where a cancel was asked for, else FAILED with ``reason`` and ``error``.
    """
    if snapshot.status.terminal:
        return AlreadyTerminal(snapshot)
    if snapshot.status is RunStatus.CANCELLING:
        return Finished(_end(snapshot, RunStatus.CANCELLED, None, CANCELLED, now))
    return Finished(_end(snapshot, RunStatus.FAILED, error, reason, now))


def _with_tries(
    snapshot: RunSnapshot, tries_begun: Mapping[str, Sequence[TryRecord]] | None
) -> RunSnapshot:
    if tries_begun is None:
        return snapshot
    begun = {key: list(tries) for key, tries in tries_begun.items()}
    return replace(snapshot, tries_begun=begun or UNSET)


def _attempts_left(snapshot: RunSnapshot) -> bool:
    return snapshot.max_attempts is None or _counted(snapshot) < snapshot.max_attempts


def _counted(snapshot: RunSnapshot) -> int:
    """How many of its attempts were any."""
    return snapshot.attempt - (snapshot.uncounted_attempts or 0)


def _used_up(snapshot: RunSnapshot) -> str:
    return f"the run did not end within {snapshot.max_attempts} attempts, as many as it may have"


def _again(
    snapshot: RunSnapshot, reason: str, error: str | None, now: float, due: float | None
) -> RunSnapshot:
    """The run as it waits for its next attempt: nobody's."""
    return replace(
        with_attempt(snapshot, reason, error, now),
        status=RunStatus.PENDING,
        worker_id=None,
        worker_instance_id=None,
        slot=None,
        next_attempt_at=due,
        tasks={},
        task_records={},
        task_records_truncated=False,
        start_time=None,
        heartbeat_at=now,
        updated_at=now,
        error=error,
        reason=reason,
    )


def _end(
    snapshot: RunSnapshot, status: RunStatus, error: str | None, reason: str | None, now: float
) -> RunSnapshot:
    snapshot = with_lateness(snapshot, now)
    tasks = {name: _last_state(state, status) for name, state in snapshot.tasks.items()}
    failed = [name for name, state in tasks.items() if state is TaskState.FAILED]
    return replace(
        snapshot,
        status=status,
        tasks=tasks,
        failed_tasks=failed[:MAX_FAILED_TASKS],
        task_records={
            name: _last_record(record, tasks.get(name, record.state), now)
            for name, record in snapshot.task_records.items()
        },
        end_time=now,
        next_attempt_at=None,
        heartbeat_at=now,
        updated_at=now,
        error=error,
        reason=reason,
        tries_begun=UNSET,
    )


def _last_state(state: TaskState, status: RunStatus) -> TaskState:
    """What a task is left as when its run ends: none stays RUNNING."""
    if state.terminal:
        return state
    if status is RunStatus.CANCELLED:
        return TaskState.CANCELLED
    # A task that was never started stays PENDING, as in 0.5.1.
    return TaskState.FAILED if state is TaskState.RUNNING else state


def _last_record(record: TaskRecord, state: TaskState, now: float) -> TaskRecord:
    if record.state is state:
        return record
    ended_at = now if state.terminal and record.ended_at is None else record.ended_at
    return replace(record, state=state, ended_at=ended_at)
