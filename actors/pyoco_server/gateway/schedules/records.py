"""The records of schedules for people: each change by compare-and-set against ticks and other changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final, TypeVar

import trio

from pyoco_server.gateway.new_run import Person, RunTooLarge
from pyoco_server.gateway.schedules.alarm import Alarm
from pyoco_server.gateway.schedules.board import ScheduleBoard
from pyoco_server.gateway.schedules.rounds import Rounds
from pyoco_server.gateway.schedules.runs import NotComputed
from pyoco_server.jetstream.errors import BridgeError, PayloadTooLarge
from pyoco_server.kernel import Refusal
from pyoco_server.model.errors import NO_THREAD, InvalidField
from pyoco_server.model.schedules.schedule import (
    Schedule,
    UnreadableSchedule,
    check_schedule_id,
    storage_key,
)
from pyoco_server.model.schedules.ticks import NotATiming, on_the_way
from pyoco_server.store.schedules import ScheduleStore, StoredSchedule
from pyoco_server.store.threads import no_thread_is

A = TypeVar("A")

TRIES: Final = 20
# A recurrence rule may take a second or two to be computed, and several at once longer.
_READ_SECONDS: Final = 5.0
_COMPUTED_AT_ONCE: Final = 4


class ScheduleNotFound(Refusal):
    """There is no such schedule that the asker may see."""

    def __init__(self, schedule_id: str) -> None:
        super().__init__(f"schedule {schedule_id} not found")
        self.schedule_id = schedule_id


class ScheduleChanged(Refusal):
    """The schedule has another version than the asker knows."""


class SchedulesUnavailable(Refusal):
    """NATS could not be asked."""


class TakesTooLong(NotComputed):
    """It was not computed in time."""


class ScheduleRecords:
    """Reads and changes schedules in the task of whoever asks.

    Each call raises `SchedulesUnavailable` where NATS cannot be asked, `RunTooLarge` where it does not take
    what is to be written, and `NotComputed` where there is no time. Cancelled, it may or may not be done.
    """

    def __init__(
        self, store: ScheduleStore, board: ScheduleBoard, rounds: Rounds, alarm: Alarm
    ) -> None:
        self._store = store
        self._board = board
        self._rounds = rounds
        self._alarm = alarm
        self._room = trio.CapacityLimiter(_COMPUTED_AT_ONCE)

    async def now(self) -> float:
        """The server's time."""
        with asking():
            return await self._store.now()

    async def get(self, schedule_id: str, who: Person) -> StoredSchedule:
        """A schedule as it is now.

        Raises:
            ScheduleNotFound: There is none that the asker may see.
        """
        key = storage_key(who.tenant_id, schedule_id)
        if who.tenant_id is None and self._board.get(key) is None:
            # Without keys everybody sees everything.
            for schedule in self._board.all(lambda s: s.schedule_id == schedule_id):
                key = schedule.key
        try:
            check_schedule_id(schedule_id)
            with asking():
                stored = await self._store.get(key)
        except InvalidField:
            stored = None
        if stored is None:
            raise ScheduleNotFound(schedule_id)
        return stored

    async def change(
        self,
        schedule_id: str,
        who: Person,
        change: Callable[[Schedule, float], Schedule],
        version: int | None = None,
        *,
        in_thread: bool = True,
    ) -> Schedule:
        """Change a schedule; what is due before that still goes by what it was.

        ``change`` makes of the schedule and the time what it is to be, where it has the ``version`` or is
        that by now; in a thread, unless it computes no ticks.

        Raises:
            ScheduleNotFound: There is none that the asker may see.
            ScheduleChanged: It has another version, and would become another one.
            NotATiming: Its times cannot be computed, neither before nor behind that.
        """
        for _ in range(TRIES):
            stored = await self.get(schedule_id, who)
            with asking():
                # What is due by now goes by what the schedule was, and what is due later by what it becomes.
                now = await self._store.now()
                # Where that cannot be said, a change may mend it.
                with suppress(NotATiming):
                    stored = await self._rounds.look(stored.schedule.key, now) or stored
                changed = partial(change, stored.schedule, now)
                after = await self.computed(changed) if in_thread else changed()
                if after == stored.schedule:
                    # Whatever the version: it may be sent again, because an answer was lost.
                    return after
                if version not in (None, stored.schedule.version):
                    raise ScheduleChanged(
                        f"the schedule has version {stored.schedule.version}, not {version}"
                    )
                written = await self._store.update(stored, after)
                if written is not None:
                    await self._alarm.set_soon(written)
                    return written.schedule
        raise SchedulesUnavailable("the schedule is changed by others all the time")

    async def note(
        self,
        schedule_id: str,
        who: Person,
        change: Callable[[Schedule, float], Schedule],
        *,
        in_thread: bool = True,
    ) -> None:
        """Write into a schedule what was done with it; what was done stays done where that fails."""
        with suppress(Refusal):
            await self.change(schedule_id, who, change, in_thread=in_thread)

    async def computed(self, compute: Callable[[], A]) -> A:
        """What is computed in a thread: recurrence rules may take seconds.

        Cancelled, or where it takes too long, it gets no further than to its next tick.

        Raises:
            TakesTooLong: It does.
            NotComputed: It had no turn, since others do, or no thread.
        """
        begun = False

        def begin() -> A:
            nonlocal begun
            begun = True
            on_the_way.set(trio.from_thread.check_cancelled)
            return compute()

        with trio.move_on_after(_READ_SECONDS), no_thread_is(NotComputed(NO_THREAD)):
            return await trio.to_thread.run_sync(begin, abandon_on_cancel=True, limiter=self._room)
        if begun:
            raise TakesTooLong("takes too long to be computed")
        raise NotComputed("others that take long are computed at the moment")


@contextmanager
def asking() -> Iterator[None]:
    """Refuse, where NATS cannot be asked in the block, or does not take what is to be written."""
    try:
        yield
    except PayloadTooLarge as error:
        raise RunTooLarge(str(error)) from None
    except (BridgeError, UnreadableSchedule) as error:
        raise SchedulesUnavailable(str(error)) from None
