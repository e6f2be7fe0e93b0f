"""A job's way through a slot: claim the run, have the child execute it, store the end, settle the job."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Never, assert_never

import structlog
import trio

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import ApiError, BridgeError, Unanswered, Unavailable
from pyoco_server.model import decisions, life
from pyoco_server.model.dead_letter import DeadLetterReason
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.job import Job
from pyoco_server.model.run import RunStatus, SnapshotTooLarge, UnreadableSnapshot
from pyoco_server.settings import Settings
from pyoco_server.store.runs import StoredRun
from pyoco_server.store.stores import Stores
from pyoco_server.store.threads import in_thread
from pyoco_server.worker import run_log
from pyoco_server.worker.artifacts import ArtifactSaver
from pyoco_server.worker.attempt import Attempt, Ending
from pyoco_server.worker.child import SlotChild
from pyoco_server.worker.claiming import Claimant, claim_run, release_claim
from pyoco_server.worker.events import AttemptEvents
from pyoco_server.worker.housekeeper import end_what_dead_workers_left
from pyoco_server.worker.messages import Assign
from pyoco_server.worker.recorder import GATHER_SECONDS, holds, keep, reconnected, store_end
from pyoco_server.worker.resource_watch import MIB, TERMINATE_SECONDS, Bounds, ResourceWatch
from pyoco_server.worker.runner.handle import Exited, Spawn
from pyoco_server.worker.runner.meter import oom_kills
from pyoco_server.worker.runner.protocol import (
    CancelRun,
    Execute,
    FlowFinished,
    FlowStarted,
    Output,
    ProgressMade,
    Ready,
    TaskChanged,
    TriesTold,
    TryStored,
)
from pyoco_server.worker.settling import NAK_DELAY_SECONDS, Settler
from pyoco_server.worker.slot_board import SlotBoard
from pyoco_server.worker.wheel_set import WheelSet

log = structlog.get_logger(__name__)

_OOM_ASK_SECONDS = 1.0
# What a stopping slot may take to store what became of its run.
_LAST_WRITE_SECONDS = 3.0


NO_THREADS: Final = "no_threads"
"""The ``reason`` of an attempt for which the machine had no thread left."""

_NOTHING_LEFT: Final = "the worker had no threads or processes left"


class NoRoom(Exception):
    """The run was left to others, since it can have no folder, process or thread here; the text says why."""


class Executor:
    """Executes one job after the other in the child of a slot.

    Attributes:
        job: The one in hand, from its being taken to its being settled.
        attempt: What executes it, once its run is claimed.
    """

    def __init__(
        self,
        settings: Settings,
        claimant: Claimant,
        child: SlotChild,
        board: SlotBoard,
        stores: Stores,
        connection: Connection,
        *,
        settler: Settler,
        events: AttemptEvents,
    ) -> None:
        self._settings = settings
        self._claimant = claimant
        self._child = child
        self._board = board
        self._runs = stores.runs
        self._queue = stores.queue
        self._artifacts = ArtifactSaver(stores.artifacts, connection, settings)
        self._connection = connection
        self._settler = settler
        self._events = events
        # Whether the child has ended, or has to do with what was meant for the run in hand only.
        self._spent = False
        self.job: Assign | None = None
        # When the job in hand was tried to be claimed.
        self._tried: set[float] = set()
        self.attempt: Attempt | None = None
        self._begun = trio.lowlevel.ParkingLot()
        # How many processes the kernel had killed for want of memory when the attempt began, or a moment
        # before: to ask takes as long as a tenth of a short run.
        self._oom_kills, self._oom_asked = 0, -math.inf

    async def execute(
        self, assign: Assign, wheels: WheelSet, spawn: Spawn, ahead: Callable[[], None]
    ) -> None:
        """See a job to its end.

        Cancelled, or when it raises, the job stays in hand for `let_go`.

        Args:
            assign: The job.
            wheels: What it imports from.
            spawn: Runs what is to be done beside it.
            ahead: Called where the run has succeeded and its end is only to be stored: the child is fit for
                the next one at once.

        Raises:
            NoRoom: The run has no room here, and went back to the queue.
        """
        self.job, self._tried = assign, set()
        run_log.open_log(assign.job, self._claimant)
        await self._take_room(assign, wheels)
        asked = trio.current_time()
        claimed = await self._claim(assign, wheels)
        if claimed is None:
            self.job = None
            return
        attempt = self.attempt = Attempt(
            self._runs,
            assign.job,
            assign.delivery,
            claimed,
            max_backoff=self._settings.retry_backoff_max_sec,
        )
        self._begun.unpark_all()
        run_log.tell_start(attempt.claim)
        self._board.begins(attempt.claim, self._child.runner.pid)
        if any(each.reason == life.LOST for each in attempt.claim.attempts[-1:]):
            # The one before may have been of a worker that was killed here.
            await in_thread(end_what_dead_workers_left, self._child.folder.parents[1])
        ending = (
            await self._watched(attempt, spawn) if await self._is_held(attempt, asked) else None
        )
        if ending is not None and ending.reason == NO_THREADS:
            log.warning("no room for a run", run_id=attempt.run_id, reason=ending.error)
            await self._give_back(attempt)
            raise NoRoom(_NOTHING_LEFT)  # everybody reads it: no text of the run's own
        decision: decisions.Finish = decisions.Superseded(attempt.stored.snapshot)
        if ending is not None:
            if attempt.saved_by_name or self._child.is_touched():
                await self._artifacts.keep(attempt, ending, self._child.folder)
            elif ending.status is RunStatus.COMPLETED and not self._spent:
                ahead()
            attempt.end(ending)
            decision = await store_end(attempt, ending, self._connection)
        await self._settler.settle(attempt, decision)
        await self._close(attempt, decision)

    async def _close(self, attempt: Attempt, decision: decisions.Finish) -> None:
        """Be done with an attempt whose job is settled, and ready for the next one."""
        attempt.close()
        if self._spent:
            # Where no process is left, the next run gets one when there is again.
            with suppress(OSError):
                await self._child.replace()
            self._spent = False
        if not isinstance(decision, decisions.Finished):
            await self._artifacts.drop(attempt)
        now = self._runs.now()
        run_log.tell_end(attempt.claim, decision, now)
        self._board.ends(attempt.claim, decision, now)
        self.job = self.attempt = None

    async def keep(self) -> Never:
        """Keep each attempt that is not over at once, for as long as it takes; beside `execute`."""
        while True:
            attempt = self.attempt
            if attempt is None or attempt.is_over():
                await self._begun.park()
                continue
            with trio.move_on_after(GATHER_SECONDS):
                await attempt.urgent.wait()
            if self.attempt is attempt and not attempt.is_over():
                await keep(attempt, self._settings, self._connection)

    # Before --------------------------------------------------------------------------------------

    async def _take_room(self, assign: Assign, wheels: WheelSet) -> None:
        """Have a folder and a child, before the run is claimed."""
        try:
            await self._child.make_folder()
            bounds = Bounds.of(assign.job, self._settings)
            memory_bytes = None if bounds is None else bounds.memory_bytes
            await self._child.use(wheels, assign.job, memory_bytes)
        except OSError as error:
            await self._settler.give_back(assign.job, assign.delivery, NAK_DELAY_SECONDS)
            self.job = None
            raise NoRoom(str(error)) from error

    async def _give_back(self, attempt: Attempt) -> None:
        """Leave a run of which nothing was executed to another attempt, however long NATS is away."""
        while True:
            epoch = self._connection.epoch
            try:
                decision = await attempt.release(
                    NO_THREADS,
                    f"{_NOTHING_LEFT}, and nothing was executed",
                    counts=False,
                )
                break
            except BridgeError as error:
                # Without it whoever gets the job finds the claim of an attempt, which would count.
                log.warning("run not given back yet", run_id=attempt.run_id, reason=str(error))
                await reconnected(self._connection, epoch, within=NAK_DELAY_SECONDS)
        await self._settler.settle(attempt, decision)
        await self._close(attempt, decision)

    async def _claim(self, assign: Assign, wheels: WheelSet) -> StoredRun | None:
        """Claim the run; None where there is nothing to execute, and the job is seen to."""
        job, delivery = assign.job, assign.delivery
        while True:
            epoch = self._connection.epoch
            try:
                claimed = await claim_run(
                    self._runs,
                    self._queue,
                    job,
                    delivery,
                    self._claimant,
                    tried=self._tried,
                    wheels=wheels.wheels,
                    respected_sec=self._settings.owner_respected_sec,
                )
                break
            except (BridgeError, UnreadableSnapshot, SnapshotTooLarge) as error:
                unheard = isinstance(error, Unanswered | Unavailable) and self._tried
                if unheard or isinstance(error, ApiError):
                    # Keep the job: the claim may be stored, and with whoever gets the job next it would count
                    # as an attempt; or NATS stores nothing, and deliveries are counted.
                    log.warning("run not claimed, trying again", reason=str(error))
                    await reconnected(self._connection, epoch, within=NAK_DELAY_SECONDS)
                    with suppress(BridgeError):
                        await delivery.in_progress()
                    continue
                log.warning("run not claimed, giving it back", run_id=job.run_id, reason=str(error))
                await self._settler.give_back(job, delivery, NAK_DELAY_SECONDS)
                return None
        if claimed is None:
            _drop(assign, "the submission was taken back")
            return None
        stored, claim = claimed
        match claim:
            case decisions.Claimed():
                return stored
            case decisions.NotYet(snapshot, wait):
                waiting = life.job_of_waiting(job, snapshot)
                await self._settler.give_back(waiting, delivery, wait, held_back=True)
            case decisions.AlreadyTerminal() | decisions.CancelInstead() | decisions.Spare():
                if stored.snapshot.status is RunStatus.FAILED and delivery.num_delivered > 1:
                    # Whoever stored that may have gone before its letter was written.
                    await self._settler.write_letter(job, stored.snapshot)
                _drop(assign, f"the run is {stored.snapshot.status} already")
            case decisions.StillHeld(snapshot):
                # Its owner answers for the job: acknowledged it would be lost with that owner, and given back
                # it would come to yet another worker.
                log.info("old delivery of a run that another worker has", owner=snapshot.worker_id)
            case decisions.AttemptsUsedUp(snapshot) | decisions.Expired(snapshot):
                await self._settler.bury(job, snapshot)
                _drop(assign, snapshot.error or "")
            case _:
                assert_never(claim)
        return None

    async def _is_held(self, attempt: Attempt, claimed_at: float) -> bool:
        """Whether the run is this attempt's still, before anything of it is executed.

        It is asked for where so much time has gone by since the claim that another worker may have it: this
        one may have been stopped, or have waited for a machine that is very busy.
        """
        while (now := trio.current_time()) - claimed_at > self._settings.owner_respected_sec:
            claimed_at = now
            if not await holds(attempt):
                attempt.lose()
                break
        return not attempt.lost

    # Executing -----------------------------------------------------------------------------------

    async def _watched(self, attempt: Attempt, spawn: Spawn) -> Ending | None:
        """The same as `_run`, with what the run may take of the machine watched where that has a limit."""
        bounds = Bounds.of(attempt.claim, self._settings)
        if bounds is None:
            return await self._run(attempt, spawn)
        watch = ResourceWatch(bounds, self._child.runner, self._child.group)
        spawn(watch.keep)
        ending = await self._run(attempt, spawn)
        self._spent = self._spent or watch.breached
        return watch.judge(ending)

    async def _run(self, attempt: Attempt, spawn: Spawn) -> Ending | None:
        """Have the child execute the attempt; a cancel or its time limit stop it, step by step.

        Returns:
            How it ended; None where the run is another attempt's by now, and the child executes still.
        """
        limit = math.inf if attempt.claim.timeout_sec is None else attempt.claim.timeout_sec
        grace = self._settings.cancel_grace_period_sec
        self._events.begin(attempt.run_id, attempt.claim.attempt)
        attempt.on_try_stored = lambda key: self._child.runner.tell(
            TryStored(run_id=attempt.run_id, key=key), spawn
        )
        if (now := trio.current_time()) - self._oom_asked > _OOM_ASK_SECONDS:
            self._oom_kills, self._oom_asked = oom_kills(), now
        self._child.runner.tell(_request(attempt, self._child.folder), spawn)
        end: FlowFinished | Exited | None = None
        with attempt.interruptible(limit):
            end = await self._end_of(attempt)
        cancelled = end is None and attempt.cancel_asked
        if cancelled and not attempt.lost:
            self._child.runner.tell(CancelRun(run_id=attempt.run_id), spawn)
            with attempt.interruptible(grace, asked=True):
                end = await self._end_of(attempt)
        if end is None and attempt.lost:
            self._spent = True
            return None
        if end is not None:
            self._note_wear(end, attempt.job)
            out_of_memory = (
                isinstance(end, Exited)
                and end.signal == "SIGKILL"
                and oom_kills() > self._oom_kills
            )
            self._oom_asked = -math.inf if out_of_memory else self._oom_asked
            return _reported(
                end, self._runs.now(), cancelled=cancelled, out_of_memory=out_of_memory
            )
        if cancelled:
            log.warning(
                "cancel did not converge within the grace period, terminating the child",
                err_id=ErrorId.CANCEL_NOT_CONVERGED,
                run_id=attempt.run_id,
            )
        else:
            log.warning("attempt timed out, terminating the child", run_id=attempt.run_id)
        end, how = await self._stop(attempt)
        if isinstance(end, FlowFinished) and end.status is RunStatus.COMPLETED:
            return _reported(end, self._runs.now())
        if cancelled:
            error = f"{how}: the flow did not end within {grace:g} s of its cancel"
            return Ending(RunStatus.CANCELLED, self._runs.now(), error, usage=end.usage)
        error = f"timeout: the attempt did not end within {limit:g} s and was {how}"
        reason = DeadLetterReason.TIMEOUT
        return Ending(RunStatus.FAILED, self._runs.now(), error, reason, end.usage)

    def _note_wear(self, end: FlowFinished | Exited, job: Job) -> None:
        """Look at what the run did to the child beyond its end."""
        if isinstance(end, Exited):
            return
        if end.bound:
            self._child.bind(job)
        if end.worn is not None:
            log.info("the child is replaced: the run left something of its own", left=end.worn)
        if end.worn is not None or self._settings.worker_fresh_child == "always":
            self._spent = True

    async def _stop(self, attempt: Attempt) -> tuple[FlowFinished | Exited, str]:
        """Stop the child; return how it ended, and how it was stopped."""
        self._spent = True  # the signal is not meant for the next run
        self._child.runner.terminate()
        with trio.move_on_after(TERMINATE_SECONDS):
            return await self._end_of(attempt), "terminated (SIGTERM)"
        self._child.runner.kill()
        return await self._end_of(attempt), "killed (SIGKILL)"

    async def _end_of(self, attempt: Attempt) -> FlowFinished | Exited:
        """Take in what the child says of the attempt up to its end. Cancelling it loses nothing."""
        while True:
            await self._events.room()
            event = await self._child.runner.next_event()
            self._events.take(event)
            match event:
                case Exited():
                    self._spent = True
                    return event
                case Ready() | Output():
                    pass
                case _ if event.run_id != attempt.run_id:
                    pass
                case FlowStarted(tasks=tasks):
                    attempt.note(tasks, {})
                case TaskChanged():
                    attempt.note({event.name: event.record.state}, {event.name: event.record})
                case TriesTold(key=key, tries=tries, begins=begins):
                    attempt.note_tries(key, tries, begins=begins)
                case ProgressMade(progress=progress):
                    attempt.note_progress(progress)
                case FlowFinished():
                    attempt.note(event.tasks, event.task_records)
                    return event
                case _:
                    assert_never(event)

    # Stopping ------------------------------------------------------------------------------------

    async def let_go(self) -> None:
        """Give back what is in hand, so that its next attempt can start at once; its child is stopped."""
        assign, attempt, self.job, self.attempt = self.job, self.attempt, None, None
        if assign is None:
            return
        decision: decisions.Finish | None = None
        with trio.move_on_after(_LAST_WRITE_SECONDS):
            try:
                if attempt is None:
                    await release_claim(self._runs, assign.job.run_id, self._claimant, self._tried)
                elif attempt.ending is None:
                    decision = await attempt.release()
                else:
                    decision = await attempt.write_end(attempt.ending)
            except (BridgeError, SnapshotTooLarge, UnreadableSnapshot) as error:
                log.warning("run not given back", run_id=assign.job.run_id, reason=str(error))
        if attempt is None or decision is None:
            await self._settler.give_back(assign.job, assign.delivery, 0.0)
        else:
            await self._settler.settle(attempt, decision)


def _drop(assign: Assign, why: str) -> None:
    log.info("job not executed", run_id=assign.job.run_id, reason=why)
    assign.delivery.ack_soon()


def _request(attempt: Attempt, folder: Path) -> Execute:
    return Execute(
        run_id=attempt.run_id,
        attempt=attempt.claim.attempt,
        flow_name=attempt.job.flow_name,
        params=attempt.job.params,
        workflow_yaml=attempt.job.workflow_yaml,
        env=run_log.variables(attempt.job),
        workdir=str(folder),
        tries_before={key: tuple(tries) for key, tries in attempt.tries_begun.items()},
    )


def _reported(
    end: FlowFinished | Exited, at: float, *, cancelled: bool = False, out_of_memory: bool = False
) -> Ending:
    if isinstance(end, FlowFinished):
        return Ending(end.status, at, end.error, end.reason, end.usage)
    if cancelled:
        return Ending(RunStatus.CANCELLED, at, end.text, usage=end.usage)
    if end.no_room:
        return Ending(RunStatus.FAILED, at, end.text, NO_THREADS)
    reason, how = DeadLetterReason.WORKER_CRASHED, end.text
    if out_of_memory:
        reason = DeadLetterReason.OUT_OF_MEMORY
        how += ", for the machine or its container had no memory left"
        if (peak := end.usage.peak_memory_bytes) is not None:
            how += f"; it had {peak / MIB:.0f} MB at most"
    return Ending(RunStatus.FAILED, at, f"{reason}: {how}", reason, end.usage)
