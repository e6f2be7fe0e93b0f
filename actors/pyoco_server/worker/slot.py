"""One worker slot: claims a run, has its child execute it, writes what happens, ends it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import structlog
import trio

from pyoco_server.jetstream.consumer import Message
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import Actor, ActorRef
from pyoco_server.model import life
from pyoco_server.model.dead_letter import DeadLetterReason
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.run import RunStatus, UnreadableSnapshot
from pyoco_server.store.dead_letters import DeadLetterOffice
from pyoco_server.store.runs import RunStore
from pyoco_server.worker.attempt import Attempt, Ending
from pyoco_server.worker.child import Said, SlotChild
from pyoco_server.worker.claiming import Claimant, Withdrawn, claim_run
from pyoco_server.worker.events import AttemptEvents
from pyoco_server.worker.messages import (
    Assign,
    CancelAttempt,
    LastRun,
    Refresh,
    Report,
    SlotChanged,
    SlotFree,
)
from pyoco_server.worker.runner.handle import Exited, RunnerOptions, RunnerProcess
from pyoco_server.worker.runner.protocol import (
    CancelRun,
    ChildMessage,
    Execute,
    Finished,
    FlowStarted,
    Output,
    Ready,
    TaskChanged,
)

log = structlog.get_logger(__name__)

# Changes of tasks are written together: a flow of many short tasks would else write more than it works.
_GATHER_SECONDS = 0.05
_NAK_DELAY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class SlotSettings:
    """What a slot needs to know.

    Attributes:
        claimant: Who claims.
        runner: How its child is started.
        work_dir: Where each run gets a folder of its own.
        ack_progress_interval: Seconds between two "in progress" acks of a job.
        heartbeat_interval: Seconds between two heartbeats of a run.
        cancel_grace_period: Seconds that a cancelled flow has to end by itself.
        dead_letter_errors: Whether a flow that raises leaves a dead letter.
    """

    claimant: Claimant
    runner: RunnerOptions
    work_dir: Path
    ack_progress_interval: float
    heartbeat_interval: float
    cancel_grace_period: float
    dead_letter_errors: bool


@dataclass(frozen=True, slots=True)
class _WriteDue:
    """Time to write the progress of an attempt."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class _Beat:
    """Time for the heartbeat of an attempt."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class _GraceOver:
    """A cancelled flow had its time."""

    attempt: Attempt


_Timer = _WriteDue | _Beat | _GraceOver
SlotMessage = Assign | CancelAttempt | Refresh | Report | Said | _Timer


class Slot(Actor[SlotMessage]):
    """Executes one run at a time in a warm child process.

    A child that dies takes its attempt along, never the slot: it ends FAILED and a fresh child takes
    the next run. A child that dies without a run, or does not start, crashes the slot, so that its
    supervisor decides.
    """

    def __init__(
        self,
        settings: SlotSettings,
        runs: RunStore,
        dead_letters: DeadLetterOffice,
        *,
        dispatcher: ActorRef[SlotFree],
        heartbeat: ActorRef[SlotChanged],
        events: AttemptEvents,
    ) -> None:
        self._settings = settings
        self._index = settings.claimant.slot
        self._runs = runs
        self._dead_letters = dead_letters
        self._dispatcher = dispatcher
        self._heartbeat = heartbeat
        self._events = events
        name = f"{settings.claimant.instance_id}-{self._index}"
        self._child = SlotChild(settings.runner, settings.work_dir / name, self._listen)
        self._attempt: Attempt | None = None
        self._refresh = False

    async def on_start(self) -> None:
        """Start the child and ask for a job."""
        await self._child.start()
        await self._become_free()

    async def on_stop(self) -> None:
        """Stop the child, and give an unfinished job back to the queue."""
        attempt, self._attempt = self._attempt, None
        await self._child.stop()
        await self._child.remove_folder()
        if attempt is not None:
            attempt.over.set()
            await _give_back(attempt.delivery, 0.0)

    async def handle(self, message: SlotMessage) -> None:
        """Move the attempt in hand on."""
        match message:
            case Assign():
                await self._begin(message)
            case Said(life, event):
                if life == self._child.life:
                    await self._on_child(event)
            case _WriteDue() | _Beat() | _GraceOver():
                if message.attempt is self._attempt:
                    await self._on_timer(message, message.attempt)
            case CancelAttempt(run_id):
                if self._attempt is not None and self._attempt.run_id == run_id:
                    await self._write(self._attempt)
            case Refresh():
                await self._take_fresh_child()
            case Report():
                if self._attempt is None:
                    await self._dispatcher.tell(SlotFree(self._index))
            case _:
                assert_never(message)

    async def _on_timer(self, timer: _Timer, attempt: Attempt) -> None:
        match timer:
            case _WriteDue():
                if attempt.changed:
                    await self._write(attempt)
            case _Beat():
                await self._write(attempt)
            case _GraceOver():
                if attempt.ending is None:
                    log.warning(
                        "cancel did not converge, killing the child",
                        err_id=ErrorId.CANCEL_NOT_CONVERGED,
                        run_id=attempt.run_id,
                    )
                    self._child.kill()
            case _:
                assert_never(timer)

    # The child -----------------------------------------------------------------------------------

    def _listen(self, runner: RunnerProcess, life: int) -> None:
        self.spawn(self._read, runner, life)

    async def _read(self, runner: RunnerProcess, life: int) -> None:
        async for event in runner.events:
            await self._events.take(event, life)
            if not isinstance(event, Output):
                await self.me.tell(Said(life, event))

    async def _take_fresh_child(self) -> None:
        if self._attempt is not None:
            self._refresh = True
            return
        self._refresh = False
        await self._child.replace()
        await self._tell_heartbeat()

    async def _on_child(self, event: ChildMessage | Exited) -> None:
        attempt = self._attempt
        if isinstance(event, Exited):
            await self._on_exit(event)
            return
        if attempt is None or isinstance(event, (Ready, Output)):
            return
        if event.run_id != attempt.run_id or attempt.ending is not None:
            return
        match event:
            case FlowStarted(tasks=tasks):
                attempt.tasks.update(tasks)
                self._changed(attempt)
            case TaskChanged():
                attempt.note(event.name, event.state, event.record)
                self._changed(attempt)
            case Finished():
                attempt.tasks = dict(event.tasks)
                attempt.records = dict(event.task_records)
                await self._end(
                    attempt, Ending(event.status, time.time(), event.error, event.reason)
                )
            case _:
                assert_never(event)

    async def _on_exit(self, exited: Exited) -> None:
        attempt = self._attempt
        if attempt is None:
            raise RuntimeError(
                f"the child of slot {self._index} ended without a run: {exited.text}"
            )
        await self._child.start()
        if attempt.ending is not None:  # it had reported its end before it died
            return
        if attempt.cancel_sent:
            ending = Ending(RunStatus.CANCELLED, time.time())
        else:
            reason = DeadLetterReason.WORKER_CRASHED
            ending = Ending(RunStatus.FAILED, time.time(), f"{reason}: {exited.text}", reason)
        await self._end(attempt, ending)

    # An attempt ----------------------------------------------------------------------------------

    async def _begin(self, assign: Assign) -> None:
        job, delivery = assign.job, assign.delivery
        try:
            await delivery.in_progress()
            claimed = await claim_run(self._runs, job, self._settings.claimant)
        except (BridgeError, UnreadableSnapshot) as error:
            log.warning("run not claimed, giving it back", run_id=job.run_id, reason=str(error))
            await _give_back(delivery, _NAK_DELAY_SECONDS)
            await self._become_free()
            return
        if isinstance(claimed, Withdrawn):
            await self._drop(assign, "the submission was taken back")
            return
        stored, claim = claimed
        match claim:
            case life.Claimed():
                await self._execute(Attempt(self._runs, job, delivery, stored))
            case life.AlreadyTerminal() | life.CancelInstead():
                await self._drop(assign, f"the run is {stored.snapshot.status} already")
            case life.AttemptsUsedUp():
                why = stored.snapshot.error or ""
                await self._dead_letters.write_for(job, DeadLetterReason.MAX_DELIVERIES, why)
                await self._drop(assign, why)
            case _:
                assert_never(claim)

    async def _drop(self, assign: Assign, why: str) -> None:
        log.info("job not executed", run_id=assign.job.run_id, reason=why)
        await _acknowledge(assign.delivery)
        await self._become_free()

    async def _execute(self, attempt: Attempt) -> None:
        self._attempt = attempt
        snapshot = attempt.claim
        self.spawn(self._keep_lease, attempt)
        self.spawn(self._beat, attempt)
        await self._tell_heartbeat()
        self._events.begin(attempt.run_id, snapshot.attempt, self._child.life)
        await self._child.send(
            Execute(
                run_id=attempt.run_id,
                attempt=snapshot.attempt,
                flow_name=attempt.job.flow_name,
                params=attempt.job.params,
                workflow_yaml=attempt.job.workflow_yaml,
                workdir=self._child.make_folder(),
            )
        )

    async def _keep_lease(self, attempt: Attempt) -> None:
        """Keep the job ours; a task of its own, so that nothing the slot waits for delays it."""
        while not attempt.over.is_set():
            with trio.move_on_after(self._settings.ack_progress_interval):
                await attempt.over.wait()
                return
            try:
                await attempt.delivery.in_progress()
            except BridgeError as error:
                log.warning(
                    "in-progress ack failed",
                    err_id=ErrorId.IN_PROGRESS_ACK_FAILED,
                    run_id=attempt.run_id,
                    reason=str(error),
                )

    async def _beat(self, attempt: Attempt) -> None:
        while not attempt.over.is_set():
            with trio.move_on_after(self._settings.heartbeat_interval):
                await attempt.over.wait()
                return
            await self.me.tell(_Beat(attempt))

    def _changed(self, attempt: Attempt) -> None:
        if not attempt.write_planned:
            attempt.write_planned = True
            self.spawn(self._plan_write, attempt)

    async def _plan_write(self, attempt: Attempt) -> None:
        await trio.sleep(_GATHER_SECONDS)
        attempt.write_planned = False
        await self.me.tell(_WriteDue(attempt))

    async def _write(self, attempt: Attempt) -> None:
        """Store the progress, or the end where that could not be stored before."""
        if attempt.ending is not None:
            await self._end(attempt, attempt.ending)
            return
        try:
            held = await attempt.write_progress()
        except BridgeError as error:
            log.info("progress not written yet", run_id=attempt.run_id, reason=str(error))
            return
        if not held:
            await self._walk_away(attempt)
        elif attempt.cancelling and not attempt.cancel_sent:
            attempt.cancel_sent = True
            self.spawn(self._wait_grace, attempt)
            await self._child.send(CancelRun(run_id=attempt.run_id))

    async def _wait_grace(self, attempt: Attempt) -> None:
        with trio.move_on_after(self._settings.cancel_grace_period):
            await attempt.over.wait()
            return
        await self.me.tell(_GraceOver(attempt))

    async def _end(self, attempt: Attempt, ending: Ending) -> None:
        """Store the end, then acknowledge the job; where NATS is away, the next beat tries again."""
        attempt.ending = ending
        try:
            ours = await attempt.write_end(ending)
        except BridgeError as error:
            log.warning(
                "terminal state not recorded yet",
                err_id=ErrorId.TERMINAL_STATE_NOT_RECORDED,
                run_id=attempt.run_id,
                reason=str(error),
            )
            return
        if not ours:
            await self._walk_away(attempt)
            return
        ended = attempt.stored.snapshot
        if ended.status is RunStatus.FAILED:
            await self._bury(attempt, ended.reason, ended.error or "")
        await _acknowledge(attempt.delivery)
        await self._finish(attempt, ended.status)

    async def _bury(self, attempt: Attempt, reason: str | None, error: str) -> None:
        log.error(
            "execution failed",
            err_id=ErrorId.EXECUTION_FAILED,
            run_id=attempt.run_id,
            flow_name=attempt.job.flow_name,
            tag=attempt.job.tag,
            reason=reason,
            error=error,
        )
        letter = DeadLetterReason(reason) if reason else DeadLetterReason.EXECUTION_ERROR
        if letter is not DeadLetterReason.EXECUTION_ERROR or self._settings.dead_letter_errors:
            await self._dead_letters.write_for(
                attempt.job, letter, error, worker_id=self._settings.claimant.worker_id
            )

    async def _walk_away(self, attempt: Attempt) -> None:
        """Another attempt holds the run: stop the child and leave no trace."""
        log.warning(
            "run lost to another attempt", run_id=attempt.run_id, attempt=attempt.claim.attempt
        )
        if attempt.ending is None:
            await self._child.replace()
        await self._finish(attempt, None)

    async def _finish(self, attempt: Attempt, status: RunStatus | None) -> None:
        attempt.over.set()
        self._attempt = None
        await self._child.remove_folder()
        if self._refresh:
            await self._take_fresh_child()
        await self._become_free(
            LastRun(attempt.run_id, status, attempt.claim.start_time, time.time())
        )

    async def _become_free(self, last: LastRun | None = None) -> None:
        await self._tell_heartbeat(last)
        await self._dispatcher.tell(SlotFree(self._index))

    async def _tell_heartbeat(self, last: LastRun | None = None) -> None:
        claim = self._attempt.claim if self._attempt is not None else None
        await self._heartbeat.tell(
            SlotChanged(
                self._index,
                self._child.pid,
                run_id=None if claim is None else claim.run_id,
                attempt=None if claim is None else claim.attempt,
                since=None if claim is None else claim.start_time,
                last=last,
            )
        )


async def _acknowledge(delivery: Message) -> None:
    """Take the job off the queue; unanswered, it comes again and meets a terminal run."""
    try:
        await delivery.ack()
    except BridgeError as error:
        log.info("ack not confirmed, the job may come again", reason=str(error))


async def _give_back(delivery: Message, delay_seconds: float) -> None:
    """Let the queue deliver the job again; unheard, it does so after the ack wait."""
    with trio.move_on_after(1.0):
        try:
            await delivery.nak(delay_seconds)
        except BridgeError as error:
            log.debug("job not given back, it comes again", reason=str(error))
