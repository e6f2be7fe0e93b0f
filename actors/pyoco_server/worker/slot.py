"""One worker slot: takes the jobs that it is assigned and executes one run at a time in its child."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import assert_never

import structlog
import trio

from pyoco_server.kernel import Actor, ActorDown, ActorRef
from pyoco_server.worker import run_log
from pyoco_server.worker.child import SlotChild
from pyoco_server.worker.events import AttemptEvents
from pyoco_server.worker.executor import Executor, NoRoom
from pyoco_server.worker.messages import (
    Assign,
    CancelAttempt,
    CurrentWheels,
    NewWheels,
    Redelivered,
    Refresh,
    Report,
    SlotFree,
    SlotHolds,
    SlotUnfit,
)
from pyoco_server.worker.runner.handle import Exited
from pyoco_server.worker.settling import NAK_DELAY_SECONDS, Settler, put_off
from pyoco_server.worker.slot_board import SlotBoard
from pyoco_server.worker.wheel_set import NO_SETS, WheelSets

log = structlog.get_logger(__name__)

_LOOK_FOR_ROOM_SECONDS = 2.0

SlotMessage = Assign | CancelAttempt | NewWheels | Redelivered | Refresh | Report


class ChildEnded(Exception):
    """A child ended that had executed nothing."""


class Slot(Actor[SlotMessage]):
    """Executes one run after the other in a warm child process; its mailbox is open meanwhile.

    A child that dies takes its attempt along, never the slot: it ends FAILED and a fresh child takes
    the next run. So does one that dies between runs, which may be the doing of the last. A child that dies
    before its first, or does not start, crashes the slot, so that its supervisor decides.

    Args:
        events: Takes what the child says while it has no run.
        dispatcher: Assigns jobs; when the worker stops it goes first.
        wheels: Tells what runs import from; None where there are no wheels.
    """

    def __init__(
        self,
        index: int,
        child: SlotChild,
        executor: Executor,
        settler: Settler,
        *,
        events: AttemptEvents,
        board: SlotBoard,
        dispatcher: ActorRef[SlotFree | SlotUnfit | SlotHolds | Redelivered],
        wheels: ActorRef[CurrentWheels] | None = None,
    ) -> None:
        self._index = index
        self._child = child
        self._executor = executor
        self._settler = settler
        self._events = events
        self._board = board
        self._dispatcher = dispatcher
        self._syncer = wheels
        # None as long as it is not known what to import from; till then it takes no runs.
        self._wheels: WheelSets | None = None
        self._tenant: str | None = None
        # Whether task code changed, so that the next run needs a fresh child.
        self._stale = False
        # Whether the dispatcher may assign a job, and the one that it assigned.
        self._free = False
        self._next: Assign | None = None
        # What waits for the next job; cancelled when there is something to do.
        self._idle = trio.CancelScope()

    async def on_start(self) -> None:
        """Begin to execute jobs."""
        self.spawn(self._executor.keep)
        self.spawn(self._serve)

    async def on_stop(self) -> None:
        """Stop the child, and give an unfinished run back, so that its next attempt can start at once."""
        await self._child.stop()
        await self._executor.let_go()
        if self._next is not None:
            await self._settler.give_back(self._next.job, self._next.delivery, 0.0)
        # Last: it may take longer than there is time.
        await self._child.remove_folder()

    async def handle(self, message: SlotMessage) -> None:
        """Note what is to be done next, or pass it on to the attempt in hand."""
        match message:
            case Assign():
                await self._take(message)
            case CancelAttempt(run_id):
                attempt = self._executor.attempt
                if attempt is not None and attempt.run_id == run_id:
                    attempt.ask_to_cancel()
            case Redelivered():
                await self._on_redelivered(message)
            case NewWheels(sets):
                self._wheels = sets
                self._idle.cancel()
            case Refresh():
                self._stale = True
                self._idle.cancel()
            case Report():
                self._report()
            case _:
                assert_never(message)

    async def _take(self, assign: Assign) -> None:
        if self._free:
            self._free = False
            self._next = assign
            self._idle.cancel()
            return
        # It was meant for the incarnation before this one, which was free.
        await put_off(assign.delivery, 0.0)
        self._report()

    async def _on_redelivered(self, again: Redelivered) -> None:
        """The lease ran out while NATS was away: settle the later delivery in the end."""
        attempt = self._executor.attempt
        held = {each.job.run_id for each in (self._executor.job, self._next) if each is not None}
        if again.job.run_id not in held:
            self._report()  # first, or it would come back
            with suppress(ActorDown):
                await self._dispatcher.tell(again)
        elif (
            attempt is not None
            and attempt.run_id == again.job.run_id
            and attempt.delivery.stream_sequence == again.delivery.stream_sequence
        ):
            attempt.delivery = again.delivery
        else:
            await put_off(again.delivery, NAK_DELAY_SECONDS)

    def _report(self) -> None:
        now = None if self._executor.job is None else self._executor.job.job.run_id
        if self._next is not None:
            self._tell(SlotHolds(self._index, self._next.job.run_id, ending=now))
        elif self._free:
            self._tell(SlotFree(self._index, ending=now))
        elif now is not None:
            self._tell(SlotHolds(self._index, now))
        else:
            self._tell(SlotUnfit(self._index))

    # The way of its runs ---------------------------------------------------------------------------

    async def _serve(self) -> None:
        self._wheels = await self._first_wheels()
        while True:
            try:
                await self._ready_child(self._wheels)
                if self._stale:  # code changed again while the child was made
                    continue
                if self._next is None and not self._free:
                    self._become_free()
                if self._next is None:
                    await self._wait_for_job()
                else:
                    await self._execute(self._next, self._wheels)
            except NoRoom as error:
                await self._rest(str(error))

    async def _first_wheels(self) -> WheelSets:
        # Nothing that stays holds what was current then: it is removed when nobody has it any more.
        if self._syncer is None:
            return NO_SETS
        current = await self._syncer.ask_over_restarts(CurrentWheels())
        # What it was told meanwhile is as new, or newer.
        return self._wheels or current

    async def _ready_child(self, wheels: WheelSets) -> None:
        """What is current for the tenant of the last run is so for the next one's, most likely."""
        stale, self._stale = self._stale, False
        try:
            if stale:
                await self._child.replace(code_changed=True)
            elif self._child.has_died():
                await self._child.replace()
            await self._child.use(wheels.of(self._tenant))
        except OSError as error:
            self._stale = self._stale or stale
            raise NoRoom(f"no process can be made: {error}") from error
        self._board.has_child(self._index, self._child.runner.pid)

    async def _wait_for_job(self) -> None:
        with trio.CancelScope() as self._idle:
            while True:
                await self._events.room()
                event = await self._child.runner.next_event()
                self._events.take(event)
                if isinstance(event, Exited):
                    if self._child.has_died():
                        log.warning("the child has ended between runs", reason=event.text)
                        return
                    self._stale = True
                    if event.no_room:
                        raise NoRoom(event.text)
                    raise ChildEnded(f"slot {self._index} had no run: {event.text}")

    async def _execute(self, assign: Assign, wheels: WheelSets) -> None:
        self._tenant = assign.job.tenant_id
        self._next = None
        await self._executor.execute(assign, wheels.of(self._tenant), self.spawn, self._become_free)
        run_log.close_log()
        if self._next is not None:
            return
        if self._child.is_touched():
            # To remove much takes longer than a job that is assigned meanwhile would stay with the slot.
            self._tell(SlotUnfit(self._index))
            await self._child.remove_folder()
        self._become_free()

    async def _rest(self, reason: str) -> None:
        """Take no runs, and say why, until there is room for one."""
        log.error("no room for runs, taking none", reason=reason)
        run_log.close_log()
        self._free = False
        self._board.rests(self._index, reason)
        self._tell(SlotUnfit(self._index))
        if self._next is not None:
            assign, self._next = self._next, None
            await self._settler.give_back(assign.job, assign.delivery, 0.0)
        while True:
            await trio.sleep(_LOOK_FOR_ROOM_SECONDS)
            # A thread that cannot be started is a RuntimeError.
            with suppress(OSError, RuntimeError):
                await self._child.make_folder()
                threading.Thread(target=int).start()
                return

    def _become_free(self) -> None:
        """Ask for a job; while the end of the one before is stored, so that the next is there behind it."""
        self._free = True
        self._report()

    def _tell(self, message: SlotFree | SlotUnfit | SlotHolds) -> None:
        """Tell at once, with no turn of its own: the dispatcher has room for what all slots have to say."""
        with suppress(ActorDown):  # it is stopping, or stopped
            self._dispatcher.try_tell(message)
