"""One worker slot: claims a run, has its child execute it, and sees it to its end."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import assert_never

import structlog
import trio

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import ApiError, BridgeError
from pyoco_server.kernel import Actor, ActorDown, ActorRef
from pyoco_server.model import life
from pyoco_server.model.run import SnapshotTooLarge, UnreadableSnapshot
from pyoco_server.store.runs import RunStore
from pyoco_server.worker import run_log
from pyoco_server.worker.announcing import Announcer
from pyoco_server.worker.artifacts import ArtifactSaver
from pyoco_server.worker.attempt import Attempt, Ending, Stopping
from pyoco_server.worker.child import Said, SlotChild
from pyoco_server.worker.claiming import Withdrawn, claim_run
from pyoco_server.worker.events import AttemptEvents
from pyoco_server.worker.messages import (
    Assign,
    CancelAttempt,
    CurrentWheels,
    LastRun,
    NewWheels,
    Redelivered,
    Refresh,
    Report,
)
from pyoco_server.worker.recorder import Recorded, keep_lease, record
from pyoco_server.worker.runner.handle import Exited, RunnerProcess
from pyoco_server.worker.runner.protocol import (
    ChildMessage,
    Execute,
    Finished,
    FlowStarted,
    Output,
    Ready,
    TaskChanged,
)
from pyoco_server.worker.settling import Settler
from pyoco_server.worker.slot_settings import SlotSettings
from pyoco_server.worker.stopping import Stopper, TimeUp
from pyoco_server.worker.wheel_set import NO_SETS, WheelSets
from pyoco_server.worker.wheel_syncer import current_wheels

log = structlog.get_logger(__name__)

_NAK_DELAY_SECONDS = 2.0
_LOOK_FOR_ROOM_SECONDS = 2.0
# What a stopping slot may take to store what became of its run.
_LAST_WRITE_SECONDS = 3.0


SlotMessage = (
    Assign | CancelAttempt | NewWheels | Recorded | Redelivered | Refresh | Report | Said | TimeUp
)


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
        settler: Settler,
        *,
        connection: Connection,
        announcer: Announcer,
        events: AttemptEvents,
        artifacts: ArtifactSaver,
        wheels: ActorRef[CurrentWheels] | None = None,
    ) -> None:
        self._settings = settings
        self._index = settings.claimant.slot
        self._runs = runs
        self._settler = settler
        self._connection = connection
        self._announcer = announcer
        self._events = events
        folder = settings.work_dir / settings.claimant.instance_id / str(self._index)
        self._child = SlotChild(settings.runner, folder, self._listen)
        self._stopper = Stopper(self._child, settings.cancel_grace_period, self.spawn, self._post)
        self._attempt: Attempt | None = None
        # A job whose run cannot be claimed as long as NATS refuses that.
        self._held: Assign | None = None
        self._refresh = False
        self._artifacts = artifacts
        self._syncer = wheels
        # None as long as it is not known what to import from; till then it takes no runs.
        self._wheels: WheelSets | None = None
        self._tenant: str | None = None

    async def on_start(self) -> None:
        """Start the child, with what the worker's runs import from, and ask for a job."""
        if self._syncer is None:
            await self._take_wheels(NO_SETS)
        else:
            self.spawn(self._learn_wheels, self._syncer)

    async def _learn_wheels(self, syncer: ActorRef[CurrentWheels]) -> None:
        await self.me.tell(NewWheels(await current_wheels(syncer)))

    async def on_stop(self) -> None:
        """Stop the child, and give an unfinished run back, so that its next attempt can start at once."""
        attempt, self._attempt = self._attempt, None
        await self._child.stop()
        if attempt is not None:
            attempt.over.set()
            await self._let_go(attempt)
        if self._held is not None:
            await self._settler.give_back(self._held.job, self._held.delivery, 0.0)
        # Last: it may take longer than there is time.
        await self._child.remove_folder()

    async def _let_go(self, attempt: Attempt) -> None:
        decision: life.Finish | None = None
        with trio.move_on_after(_LAST_WRITE_SECONDS):
            try:
                if attempt.ending is None:
                    decision = await attempt.release()
                else:
                    decision = await attempt.write_end(attempt.ending)
            except (BridgeError, SnapshotTooLarge, UnreadableSnapshot) as error:
                log.warning("run not given back", run_id=attempt.run_id, reason=str(error))
        if decision is None:
            await self._settler.give_back(attempt.job, attempt.delivery, 0.0)
        else:
            await self._settler.settle(attempt, decision)

    async def handle(self, message: SlotMessage) -> None:
        """Move the attempt in hand on."""
        match message:
            case Assign():
                await self._begin(message)
            case Redelivered():
                await self._on_redelivered(message)
            case Said(life, event):
                if life == self._child.life:
                    await self._on_child(event)
            case TimeUp():
                self._stopper.on_time_up(message)
            case CancelAttempt(run_id):
                if self._attempt is not None and self._attempt.run_id == run_id:
                    self._stopper.ask(self._attempt)
            case Recorded(attempt, decision):
                await self._finish(attempt, decision)
            case NewWheels(sets):
                await self._take_wheels(sets)
            case Refresh():
                await self._take_fresh_child()
            case Report():
                await self._report()
            case _:
                assert_never(message)

    # The child -----------------------------------------------------------------------------------

    def _listen(self, runner: RunnerProcess, life: int) -> None:
        self.spawn(self._read, runner, life)

    async def _read(self, runner: RunnerProcess, life: int) -> None:
        run_log.close_log()  # it outlives the run at whose end the child was started
        async for event in runner.events:
            await self._events.take(event, life)
            if not isinstance(event, Output):
                await self._post(Said(life, event))

    async def _post(self, message: SlotMessage) -> None:
        """For the slot's own tasks; what they say while the slot stops is looked after by `on_stop`."""
        with suppress(ActorDown):
            await self.me.tell(message)

    async def _take_wheels(self, sets: WheelSets) -> None:
        """A run goes on with what it began with; the next one, whosever it is, gets the new ones."""
        first = self._wheels is None
        if self._wheels is not None and sets.generation <= self._wheels.generation:
            return
        self._wheels = sets
        if self._attempt is None:
            await self._use_wheels()
            if first:
                await self._become_free()
            else:
                await self._tell_heartbeat()

    async def _use_wheels(self) -> None:
        """Have the child import from what is current for the tenant of the last run."""
        if self._wheels is not None:
            await self._child.use(self._wheels.of(self._tenant))

    async def _take_fresh_child(self) -> None:
        if self._wheels is None:
            return  # it has no child yet
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
        if event.run_id != attempt.run_id or attempt.concluded:
            return
        match event:
            case FlowStarted(tasks=tasks):
                attempt.note(tasks, {})
            case TaskChanged():
                attempt.note({event.name: event.state}, {event.name: event.record})
            case Finished():
                attempt.note(event.tasks, event.task_records)
                ending = Ending(event.status, time.time(), event.error, event.reason)
                self._conclude(attempt, self._stopper.ending_of_finished(attempt, ending))
            case _:
                assert_never(event)

    async def _on_exit(self, exited: Exited) -> None:
        attempt = self._attempt
        if attempt is None:
            raise RuntimeError(
                f"the child of slot {self._index} ended without a run: {exited.text}"
            )
        await self._child.start()
        self._refresh = False
        self._conclude(attempt, self._stopper.ending_of_exit(attempt, exited))

    def _conclude(self, attempt: Attempt, ending: Ending) -> None:
        """The flow has ended: keep what it saved, then have the end stored."""
        if not attempt.concluded:
            self._artifacts.conclude(attempt, ending, self._child.folder, self.spawn)

    # An attempt ----------------------------------------------------------------------------------

    async def _begin(self, assign: Assign) -> None:
        job, delivery = assign.job, assign.delivery
        if self._wheels is None or self._attempt is not None or self._held not in (None, assign):
            # It was meant for the incarnation before this one, which was free.
            await self._settler.put_off(delivery, 0.0)
            await self._report()
            return
        self._held = None
        run_log.open_log(job, self._settings.claimant)
        wheels = self._wheels.of(job.tenant_id)
        try:
            self._child.make_folder()
        except OSError as error:
            await self._begin_later(assign, error)
            return
        try:
            await delivery.in_progress()
            first = delivery.num_delivered == 1
            claimed = await claim_run(
                self._runs, job, self._settings.claimant, first=first, wheels=wheels.wheels
            )
        except ApiError as error:
            self._hold(assign, error)
            return
        except (BridgeError, UnreadableSnapshot, SnapshotTooLarge) as error:
            log.warning("run not claimed, giving it back", run_id=job.run_id, reason=str(error))
            await self._settler.give_back(job, delivery, _NAK_DELAY_SECONDS)
            await self._become_free()
            return
        if isinstance(claimed, Withdrawn):
            await self._drop(assign, "the submission was taken back")
            return
        stored, claim = claimed
        match claim:
            case life.Claimed():
                await self._execute(
                    Attempt(self._runs, job, delivery, stored, self._settings.max_backoff)
                )
            case life.NotYet(_, wait):
                await self._settler.give_back(job, delivery, wait)
                await self._become_free()
            case life.AlreadyTerminal() | life.CancelInstead():
                await self._drop(assign, f"the run is {stored.snapshot.status} already")
            case life.AttemptsUsedUp(snapshot):
                await self._settler.bury(job, snapshot)
                await self._drop(assign, snapshot.error or "")
            case _:
                assert_never(claim)

    def _hold(self, assign: Assign, why: ApiError) -> None:
        """NATS is there and stores nothing: keep the job, since its deliveries are counted."""
        log.warning("run not claimed, trying again", reason=str(why))
        run_log.close_log()
        self._held = assign
        self.spawn(self._begin_again, assign)

    async def _begin_again(self, assign: Assign) -> None:
        run_log.close_log()
        await trio.sleep(_NAK_DELAY_SECONDS)
        await self._post(assign)

    async def _begin_later(self, assign: Assign, why: OSError) -> None:
        """Leave a run that has no room here to other workers, and take no other before there is."""
        log.error("no folder for the run, giving it back", reason=str(why))
        await self._settler.give_back(assign.job, assign.delivery, _NAK_DELAY_SECONDS)
        run_log.close_log()
        await self._announcer.unfit()
        self.spawn(self._look_for_room)

    async def _look_for_room(self) -> None:
        run_log.close_log()
        while True:
            await trio.sleep(_LOOK_FOR_ROOM_SECONDS)
            with suppress(OSError):
                self._child.make_folder()
                break
        log.info("there is room for runs again")
        await self._post(Report())

    async def _on_redelivered(self, again: Redelivered) -> None:
        """The lease ran out while NATS was away: settle the later delivery in the end."""
        attempt = self._attempt
        if self._held is not None and self._held.job.run_id == again.job.run_id:
            await self._settler.put_off(again.delivery, _NAK_DELAY_SECONDS)
        elif attempt is None or attempt.run_id != again.job.run_id:
            await self._announcer.pass_back(again)
        elif attempt.delivery.stream_sequence == again.delivery.stream_sequence:
            attempt.delivery = again.delivery
        else:
            await self._settler.put_off(again.delivery, _NAK_DELAY_SECONDS)

    async def _drop(self, assign: Assign, why: str) -> None:
        log.info("job not executed", run_id=assign.job.run_id, reason=why)
        await self._settler.acknowledge(assign.delivery)
        await self._become_free()

    async def _execute(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._tenant = attempt.job.tenant_id
        snapshot = attempt.claim
        self.spawn(keep_lease, attempt, self._settings.ack_progress_interval, self._connection)
        self.spawn(record, attempt, self._settings.heartbeat_interval, self._post, self._connection)
        self._stopper.limit(attempt)
        run_log.tell_start(snapshot)
        await self._use_wheels()
        await self._tell_heartbeat()
        self._events.begin(attempt.run_id, snapshot.attempt, self._child.life)
        self._child.tell(
            Execute(
                run_id=attempt.run_id,
                attempt=snapshot.attempt,
                flow_name=attempt.job.flow_name,
                params=attempt.job.params,
                workflow_yaml=attempt.job.workflow_yaml,
                env=run_log.variables(attempt.job),
                workdir=str(self._child.folder),
            ),
            self.spawn,
        )

    async def _finish(self, attempt: Attempt, decision: life.Finish) -> None:
        """The end is stored, or not ours to store: settle the job and be free."""
        if attempt is not self._attempt:
            return
        if attempt.ending is None or attempt.stopping >= Stopping.TERMINATED:
            # It executes still, or has to do with a signal that was not meant for the next run.
            await self._child.replace()
            self._refresh = False
        await self._settler.settle(attempt, decision)
        run_log.tell_end(attempt.claim, decision)
        attempt.over.set()
        self._attempt = None
        if not isinstance(decision, life.Finished):
            self._artifacts.give_up(attempt, self.spawn)
        await self._child.remove_folder()
        if self._refresh:
            await self._take_fresh_child()
        await self._use_wheels()
        ended = isinstance(decision, life.Finished)
        await self._become_free(
            LastRun(
                attempt.run_id,
                decision.snapshot.status if ended else None,
                attempt.claim.start_time,
                time.time(),
            )
        )

    # Being free ----------------------------------------------------------------------------------

    async def _report(self) -> None:
        holder = self._attempt or self._held
        if holder is not None:
            await self._announcer.holds(holder.job.run_id)
        elif self._wheels is None:
            await self._announcer.unfit()
        else:
            await self._announcer.free()

    async def _become_free(self, last: LastRun | None = None) -> None:
        run_log.close_log()
        await self._tell_heartbeat(last)
        await self._announcer.free()

    async def _tell_heartbeat(self, last: LastRun | None = None) -> None:
        claim = self._attempt.claim if self._attempt is not None else None
        await self._announcer.changed(self._child.pid, claim, last)
