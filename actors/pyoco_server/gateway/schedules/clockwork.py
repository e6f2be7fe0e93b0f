"""The clockwork of schedules: each tick gets what its schedule says, once, whichever gateway sees to it.

JetStream says when (`jetstream.wakeups`), and hands each wake-up to one gateway. That one looks at the
schedule's record, submits what is due under ids and keys that follow from the ticks, writes down by
compare-and-set what became of them, asks to be woken for the next tick, and only then acknowledges. Killed
between any two of these steps, it leaves a wake-up that comes again, and another one does the same once more:
with no effect where it was done, by the keys and the compare-and-set.

A wake-up that is lost for good, because a gateway was killed before it had asked for it, is made up for by
`keep_time`, a few seconds later. With a server that holds nothing back (before 2.12) that is all there is.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import structlog
import trio

from pyoco_server.gateway.schedules.board import ScheduleBoard
from pyoco_server.gateway.schedules.runs import ScheduleRuns
from pyoco_server.jetstream import wakeups
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import Message
from pyoco_server.jetstream.errors import BridgeError, NotFound
from pyoco_server.kernel import Refusal
from pyoco_server.model.schedules import rules
from pyoco_server.model.schedules.schedule import Overlap, Schedule, TickRecord, UnreadableSchedule
from pyoco_server.store.schedules import ScheduleStore, StoredSchedule

log = structlog.get_logger(__name__)

Settled = Callable[[Schedule, list[TickRecord], float], None]
"""Told a schedule, what became of its ticks, and when."""

_TOGETHER = 64
_BATCH = 256
_LINGER_SECONDS = 20.0
_RETRY_SECONDS = 1.0
_TRIES = 20
# Longer than a look takes; below the time after which a wake-up comes again.
_LOOK_SECONDS = 25.0


class Scheduler:
    """Sees to schedules whose time has come; several of them, one in each gateway, share the work.

    Args:
        settled: Told what became of ticks.
        patience: For how many seconds others may see to a schedule that is due, before this one does unasked.
    """

    def __init__(
        self,
        connection: Connection,
        store: ScheduleStore,
        board: ScheduleBoard,
        runs: ScheduleRuns,
        settled: Settled,
        *,
        patience: float = 4.0,
    ) -> None:
        self._connection = connection
        self._store = store
        self._board = board
        self._runs = runs
        self._settled = settled
        # Gateways should not all do it at the same moment.
        self._patience = patience * random.uniform(1.0, 2.0)  # noqa: S311
        self._server_keeps_time = True
        self._asked_on = -1

    async def take(self) -> None:
        """Take wake-ups for as long as it is not cancelled."""
        room = trio.Semaphore(_TOGETHER)
        consumer = wakeups.open_wakeups(self._connection)
        async with trio.open_nursery() as nursery:
            while True:
                await self._board.some()
                try:
                    messages = await consumer.fetch(1, expires=_LINGER_SECONDS)
                    if messages:
                        messages += await consumer.fetch(_BATCH, expires=0)
                except NotFound:
                    await self._ensure_consumer()
                    continue
                except BridgeError as error:
                    log.debug("wake-ups not taken", reason=str(error))
                    await trio.sleep(_RETRY_SECONDS)
                    continue
                for message in messages:
                    await room.acquire()
                    nursery.start_soon(self._on_wake, message, room)

    async def keep_time(self) -> None:
        """Look at what is due and nobody has seen to, for as long as it is not cancelled."""
        while True:
            await self._board.some()
            if not self._connection.status.connected:
                await self._connection.changed()
                continue
            if not await self._ask_for_time():
                await trio.sleep(_RETRY_SECONDS)
                continue
            wake = self._board.next_wake()
            patience = self._patience if self._server_keeps_time else 0.0
            wait = 3600.0 if wake is None else wake[0] + patience - self._connection.clock.now()
            if wake is None or wait > 0:
                with trio.move_on_after(wait):
                    await self._board.changed()
                continue
            if not await self._look_safely(wake[1]) or self._board.next_wake() == wake:
                await trio.sleep(_RETRY_SECONDS)

    async def look(self, key: str, *, at_least: float = 0.0) -> StoredSchedule | None:
        """See to what is due of a schedule; return it as it is then, None where there is none.

        Args:
            key: Which.
            at_least: A moment that is over by the server's clock, in unix seconds.

        Raises:
            Refusal: Not all could be done; it is to be tried again.
            BridgeError: The same.
            UnreadableSchedule: What is stored is none.
        """
        submitted: dict[int, TickRecord] = {}
        for _ in range(_TRIES):
            stored = await self._store.get(key)
            if stored is None:
                return None
            schedule = stored.schedule
            now = max(await self._store.now(), at_least)
            if schedule.paused and not submitted:
                self._board.note(stored)
                return stored
            what = rules.due(schedule, now)
            if schedule.paused:
                what = rules.Due((), None, schedule.progress.cursor)
            alive: list[str] = list(schedule.progress.active)
            if not (what.ticks or what.missed or submitted):
                await self._aim(stored)
                return stored
            if what.ticks and schedule.spec.overlap is not Overlap.ALLOW:
                alive = await self._runs.going_on(alive)
            decision = rules.decide(schedule, what, now, alive=bool(alive))
            if decision.cancel:
                await self._runs.cancel(schedule, alive)
            for tick in decision.start:
                if tick not in submitted:
                    submitted[tick] = await self._runs.submit(schedule, tick, now=now)
            after = rules.written_down(schedule, decision, now, active=alive, submitted=submitted)
            if after.progress == schedule.progress:
                return stored
            written = await self._store.update(stored, after)
            if written is not None:
                done = [*decision.settled, *submitted.values()]
                self._settled(after, done, self._connection.clock.now())
                await self._aim(written)
                return written
        raise Refusal(f"schedule {key} is written by others all the time")

    async def _aim(self, stored: StoredSchedule) -> None:
        """Have the schedule looked at when it is due next."""
        self._board.note(stored)
        wake_at = stored.schedule.progress.wake_at
        if wake_at is not None and await self._ask_for_time() and self._server_keeps_time:
            await wakeups.wake(self._connection, stored.schedule.key, wake_at)

    async def aim(self, stored: StoredSchedule) -> None:
        """The same for one that was just written; where it fails, `keep_time` makes up for it."""
        try:
            await self._aim(stored)
        except BridgeError as error:
            log.info("no wake-up yet", schedule_id=stored.schedule.schedule_id, reason=str(error))

    async def _on_wake(self, message: Message, room: trio.Semaphore) -> None:
        try:
            key = wakeups.woken(message.subject)
            if await self._look_safely(key, at_least=message.delivery.timestamp):
                message.ack_soon()
            else:
                await message.nak(_RETRY_SECONDS)
        except BridgeError as error:
            log.debug("wake-up not given back", reason=str(error))
        finally:
            room.release()

    async def _look_safely(self, key: str, *, at_least: float = 0.0) -> bool:
        """Whether a schedule was seen to."""
        with trio.move_on_after(_LOOK_SECONDS):
            try:
                await self.look(key, at_least=at_least)
            except UnreadableSchedule as error:
                log.warning("unreadable schedule", key=key, reason=str(error))
                return True
            except (BridgeError, Refusal) as error:
                log.info("schedule to be looked at again", key=key, reason=str(error))
                return False
            return True
        return False

    async def _ask_for_time(self) -> bool:
        """Learn once a connection whether the server keeps the time, and what time it is."""
        epoch = self._connection.epoch
        if epoch == self._asked_on:
            return True
        try:
            keeps = await wakeups.keeps_time(self._connection)
        except BridgeError as error:
            log.debug("time not asked", reason=str(error))
            return False
        if not keeps and self._server_keeps_time:
            log.warning(
                "the NATS server holds no messages back (it is older than 2.12): "
                "gateways keep the time of schedules themselves"
            )
        self._server_keeps_time = keeps
        self._asked_on = epoch
        return True

    async def _ensure_consumer(self) -> None:
        try:
            await wakeups.ensure_wakeups(self._connection)
        except BridgeError as error:
            log.debug("no consumer of wake-ups yet", reason=str(error))
            await trio.sleep(_RETRY_SECONDS)
