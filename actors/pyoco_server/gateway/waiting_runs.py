"""Runs that have not started: finding their jobs, and changing when they may start and until when."""

from __future__ import annotations

import structlog
import trio
from msgspec import UNSET

from pyoco_server.gateway.new_run import CannotWait
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import Refusal
from pyoco_server.model import life
from pyoco_server.model.errors import InvalidField
from pyoco_server.model.job import InvalidJob, decode_job
from pyoco_server.model.punctuality import has_started, is_expired, moved, state_of
from pyoco_server.model.run import RunSnapshot, RunState, SnapshotTooLarge, known
from pyoco_server.model.timing import Timing
from pyoco_server.store.queue import JobQueue, QueuedJob
from pyoco_server.store.runs import RunStore, StoredRun

log = structlog.get_logger(__name__)

_FOLLOW_SECONDS = 5.0


class RunHasStarted(Refusal):
    """The run cannot be moved any more."""

    def __init__(self, state: RunState) -> None:
        super().__init__(
            f"the run is {state}: only one that has not started can be given another time"
        )
        self.state = state


class MoveNotStored(Refusal):
    """NATS could not be asked; the run is not moved."""


async def find_job(queue: JobQueue, stored: StoredRun) -> QueuedJob | None:
    """The job of a run that no worker has; it may be missed where clocks differ by much.

    Raises:
        BridgeError: NATS could not be asked.
    """
    run = stored.snapshot
    tag = run.tag or ""
    if run.attempt or run.scheduled_for is not UNSET:
        held_back = await queue.find_delayed(run.run_id, tag)
        if held_back is not None:
            return held_back
    queued_at = _queued_at(stored)
    return None if queued_at is None else await queue.find(run.run_id, tag, queued_at=queued_at)


def _queued_at(stored: StoredRun) -> float | None:
    """A moment shortly before the run's job was queued, in unix seconds, as exactly as it is known."""
    run = stored.snapshot
    if not has_started(run) and run.scheduled_for is not UNSET:
        return known(run.scheduled_for)
    if not has_started(run) and run.updated_at == run.submitted_at:
        return stored.stored_at
    return run.submitted_at


async def move_run(runs: RunStore, queue: JobQueue, run_id: str, timing: Timing) -> RunSnapshot:
    """Change when a run that has not started may start, or until when; return it as it then is.

    The snapshot decides: a worker that has the job already meets the new time when it claims. Cancelled,
    the run may or may not be moved, and starts at one of both times. What of ``timing`` is not set stays.

    Raises:
        RunNotFound: There is no such run.
        UnreadableSnapshot: What is stored is none.
        InvalidField: It would expire before it may start.
        RunHasStarted: It has started, or ended, or may not start any more.
        CannotWait: It is to start later, and the server cannot hold it back.
        MoveNotStored: NATS could not be asked.
    """
    try:
        await runs.learn_time()
        before = await runs.get(run_id)
        now = runs.now()
        if timing.due(now) is not None and not await queue.can_hold_back():
            raise CannotWait

        def rule(run: RunSnapshot) -> tuple[RunSnapshot | None, bool]:
            if has_started(run) or is_expired(run, now):
                return None, False
            return _moved(run, timing, now), True

        stored, movable = await runs.change(run_id, rule, known=before)
    except (BridgeError, SnapshotTooLarge) as error:
        raise MoveNotStored(str(error)) from None
    if not movable:
        raise RunHasStarted(state_of(stored.snapshot, now))
    if stored.snapshot.scheduled_for != before.snapshot.scheduled_for:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _FOLLOW_SECONDS):
            try:
                await _follow(queue, before, stored.snapshot, now)
            except BridgeError as error:
                # Too early it is held back by whoever takes it, too late by the timekeeper.
                log.warning("job not moved yet", run_id=run_id, reason=str(error))
    return stored.snapshot


async def _follow(queue: JobQueue, before: StoredRun, run: RunSnapshot, now: float) -> None:
    """Move the job of a run after it."""
    due = known(run.scheduled_for) or 0.0
    found = await find_job(queue, before)
    # Where there is none, a worker has it, which holds it back should it come too early.
    if found is not None and (found.delayed or due > now):
        await hold_back(queue, found, run)
        if not found.delayed:
            await queue.remove(found.sequence)


async def hold_back(queue: JobQueue, found: QueuedJob, run: RunSnapshot) -> None:
    """Have the job of a run queued when the run may start.

    Raises:
        BridgeError: NATS refused or could not be asked.
    """
    try:
        job = decode_job(found.data)
    except InvalidJob as error:
        log.warning("job not moved", run_id=run.run_id, reason=str(error))
        return
    await queue.put_at(life.job_of_waiting(job, run), known(run.scheduled_for) or 0.0)


def _moved(run: RunSnapshot, timing: Timing, now: float) -> RunSnapshot:
    """The run with what changes of its times.

    Raises:
        InvalidField: It would expire before it may start.
    """
    if timing.start_at is None and timing.delay_sec is None:
        due = None
        may_start = max(known(run.scheduled_for) or now, now)
    else:
        due = may_start = timing.due(now) or now
    expires_at = timing.expires_at
    if timing.queue_ttl_sec is not None:
        expires_at = may_start + timing.queue_ttl_sec
    until = known(run.expires_at) if expires_at is None else expires_at
    if until is not None and until <= may_start and may_start > now:
        field = "start_at" if expires_at is None else "expires_at"
        raise InvalidField(field, "the run would expire before it may start: move both")
    return moved(run, due=due, expires_at=expires_at, now=now)
